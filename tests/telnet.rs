//! The telnet program itself, in a pseudo-terminal, against the real server: its password is not
//! shown, and it proves by itself what it has
//! read.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use rexpect::session::PtySession;
use std::process::{Command, Stdio};
use support::server::{PASSWORD, Server, eventually};

/// Longer than anything takes, in milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// A person at telnet, signed in with a hidden password; none if there is no telnet here.
fn signed_in(server: &Server, user: &str) -> Option<PtySession> {
    let there = Command::new("telnet").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let Ok(mut there) = there else {
        println!("SKIP: no telnet program is installed");
        return None;
    };
    there.wait().unwrap();
    let line = format!("telnet 127.0.0.1 {}", server.address.port());
    let mut telnet = rexpect::spawn(&line, Some(PATIENCE_MS)).unwrap();
    telnet.exp_string("to sign in").unwrap();
    telnet.send_line(&format!("signin {user}")).unwrap();
    telnet.exp_string("Password: ").unwrap();
    echoes(&telnet, " -echo ");
    telnet.send_line(PASSWORD).unwrap();
    let before = telnet.exp_string(&format!("Welcome {user}")).unwrap();
    assert!(!before.contains(PASSWORD), "{before}");
    Some(telnet)
}

/// Waits until the terminal hides what is typed, or shows it: once telnet has come so far.
fn echoes(telnet: &PtySession, setting: &str) {
    eventually(setting, || {
        let tty = format!("/proc/{}/fd/0", telnet.process.child_pid);
        let stty = Command::new("stty").args(["-a", "-F", &tty]).output().unwrap();
        String::from_utf8_lossy(&stty.stdout).contains(setting).then_some(())
    });
}

fn signal(telnet: &PtySession, name: &str) {
    let pid = telnet.process.child_pid.to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn what_telnet_has_read_is_settled_and_what_it_has_not_is_kept() {
    let server = Server::start(&["fred", "tim"], &[]);
    let Some(mut telnet) = signed_in(&server, "tim") else { return };
    let mut fred = server.signed_in("fred");
    assert_eq!(fred.ask("send tim one"), ">> message sent to tim");
    telnet.exp_string(">> fred: one").unwrap();
    // Nothing was typed: the program itself has answered.
    eventually("nothing waits", || (server.waiting("tim") == 0).then_some(()));
    signal(&telnet, "STOP");
    assert_eq!(fred.ask("send tim two"), ">> message sent to tim");
    signal(&telnet, "KILL");
    server.logs("tim signed off from 127.0.0.1: connection lost");
    let mut tim = server.greeted();
    let welcome = tim.sign_in("tim", PASSWORD);
    assert_eq!(welcome, ">> Welcome tim, you have 1 message waiting:");
    assert_eq!(tim.line(), ">>      (again) fred: two");
}

#[test]
fn a_password_is_changed_unseen() {
    let server = Server::start(&["fred", "tim"], &[]);
    let Some(mut telnet) = signed_in(&server, "tim") else { return };
    let mut fred = server.signed_in("fred");
    telnet.send_line("passwd").unwrap();
    telnet.exp_string("Current password: ").unwrap();
    echoes(&telnet, " -echo ");
    // Half of it is typed when a message comes.
    let (begin, rest) = PASSWORD.split_at(3);
    telnet.send(begin).unwrap();
    telnet.flush().unwrap();
    assert_eq!(fred.ask("send tim hi"), ">> message sent to tim");
    let mut seen = telnet.exp_string("\r\n>> fred: hi\r\nCurrent password: ").unwrap();
    telnet.send_line(rest).unwrap();
    seen += &telnet.exp_string("New password: ").unwrap();
    telnet.send_line("two words").unwrap();
    seen += &telnet.exp_string("New password again: ").unwrap();
    echoes(&telnet, " -echo ");
    telnet.send_line("two words").unwrap();
    seen += &telnet.exp_string("password changed").unwrap();
    echoes(&telnet, " echo ");
    assert!(!seen.contains("two words") && !seen.contains(begin), "{seen}");
    telnet.send_line("signout").unwrap();
    telnet.exp_string("Thank you").unwrap();
    server.greeted().sign_in("tim", "two words");
}
