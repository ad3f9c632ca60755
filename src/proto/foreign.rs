//! Other protocols, known by their first bytes: who comes with them is told what is here, in one
//! line, and sent away. Nothing that a person types to MMS begins so.

use std::fmt;

/// The first byte of a connection of any version of TLS: a record of the handshake.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// Another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// TLS: a ClientHello.
    Tls,
    /// HTTP, or another protocol with its request lines.
    Http,
    /// SMTP: a greeting.
    Smtp,
    /// SSH: its version line.
    Ssh,
    /// There is a NUL, which no text has.
    Binary,
}

impl Foreign {
    /// Its name, for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Smtp => "SMTP",
            Self::Ssh => "SSH",
            Self::Binary => "no text",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "this is MMS, and this port speaks no TLS; connect without it, goodbye",
            Self::Http => "this is MMS, and no web server; use telnet or mms client, goodbye",
            Self::Smtp => "this is MMS, and no mail server; use telnet or mms client, goodbye",
            Self::Ssh => "this is MMS, and no SSH server; use telnet or mms client, goodbye",
            Self::Binary => "this is MMS, which takes lines of text; use telnet, goodbye",
        })
    }
}

/// The words that begin a request of HTTP.
const METHODS: [&[u8]; 10] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"PRI",
];

/// Protocols with request lines as HTTP has them: for video, and for calls.
const LIKE_HTTP: [&[u8]; 3] = [b"HTTP/", b"RTSP/", b"SIP/"];

fn is_version(word: &[u8]) -> bool {
    LIKE_HTTP.iter().any(|name| word.starts_with(name))
}

/// What the first bytes of a connection are, if they alone tell: these protocols have no lines.
#[must_use]
pub fn by_bytes(first: &[u8]) -> Option<Foreign> {
    match first {
        // A handshake record of any version of TLS.
        [TLS_HANDSHAKE, 3, ..] => Some(Foreign::Tls),
        _ => {
            let end = memchr::memchr(b'\n', first).unwrap_or(first.len());
            let line = &first[..end];
            // CR NUL is how telnet ends a line.
            let holds_nul = memchr::memchr_iter(0, line).any(|at| at == 0 || line[at - 1] != b'\r');
            holds_nul.then_some(Foreign::Binary)
        }
    }
}

/// What the first line of a connection is, without its end.
#[must_use]
pub fn by_line(first: &[u8]) -> Option<Foreign> {
    if first.starts_with(b"SSH-") {
        return Some(Foreign::Ssh);
    }
    let mut words = first.split(|&b| b == b' ');
    let (verb, second) = (words.next()?, words.next());
    let version = words.next();
    if METHODS.contains(&verb) && version.is_some_and(is_version) {
        return Some(Foreign::Http);
    }
    let greets = verb.eq_ignore_ascii_case(b"EHLO") || verb.eq_ignore_ascii_case(b"HELO");
    (greets && second.is_some()).then_some(Foreign::Smtp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_known_by_how_they_begin() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        assert_eq!(by_bytes(&hello), Some(Foreign::Tls));
        assert_eq!(by_bytes(&hello[..2]), Some(Foreign::Tls));
        assert_eq!(by_bytes(&hello[..1]), None, "one byte is not enough");
        assert_eq!(by_bytes(&[0; 9]), Some(Foreign::Binary));
        // What port scanners try: RPC, RDP, X11, LDAP, Java.
        for probe in [
            &b"\x80\0\0\x28\x72\xfe"[..],
            b"\x03\0\0\x0b\x06\xe0",
            b"l\0\x0b\0",
            b"0\x0c\x02\x01\x01`\x07\x02\x01\x02\x04\0\x80\0",
            b"JRMI\0\x02K",
        ] {
            assert_eq!(by_bytes(probe), Some(Foreign::Binary), "{probe:?}");
        }
        for (line, what) in [
            ("GET / HTTP/1.1", Foreign::Http),
            ("OPTIONS * HTTP/1.0", Foreign::Http),
            ("PRI * HTTP/2.0", Foreign::Http),
            ("OPTIONS / RTSP/1.0", Foreign::Http),
            ("OPTIONS sip:nm SIP/2.0", Foreign::Http),
            ("EHLO mail.example.org", Foreign::Smtp),
            ("helo x", Foreign::Smtp),
            ("SSH-2.0-OpenSSH_9.9", Foreign::Ssh),
        ] {
            assert_eq!(by_line(line.as_bytes()), Some(what), "{line}");
        }
    }

    #[test]
    fn what_a_person_may_type_is_nobody_elses() {
        for line in [
            "",
            " ",
            "signin fred",
            "get",
            "GET",
            "get / HTTP/1.1",
            "GET /",
            "GET  / HTTP/1.1",
            "help",
            "helo",
            "ehlo",
            "hello there",
            "post HTTP/1.1",
            "ssh",
            "coded 1",
            "/signin x",
            " GET / HTTP/1.1",
        ] {
            assert_eq!(by_line(line.as_bytes()), None, "{line}");
            assert_eq!(by_bytes(line.as_bytes()), None, "{line}");
        }
        // Telnet's options, and a Ctrl-V typed by mistake.
        assert_eq!(by_bytes(&[255, 251, 31]), None);
        assert_eq!(by_bytes(&[0x16, b's']), None);
        // A line as telnet ends it in character mode, and what stands behind the first line.
        assert_eq!(by_bytes(b"signin fred fred1\r\0help\r\0"), None);
        assert_eq!(by_bytes(b"help\na\0b"), None);
    }
}
