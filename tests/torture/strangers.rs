//! Who comes to the wrong door: browsers, TLS clients, mail servers, port scanners. Each is told
//! in a line what is here, and sent away.

use crate::campaign::{Skip, Tally};
use crate::support::rng::Rng;
use crate::support::server::{Server, eventually};
use std::io::Write as _;
use std::net::Shutdown;

/// First bytes of other protocols, by name.
pub fn others() -> Vec<(&'static str, Vec<u8>)> {
    let mut tls = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03".to_vec();
    tls.extend([0x5a; 242]);
    let browser = "GET / HTTP/1.1\r\nHost: localhost:1060\r\nUser-Agent: Mozilla/5.0\r\n\
                   Accept: text/html\r\nAccept-Language: en\r\nConnection: keep-alive\r\n\r\n";
    [
        ("a browser", browser.as_bytes()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
        ("a web form", b"POST /login HTTP/1.0\r\nContent-Length: 3\r\n\r\na=b"),
        ("TLS", &tls),
        ("TLS, two bytes", b"\x16\x03"),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("a mail server", b"EHLO mail.example.org\r\nMAIL FROM:<a@b>\r\n"),
        ("nmap: GetRequest", b"GET / HTTP/1.0\r\n\r\n"),
        ("nmap: HTTPOptions", b"OPTIONS / HTTP/1.0\r\n\r\n"),
        ("nmap: RTSPRequest", b"OPTIONS / RTSP/1.0\r\n\r\n"),
        ("nmap: RPCCheck", b"\x80\0\0\x28\x72\xfe\x1d\x13\0\0\0\0\0\0\0\x02\0\x01\x86\xa0"),
        (
            "nmap: DNSVersionBindReqTCP",
            b"\0\x1e\0\x06\x01\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0",
        ),
        ("nmap: SMBProgNeg", b"\0\0\0\xa4\xffSMBr\0\0\0\0\x08\x01@\0\0\0\0\0\0"),
        ("nmap: X11Probe", b"l\0\x0b\0\0\0\0\0\0\0\0\0"),
        ("nmap: LDAPBindReq", b"0\x0c\x02\x01\x01`\x07\x02\x01\x02\x04\0\x80\0"),
        ("nmap: TerminalServer", b"\x03\0\0\x0b\x06\xe0\0\0\0\0\0"),
        ("nmap: SIPOptions", b"OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/TCP nm\r\n\r\n"),
        ("nmap: JavaRMI", b"JRMI\0\x02K"),
        ("a database", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("MQTT", b"\x10\x0c\0\x04MQTT\x04\x02\0<\0\0"),
    ]
    .map(|(name, bytes)| (name, bytes.to_vec()))
    .into()
}

/// How a stranger's bytes come.
#[derive(Clone, Copy)]
enum Pieces {
    Whole,
    Bytes,
}

/// What the server says until it closes, which it must do by itself.
fn answer(server: &Server, bytes: &[u8], pieces: Pieces) -> Vec<String> {
    let mut client = server.connect();
    match pieces {
        Pieces::Whole => _ = client.stream.write_all(bytes),
        // It may be sent away before the last one.
        Pieces::Bytes => {
            _ = bytes.iter().try_for_each(|byte| client.stream.write_all(&[*byte]));
        }
    }
    client.rest()
}

fn dismissed(server: &Server) -> usize {
    server.log().matches("[security] other-protocol from").count()
}

/// Each of the others, so many times, whole and byte by byte; then noise.
pub fn foreign(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let server = Server::start(&["fred"], &[]);
    let mut rng = Rng::from_env(11);
    let mut longest = 0;
    for _ in 0..count {
        for (name, bytes) in others() {
            for pieces in [Pieces::Whole, Pieces::Bytes] {
                let told = answer(&server, &bytes, pieces);
                let [welcome, usage, goodbye] = &told[..] else {
                    tally.unexpected(format!("{name}: {told:?}"));
                    continue;
                };
                longest = longest.max(welcome.len() + usage.len() + goodbye.len() + 6);
                let is_so = goodbye.starts_with(">> this is MMS") && goodbye.ends_with("goodbye");
                tally.holds(is_so, || format!("{name}: {goodbye}"));
                tally.cycles += 1;
            }
        }
    }
    eventually("the log", || (dismissed(&server) >= tally.cycles).then_some(()));
    let logged = dismissed(&server);
    tally.holds(logged == tally.cycles, || format!("{logged} lines of the log"));
    for _ in 0..10 * count {
        let mut noise = vec![0; rng.below(8000)];
        rng.fill(&mut noise);
        let mut client = server.connect();
        _ = client.stream.write_all(&noise);
        _ = client.stream.shutdown(Shutdown::Write);
        let told = client.rest();
        tally.holds(told.len() < 40, || format!("{} lines for noise", told.len()));
    }
    tally.notes.push(format!("{longest} bytes at most, the greeting included"));
    Ok(())
}
