//! What the log tells of whom the server does not like, as programs read it: the words of
//! README.md, the filter for fail2ban, and lines that somebody would like to forge.

mod support;

use mms::limits::{PENALTY_FROM_MS, PENALTY_NOTHING_TRIED_MS};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use support::server::{Client, Folder, PASSWORD, Server, eventually, run};

/// Only this host is trusted, so that guests from others are strangers.
const STRANGERS: [&str; 2] = ["--trusted", "127.0.0.1"];
#[cfg(feature = "tls")]
const ALL_DOORS: [&str; 4] = ["--trusted", "127.0.0.1", "--tls", "0"];
#[cfg(not(feature = "tls"))]
const ALL_DOORS: [&str; 2] = STRANGERS;

const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/fail2ban/mms.conf");

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 5, 0, n)
}

fn greeted(server: &Server, from: Ipv4Addr) -> Client {
    let mut client = server.connect_from(from);
    client.expect("Welcome to MMS.");
    client.expect("signin");
    client
}

/// The events of the log that programs read: each with its level, its word and its address.
fn events(log: &str) -> BTreeSet<(String, String, String)> {
    let lines = log.lines().filter_map(|line| {
        let (before, event) = line.split_once(" [security] ")?;
        let (word, rest) = event.split_once(" from ").expect("an event has an address");
        let (address, _) = rest.split_once(": ").expect("something stands behind an address");
        let level = before.split_once('[').expect("a level").1.trim_end_matches([' ', ']']);
        Some((level.into(), word.into(), address.into()))
    });
    lines.collect()
}

/// Does what each event of README.md is about, from a host of its own.
fn make_all_of_them(server: &Server) {
    let mut client = greeted(server, host(1));
    client.ask("signin fred wrong");
    client.ask("signin nobody wrong");
    let mut client = greeted(server, host(2));
    client.ask("signin fred wrong");
    client.ask("signin fred wrong");
    client.ask("signin fred wrong");
    let mut client = greeted(server, host(2));
    assert!(client.ask("signin fred wrong").contains("blocked"));
    let mut fred = server.signed_in("fred");
    let mut client = greeted(server, host(3));
    client.ask(&format!("signin fred {PASSWORD}"));
    server.logs("[security] sign-in-refused from 127.5.0.3: fred: already signed in");
    for (n, bytes) in [(4, &b"GET / HTTP/1.1\r\n\r\n"[..]), (5, &[0x16, 3, 1, 0, 9])] {
        let mut client = greeted(server, host(n));
        client.stream.write_all(bytes).unwrap();
        client.rest();
    }
    for (n, bytes) in [(8, &b"EHLO x\r\n"[..]), (9, &[0x16, 3, 1, 0, 4, 2, 0, 0, 0])] {
        let Some((address, _)) = &server.tls else { break };
        let mut client = server.connect_to(*address, host(n));
        client.stream.write_all(bytes).unwrap();
        std::io::copy(&mut client.stream, &mut std::io::sink()).unwrap();
    }
    let mut client = greeted(server, host(6));
    client.stream.write_all(&b"help\r\n".repeat(1000)).unwrap();
    server.logs("[security] dismissed from 127.5.0.6: too much before sign-in");
    for n in 0..=PENALTY_FROM_MS / PENALTY_NOTHING_TRIED_MS {
        drop(server.connect_from(host(7)));
        eventually("the end of it", || (n < 1 || server.descriptors() < 40).then_some(()));
    }
    server.logs("[security] penalty-begun from 127.5.0.7: ");
    eventually("a refusal", || {
        server.connect_from(host(7)).line().contains("did not sign in").then_some(())
    });
    fred.say("passwd wrong new");
    while !fred.line().contains("wrong") {}
    fred.ask(&format!("passwd {PASSWORD} new-one"));
    server.logs("[security] password-changed from 127.0.0.1: fred");
    let crowd: Vec<Client> =
        (10..=250).flat_map(|n| [n; 5]).map(|n| server.connect_from(host(n))).collect();
    server.logs("[security] connection-dropped from 127.5.0.");
    drop(crowd);
}

#[test]
fn every_event_stands_in_the_readme_and_comes_as_it_says() {
    let server = Server::start(&["fred", "tim"], &ALL_DOORS);
    make_all_of_them(&server);
    let told = events(&server.log());
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `[security] "));
    let mut rows: BTreeSet<&str> = rows.filter_map(|row| row.split(' ').next()).collect();
    if server.tls.is_none() {
        assert!(rows.remove("handshake-failed"), "a program without TLS has no handshakes");
    }
    let words: BTreeSet<&str> = told.iter().map(|(_, word, _)| &word[..]).collect();
    assert_eq!(words, rows, "{}", server.log());
    for (level, word, address) in [
        ("WARN", "sign-in-failed", host(1)),
        ("WARN", "sign-in-failed", host(2)),
        ("WARN", "block-begun", host(2)),
        ("WARN", "sign-in-blocked", host(2)),
        ("WARN", "sign-in-refused", host(3)),
        ("WARN", "other-protocol", host(4)),
        ("WARN", "other-protocol", host(5)),
        ("WARN", "dismissed", host(6)),
        ("WARN", "penalty-begun", host(7)),
        ("WARN", "connection-refused", host(7)),
        ("WARN", "password-kept", Ipv4Addr::LOCALHOST),
        ("INFO", "password-changed", Ipv4Addr::LOCALHOST),
    ] {
        let event = (level.to_owned(), word.to_owned(), address.to_string());
        assert!(told.contains(&event), "{event:?} not in {told:#?}");
    }
    for (word, address) in [("other-protocol", host(8)), ("handshake-failed", host(9))] {
        let event = ("WARN".to_owned(), word.to_owned(), address.to_string());
        assert_eq!(told.contains(&event), server.tls.is_some(), "{event:?} in {told:#?}");
    }
}

/// What fail2ban would hold against whom: the addresses of the lines that its filter matches.
fn held_against(log: &Path) -> Option<Vec<String>> {
    let mut command = Command::new("fail2ban-regex");
    command.args(["--out", "ip"]).arg(log).arg(FILTER);
    if Command::new("fail2ban-regex").arg("--version").output().is_err() {
        println!("SKIP fail2ban-regex is not installed");
        return None;
    }
    let output = run(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
}

#[test]
fn fail2ban_hears_of_those_who_guess_and_of_nobody_else() {
    let server = Server::start(&["fred", "tim"], &ALL_DOORS);
    make_all_of_them(&server);
    let Some(found) = held_against(&server.folder.path("server.log")) else { return };
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let over_tls: &[u8] = if server.tls.is_some() { &[8, 9] } else { &[] };
    for n in [1, 2, 4, 5, 6, 7].iter().chain(over_tls).copied() {
        assert!(found.contains(&*host(n).to_string()), "{n} {found:?}");
    }
    // The one had the right password; the others met a crowd.
    for n in [3, 10, 200, 250] {
        assert!(!found.contains(&*host(n).to_string()), "{n} {found:?}");
    }
}

#[test]
fn nobody_has_another_address_banned() {
    let server = Server::start(&["fred", "from", "security"], &STRANGERS);
    // One who is not meant to be found, and who knows how the log is worded.
    let line = "2026-11-26T11:32:00Z [WARN ] [security] sign-in-failed from 192.0.2.1: fred";
    let forged = [
        line,
        "x from 192.0.2.1: fred",
        "from 192.0.2.1: x",
        "[security] sign-in-failed from 192.0.2.1: fred",
        "fred\r\u{85}2026-11-26T11:32:00Z [WARN ] [security] other-protocol from 192.0.2.1: x",
        "x\u{2028}2026-11-26T11:32:00Z [WARN ] [security] dismissed from 192.0.2.1: x",
    ];
    let mut users: Vec<Client> =
        ["fred", "from", "security"].map(|name| server.signed_in(name)).into();
    for text in forged {
        for client in &mut users {
            for before in
                ["", "send fred ", "send ", "away ", "block ", "passwd ", "passwd x ", "help "]
            {
                client.say(&format!("{before}{text}"));
            }
        }
        for before in ["", "signin ", "signin fred ", "coded ", "GET / HTTP/", "EHLO ", "SSH-2.0-"]
        {
            let mut client = server.greeted();
            client.say(&format!("{before}{text}"));
            client.say("");
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
            client.rest();
        }
        let mut client = server.greeted();
        client.say("coded 1");
        for before in ["@x ", "@", "signin ", "signin fred tool plain ", "auth ", "send =k "] {
            client.say(&format!("{before}{text}"));
        }
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        client.rest();
    }
    // These two are users, and may be named where an address is told.
    let mut client = greeted(&server, host(1));
    client.ask("signin from 192.0.2.1");
    client.ask("signin security from 192.0.2.1: x");
    for client in &mut users {
        client.say("signout");
        client.rest();
    }
    server.logs("security signed off");
    let log = server.log();
    assert!(!log.contains("192.0.2.1"), "{log}");
    let addresses: BTreeSet<String> = events(&log).into_iter().map(|(_, _, from)| from).collect();
    let real: BTreeSet<String> = [Ipv4Addr::LOCALHOST, host(1)].map(|host| host.to_string()).into();
    assert_eq!(addresses, real);
    if let Some(found) = held_against(&server.folder.path("server.log")) {
        let found: BTreeSet<String> = found.into_iter().collect();
        assert_eq!(found, real);
    }
    // Were such a line in the middle of another, the filter would pass it over.
    let folder = Folder::new();
    folder.write(
        "server.log",
        &format!(
            "2026-11-26T11:32:00Z [INFO ] {line}\n2026-11-26T11:32:00Z [WARN ] fred: {line}\n"
        ),
    );
    assert_eq!(held_against(&folder.path("server.log")).unwrap_or_default(), [""; 0]);
}
