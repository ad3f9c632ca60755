//! What an operator does to a running server and finds in its files: signals, the log, modes.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::fs;
use support::server::{Folder, PASSWORD, Server, eventually, mms, run, user_line, users_file};

#[test]
fn a_stop_tells_everyone_and_leaves_in_order() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["fred", "tim"], &[]);
        let (mut fred, mut stranger) = (server.signed_in("fred"), server.greeted());
        let mut prompted = server.greeted();
        prompted.say("signin tim");
        prompted.expect_prompt();
        fred.say("send tim before the end");
        fred.expect("saved");
        server.signal(signal);
        assert_eq!(fred.rest(), [">> MMS is shutting down"]);
        assert_eq!(stranger.rest(), [">> MMS is shutting down"]);
        assert_eq!(prompted.rest(), ["", ">> MMS is shutting down"]);
        assert_eq!(prompted.commands.last(), Some(&[255, 252, 1]), "typing is shown again");
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.folder.read("stderr"), "");
        server.restart();
        server.signed_in("tim").expect("fred: before the end");
    }
}

#[test]
fn a_stop_waits_for_nobody_for_long() {
    let mut server = Server::start(&["fred"], &[]);
    // He never reads his goodbye and never closes.
    let _fred = server.signed_in("fred");
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn users_come_and_go_by_sighup() {
    let server = Server::start(&["fred", "tim", "seas"], &[]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    let mut seas = server.signed_in("seas");
    let file = user_line("seas", "other") + &users_file(&["libero", "fred"]);
    server.folder.write("users", &file);
    server.signal("HUP");
    assert_eq!(tim.rest(), [">> signed off: this user was removed"]);
    assert_eq!(seas.rest(), [">> signed off: the password was changed, signin again"]);
    assert_eq!(fred.ask("whoison"), ">> User fred is online");
    assert_eq!(fred.line(), ">> Users seas and libero are NOT online");
    assert_eq!(fred.ask("send tim hi"), ">> no such user: tim; 'whoison' lists the users");
    server.signed_in("libero");
    let mut tim = server.greeted();
    let answer = tim.ask(&format!("signin tim {PASSWORD}"));
    assert_eq!(answer, ">> user tim is not authorized to use MMS");
    tim.sign_in("seas", "other");
}

#[test]
fn letters_of_a_removed_user_are_not_for_the_next_of_that_name() {
    let mut server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.signed_in("fred");
    fred.say("send tim for the old tim only");
    fred.expect("saved");
    server.folder.write("users", &users_file(&["fred"]));
    server.signal("HUP");
    server.logs("1 letters of tim are held");
    server.folder.write("users", &users_file(&["fred", "tim"]));
    server.signal("HUP");
    server.logs("users reloaded: 2");
    for _ in 0..2 {
        let welcome = server.greeted().sign_in("tim", PASSWORD);
        assert_eq!(welcome, ">> Welcome tim, you have no messages waiting");
        server.kill9();
        server.restart();
    }
}

#[test]
fn a_bad_users_file_keeps_the_old_users() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.signed_in("fred");
    for (text, log) in [
        ("tim secret\n", "users not reloaded, the old ones are kept: users: line 1: the password"),
        ("", "users not reloaded, the old ones are kept: users: it has no users"),
    ] {
        server.folder.write("users", text);
        server.signal("HUP");
        server.logs(log);
        assert_eq!(fred.ask("whoison"), ">> User fred is online");
        assert_eq!(fred.line(), ">> User tim is NOT online");
    }
    fs::remove_file(server.folder.path("users")).unwrap();
    server.signal("HUP");
    server.logs("users not reloaded, the old ones are kept: users: no such file");
    server.signed_in("tim");
    assert!(!server.log().contains("secret"));
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    let server = Server::start(&["fred"], &[]);
    server.signed_in("fred");
    server.logs("fred signed in");
    fs::rename(server.folder.path("server.log"), server.folder.path("server.log.1")).unwrap();
    server.signal("HUP");
    eventually("a new log", || server.folder.path("server.log").exists().then_some(()));
    server.logs("users reloaded: 1");
    server.greeted().ask(&format!("signin fred {PASSWORD}"));
    server.logs("fred signed in");
    assert_eq!(server.folder.mode("server.log"), 0o600);
}

#[test]
fn nobody_else_may_look_into_the_files() {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred", "tim"]));
    // As a careless hand would have made them.
    folder.write("server.log", "before\n");
    folder.chmod("server.log", 0o644);
    fs::create_dir(folder.path("spool")).unwrap();
    folder.chmod("spool", 0o755);
    let server = Server::start_in(folder, &[]);
    server.signed_in("fred").ask("send tim hi");
    assert_eq!(server.folder.mode("spool"), 0o700);
    assert_eq!(server.folder.mode("server.log"), 0o600);
    assert!(server.log().starts_with("before\n"), "the log goes on");
    let mut files = 0;
    for entry in fs::read_dir(server.folder.path("spool")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(server.folder.mode(&format!("spool/{name}")), 0o600, "{name}");
        files += 1;
    }
    assert!(files >= 2, "a lock and a segment at least");
}

#[test]
fn the_log_tells_what_happened_and_no_secret() {
    let mut server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.greeted();
    fred.ask("signin fred hunter2wrong");
    // Typed where a command is wanted, or a name.
    fred.ask("hunter2command");
    fred.ask("signin hunter2name x");
    fred.ask("help hunter2topic");
    fred.say("signin fred");
    fred.expect_prompt();
    fred.say(PASSWORD);
    fred.expect("Welcome fred");
    fred.ask("send tim hunter2message");
    fred.ask("hunter2online");
    fred.ask("send hunter2user hi");
    fred.ask("away hunter2away");
    fred.ask("broadcast hunter2all");
    fred.ask("\x1b]hunter2escape");
    fred.sign_out();
    assert_eq!(server.terminate().code(), Some(0));
    let log = server.log();
    for secret in ["hunter2", PASSWORD, "\x1b", "Welcome"] {
        assert!(!log.contains(secret), "{secret:?} in {log}");
    }
    for fact in [
        "listening on 127.0.0.1:",
        "sign-in of fred from 127.0.0.1 failed: wrong password",
        "sign-in of an unknown user from 127.0.0.1 failed",
        "fred signed in from 127.0.0.1",
        "fred: send",
        "fred: unknown",
        "not signed in: unknown",
        "fred signed off from 127.0.0.1: signed out",
        "stopped",
    ] {
        assert!(log.contains(fact), "{fact:?} not in {log}");
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let server = Server::start(&["fred", "tim"], &["--log", "/dev/full"]);
    let mut fred = server.signed_in("fred");
    assert!(fred.ask("send tim hi").contains("saved"));
}

#[test]
fn what_was_confirmed_outlives_any_end() {
    for options in [["--sync", "always"], ["--sync", "never"]] {
        let mut server = Server::start(&["fred", "tim"], &options);
        let mut fred = server.signed_in("fred");
        fred.say("send (tim fred) kept");
        fred.expect("message sent to fred; tim is offline");
        server.kill9();
        server.restart();
        server.signed_in("tim").expect("fred: kept");
        let mut fred = server.signed_in("fred");
        assert_eq!(fred.line(), ">>      (again) fred: kept", "he may have seen it");
        assert_eq!(fred.ask("wholast 10"), ">> User tim was online in the last 10 minutes");
    }
}

#[test]
fn a_second_server_leaves_the_spool_alone() {
    let server = Server::start(&["fred"], &[]);
    let second = run(mms(&server.folder).args(["server", "0", "users", "--log", "second.log"]));
    assert_eq!(second.status.code(), Some(75));
    server.signed_in("fred");
}
