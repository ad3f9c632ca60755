//! Talking over TLS: with openssl, in pieces, in one record, and with the commands.

use super::{GREETING, Peer, client, raw, rest_of, start, tls_port};
use crate::support::server::{PASSWORD, mms, run};
use mms::limits;
use rustls::AlertDescription;
use std::io::Write as _;
use std::process::{Command, Stdio};

#[test]
fn openssls_client_signs_in_and_talks() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let server = start(&["fred", "tim"]);
    let mut tim = server.signed_in("tim");
    for version in ["-tls1_3", "-tls1_2"] {
        let mut openssl = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                version,
                "-verify_return_error",
                "-CAfile",
                "spool/tls.pem",
            ])
            .args(["-verify_hostname", "localhost", "-connect", &tls_port(&server).to_string()])
            .current_dir(server.folder.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut typed = openssl.stdin.take().unwrap();
        writeln!(typed, "signin fred {PASSWORD}\nsend tim hi from {version}").unwrap();
        tim.expect(&format!(">> fred: hi from {version}"));
        tim.say("send fred hello");
        tim.expect("sent to fred");
        writeln!(typed, "signout").unwrap();
        let output = openssl.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with(&GREETING.join("\r\n")), "{text} {told}");
        assert!(text.contains(">> message sent to tim\r\n"), "{text}");
        assert!(text.ends_with(">> Thank you for using MMS!\r\n"), "{text}");
    }
}

#[test]
fn both_versions_of_tls_and_no_older_one() {
    let server = start(&["fred"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut fred = Peer::over(raw(&server), client(&server, &[version]));
        assert_eq!([fred.line(), fred.line()], GREETING);
        fred.sign_in("fred");
        fred.sign_out();
    }
    // A greeting of TLS 1.0 alone.
    let mut old = raw(&server);
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 47, 1, 0]);
    old.write_all(&hello).unwrap();
    let answer = rest_of(old);
    assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "a fatal alert: {answer:?}");
}

#[test]
fn an_older_client_whose_exports_would_not_be_its_own_is_refused() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let server = start(&["fred"]);
    let folder = &server.folder;
    folder.write("with.cnf", "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n");
    let without = folder.read("with.cnf") + "Options = -ExtendedMasterSecret\n";
    folder.write("without.cnf", &without);
    let greeted = |config: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-connect", &tls_port(&server).to_string()])
            .env("OPENSSL_CONF", folder.path(config))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("Cipher is ECDHE")
    };
    assert!(greeted("with.cnf"));
    assert!(!greeted("without.cnf"));
    server.logs("no TLS with 127.0.0.1: ");
}

#[test]
fn what_comes_in_pieces_is_the_same() {
    let server = start(&["fred"]);
    let mut tls = client(&server, rustls::ALL_VERSIONS);
    let mut socket = raw(&server);
    while tls.is_handshaking() {
        let mut sealed = vec![];
        while tls.wants_write() {
            tls.write_tls(&mut sealed).unwrap();
        }
        sealed.iter().for_each(|byte| socket.write_all(&[*byte]).unwrap());
        if tls.is_handshaking() {
            tls.read_tls(&mut socket).unwrap();
            tls.process_new_packets().unwrap();
        }
    }
    let mut fred = Peer::over(socket, tls);
    assert_eq!([fred.line(), fred.line()], GREETING);
    let sealed = fred.seal(&format!("signin fred {PASSWORD}\r\nwhoison\r\n"));
    for byte in sealed {
        fred.socket.write_all(&[byte]).unwrap();
    }
    fred.expect("Welcome fred");
    fred.expect("User fred is online");
}

#[test]
fn of_a_record_that_was_changed_on_the_way_the_client_is_told() {
    let server = start(&["fred", "tim"]);
    let mut fred = Peer::signed_in(&server, "fred");
    let mut sealed = fred.seal("send tim hi\r\n");
    *sealed.last_mut().unwrap() ^= 1;
    fred.socket.write_all(&sealed).unwrap();
    let told = loop {
        assert_ne!(fred.tls.read_tls(&mut fred.socket).unwrap(), 0, "nothing was told");
        if let Err(e) = fred.tls.process_new_packets() {
            break e;
        }
    };
    assert_eq!(told, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    server.logs("fred signed off");
    let mut tim = Peer::signed_in(&server, "tim");
    assert_eq!(tim.ask("whoelse"), ">> Nobody else is online", "and nothing came to him");
}

#[test]
fn many_lines_of_one_record_are_all_answered() {
    let server = start(&["fred", "tim"]);
    let mut fred = Peer::signed_in(&server, "fred");
    // Far more than a turn's share, and nothing comes behind it that would wake anybody up.
    let count = 40 * limits::COMMANDS_A_TURN;
    fred.send(&"whoelse\n".repeat(count));
    for _ in 0..count {
        assert_eq!(fred.line(), ">> Nobody else is online");
    }
    // Before the sign-in less is read at once than a record may have.
    let mut tim = Peer::connect(&server);
    tim.send(&format!("{}signin tim {PASSWORD}\nwhoelse\n", "\n".repeat(900)));
    tim.expect("Welcome tim");
    tim.expect("User fred is online");
    tim.sign_out();
    // What stands behind the sign-in waits until the password is checked.
    let mut tim = Peer::connect(&server);
    tim.send(&format!("signin tim {PASSWORD}\n{}", "whoelse\n".repeat(1000)));
    tim.expect("Welcome tim");
    for _ in 0..1000 {
        assert_eq!(tim.line(), ">> User fred is online");
    }
}

#[test]
fn the_companion_and_the_commands_talk_over_tls() {
    let server = start(&["fred", "tim"]);
    server.folder.write("password", PASSWORD);
    let at = tls_port(&server);
    let command = |user: &str, arguments: &[&str]| {
        let mut command = mms(&server.folder);
        command.args(arguments).env("HOME", server.folder.path("home")).env("MMS_USER", user);
        command.env("MMS_PASSWORD_FILE", "password").env("MMS_TLS", "1");
        command.env("MMS_SERVER", at.to_string());
        command
    };
    let sent = run(&mut command("fred", &["send", "tim", "over the wall"]));
    assert_eq!((sent.status.code(), &sent.stdout[..]), (Some(0), &b"tim: saved\n"[..]));
    let told = String::from_utf8_lossy(&sent.stderr).into_owned();
    let fingerprint = &server.tls.as_ref().unwrap().1;
    assert!(told.contains("is met for the first time") && told.contains(fingerprint), "{told}");
    let known = server.folder.read("home/.local/share/mms/known_hosts");
    assert_eq!(known, format!("{at} {fingerprint}\n"));
    assert_eq!(server.folder.mode("home/.local/share/mms/known_hosts"), 0o600);
    let received = run(&mut command("tim", &["recv"]));
    assert_eq!(received.stdout, b"fred: over the wall\n");
    assert_eq!(received.stderr, b"", "it is known already");
    let who = run(&mut command("fred", &["who"]));
    assert_eq!(who.stdout, b"fred offline\ntim offline\n");
    assert_eq!(run(&mut command("fred", &["login"])).status.code(), Some(0));
    assert_eq!(run(&mut command("", &["ping"])).status.code(), Some(0));
    let mut companion = command("tim", &["client", "127.0.0.1", &at.port().to_string()]);
    companion.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut companion = companion.spawn().unwrap();
    companion.stdin.take().unwrap().write_all(b"send fred from the companion\n").unwrap();
    let output = companion.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("fred is offline"), "{output:?}");
    let mut fred = server.greeted();
    fred.sign_in("fred", PASSWORD);
    fred.expect("tim: from the companion");
}
