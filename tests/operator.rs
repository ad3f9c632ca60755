//! What an operator does to a running server and finds in its files: signals, the log, modes.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
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
    server.logs("1 letter of tim is held");
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
fn with_no_descriptor_left_sighup_makes_nothing_worse() {
    // Making room would open files now and then.
    let server = Server::start(&["fred", "tim"], &["--spool-reserve", "0"]);
    let mut fred = server.signed_in("fred");
    if !server.limit_descriptors(Some(0)) {
        return;
    }
    fs::rename(server.folder.path("server.log"), server.folder.path("server.log.1")).unwrap();
    server.folder.write("users", &users_file(&["fred", "ann"]));
    let moved = |text: &str| {
        eventually(text, || server.folder.read("server.log.1").contains(text).then_some(()));
    };
    for _ in 0..3 {
        server.signal("HUP");
        moved("log server.log not reopened, the old one is kept: Too many open files");
        moved("users not reloaded, the old ones are kept: users: cannot read: Too many open files");
        // Nobody is signed off, tim is a user still, and the old log goes on.
        assert!(fred.ask("send tim hi").contains("saved"));
        assert!(fred.ask("send ann hi").contains("no such user"));
        assert!(fred.ask(&format!("passwd {PASSWORD} another1")).contains("not"));
        assert!(!server.folder.path("server.log").exists());
    }
    moved("fred: send");
    assert!(server.limit_descriptors(None));
    server.signal("HUP");
    eventually("a new log", || server.folder.path("server.log").exists().then_some(()));
    server.logs("users reloaded: 2");
    server.logs("3 letters of tim are held");
    assert!(fred.ask("send ann hi").contains("saved"));
    server.signed_in("ann");
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
        "[security] sign-in-failed from 127.0.0.1: fred",
        "[security] sign-in-failed from 127.0.0.1: an unknown user",
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

/// A stopped server's spool: two letters wait for tim, one for seas, and one to a seas who was
/// removed is held.
fn stopped() -> Server {
    let mut server = Server::start(&["fred", "tim", "seas"], &[]);
    let mut fred = server.signed_in("fred");
    fred.ask("send seas to the old seas");
    server.folder.write("users", &users_file(&["fred", "tim"]));
    server.signal("HUP");
    server.logs("1 letter of seas is held");
    server.folder.write("users", &users_file(&["fred", "tim", "seas"]));
    server.signal("HUP");
    server.logs("users reloaded: 3");
    fred.ask("send tim first: \"quoted\" \\ ż");
    fred.ask("send (seas tim) second");
    assert_eq!(server.terminate().code(), Some(0));
    server
}

/// `mms spool` with these arguments: exit code, stdout, stderr.
fn spool(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(mms(&server.folder).arg("spool").args(arguments));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn welcomed(server: &Server, user: &str) -> String {
    server.greeted().sign_in(user, PASSWORD)
}

const NONE: &str = "you have no messages waiting";

#[test]
fn what_waits_is_exported_while_the_server_runs_and_when_it_does_not() {
    let mut server = stopped();
    let (code, stopped, err) = spool(&server, &["export"]);
    assert_eq!((code, &err[..]), (Some(0), ""));
    server.restart();
    let (code, running, err) = spool(&server, &["export"]);
    assert_eq!((code, &running, &err[..]), (Some(0), &stopped, ""));
    let ends = [
        "\"kind\":\"direct\",\"from\":\"fred\",\"to\":\"seas\",\"state\":\"held\",\
         \"text\":\"to the old seas\"}",
        "\"to\":\"seas\",\"state\":\"waiting\",\"text\":\"second\"}",
        "\"to\":\"tim\",\"state\":\"waiting\",\"text\":\"first: \\\"quoted\\\" \\\\ ż\"}",
        "\"to\":\"tim\",\"state\":\"waiting\",\"text\":\"second\"}",
    ];
    let lines: Vec<&str> = running.lines().collect();
    assert_eq!(lines.len(), ends.len(), "{running}");
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.starts_with("{\"id\":\"") && line.ends_with(end), "{line}");
        let (_, time) = line.split_once("\",\"time\":\"").unwrap();
        let shape: String =
            time[..25].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z\"", "{line}");
    }
    let (_, tims, _) = spool(&server, &["export", "TIM"]);
    assert_eq!(tims.lines().collect::<Vec<_>>(), lines[2..]);
    let (code, out, err) = spool(&server, &["export", "fred"]);
    assert_eq!((code, &out[..], &err[..]), (Some(67), "", "mms: nothing waits for fred\n"));
}

#[test]
fn messages_are_purged_for_good() {
    let mut server = stopped();
    server.restart();
    let (code, out, err) = spool(&server, &["purge", "tim", "--waiting", "--yes"]);
    assert_eq!((code, &out[..]), (Some(75), ""), "{err}");
    assert!(err.contains("in use by another mms server") && err.contains("stop that one"), "{err}");
    assert_eq!(server.terminate().code(), Some(0));

    let (code, _, err) = spool(&server, &["purge", "tim", "--waiting"]);
    assert_eq!(code, Some(64));
    assert!(err.contains("repeat it with --yes"), "{err}");
    let (code, _, err) = spool(&server, &["purge", "tim", "--yes"]);
    let advice = "mms: nothing is held for tim; for the 2 that wait: --waiting\n";
    assert_eq!((code, &err[..]), (Some(67), advice), "what waits is not removed unasked");
    let none = ["purge", "tim", "--waiting", "--yes", "--spool", "none"];
    assert_eq!(spool(&server, &none).0, Some(66));
    assert!(!server.folder.path("none").exists(), "looking for a spool makes none");

    let purged = spool(&server, &["purge", "TIM", "--waiting", "--yes"]);
    assert_eq!(purged, (Some(0), "2 messages of tim removed\n".into(), String::new()));
    let purged = spool(&server, &["purge", "seas", "--yes"]);
    assert_eq!(purged, (Some(0), "1 message of seas removed\n".into(), String::new()));
    assert_eq!(spool(&server, &["export"]).1.lines().count(), 1);
    for _ in 0..2 {
        server.restart();
        assert!(welcomed(&server, "tim").ends_with(NONE));
        assert!(welcomed(&server, "seas").ends_with("you have 1 message waiting:"));
        server.kill9();
    }
    assert_eq!(spool(&server, &["purge", "seas", "--held", "--waiting", "--yes"]).0, Some(0));
    server.restart();
    assert!(welcomed(&server, "seas").ends_with(NONE));
    assert_eq!(spool(&server, &["check"]).0, Some(0));
}

#[test]
fn a_segment_that_is_gone_for_good_stops_no_decision() {
    let mut server = stopped();
    // Others have come since, and what stood between is gone.
    let (from, to) = ("spool/journal-0000000001.log", "spool/journal-0000000003.log");
    assert_eq!(spool(&server, &["hold", "seas", "--yes"]).0, Some(0));
    fs::rename(server.folder.path("spool/journal-0000000002.log"), server.folder.path(to)).unwrap();
    assert!(server.folder.path(from).exists());
    let (code, out, err) = spool(&server, &["purge", "seas", "--yes"]);
    assert_eq!((code, &*out), (Some(0), "2 messages of seas removed\n"), "{err}");
    assert!(err.contains("journal-0000000002.log is missing"), "{err}");
    server.restart();
    server.logs("journal-0000000002.log is missing: what stood there is lost");
    assert_eq!(server.terminate().code(), Some(0));
    let (code, out, err) = spool(&server, &["purge", "tim", "--waiting", "--yes"]);
    assert_eq!((code, &*out), (Some(0), "2 messages of tim removed\n"), "{err}");
    assert!(!err.contains("missing"), "{err}");
}

#[test]
fn a_loss_that_a_start_has_told_is_told_no_more() {
    type Damage = fn(&Server);
    const FIRST: &str = "spool/journal-0000000001.log";
    const SECOND: &str = "spool/journal-0000000002.log";
    let missing = |server: &Server| {
        assert_eq!(spool(server, &["hold", "tim", "--yes"]).0, Some(0));
        assert_eq!(spool(server, &["hold", "tim", "--release", "--yes"]).0, Some(0));
        fs::remove_file(server.folder.path(SECOND)).unwrap();
        fs::remove_file(server.folder.path("spool/journal-0000000003.log")).unwrap();
    };
    let cut = |server: &Server| {
        let bytes = fs::read(server.folder.path(FIRST)).unwrap();
        let last = bytes.windows(6).position(|text| text == b"second").unwrap();
        let end = bytes[..last].windows(2).rposition(|two| two == b"\n=").unwrap();
        fs::write(server.folder.path(FIRST), &bytes[..=end]).unwrap();
    };
    let emptied = |server: &Server| {
        assert_eq!(spool(server, &["hold", "tim", "--yes"]).0, Some(0));
        fs::write(server.folder.path(SECOND), "").unwrap();
    };
    let ways: [(Damage, &str, &str); 3] = [
        (missing, "to journal-0000000003.log are missing: what stood there is lost", "2 segments"),
        (cut, "what stood behind", "1 segment"),
        (emptied, "what stood behind 0 is lost", "1 segment"),
    ];
    for (damage, told, count) in ways {
        let mut server = stopped();
        assert_eq!(spool(&server, &["hold", "seas", "--yes"]).0, Some(0));
        damage(&server);
        let (code, checked, _) = spool(&server, &["check"]);
        assert_eq!(code, Some(65), "{checked}");
        assert!(checked.contains(&format!("{count} missing")), "{checked}");
        let strict = ["server", "0", "users", "--strict"];
        assert_eq!(run(mms(&server.folder).args(strict)).status.code(), Some(65));
        server.restart();
        server.logs(told);
        server.kill9();
        let (code, checked, err) = spool(&server, &["check"]);
        assert_eq!(code, Some(0), "{checked}{err}");
        assert!(checked.contains("0 bytes damaged, 0 segments missing"), "{checked}");
        assert!(!checked.contains("a start would say"), "{checked}");
        let says = "journal-0000000002.log to journal-0000000003.log are missing, as a start has";
        assert_eq!(checked.contains(says), count == "2 segments", "{checked}");
        let folder = std::mem::replace(&mut server.folder, Folder::new());
        drop(server);
        let mut server = Server::start_in(folder, &["--strict"]);
        welcomed(&server, "tim");
        assert_eq!(server.terminate().code(), Some(0));
        let log = server.log();
        let starts = log.lines().filter(|line| line.contains("WARN") && line.contains(told));
        assert_eq!(starts.count(), 1, "{log}");
    }
}

#[test]
fn a_loss_that_could_not_be_logged_is_told_by_the_next_start() {
    let mut server = stopped();
    for decision in [&["hold", "seas", "--yes"][..], &["hold", "tim", "--yes"]] {
        assert_eq!(spool(&server, decision).0, Some(0));
    }
    fs::remove_file(server.folder.path("spool/journal-0000000002.log")).unwrap();
    for (log, code) in [("/dev/full", 65), ("server.log", 0)] {
        let folder = std::mem::replace(&mut server.folder, Folder::new());
        drop(server);
        server = Server::start_in(folder, &["--log", log]);
        assert_eq!(server.terminate().code(), Some(0));
        assert_eq!(spool(&server, &["check"]).0, Some(code), "{log}");
    }
    server.logs("journal-0000000002.log is missing: what stood there is lost");
}

#[test]
fn messages_are_held_and_released() {
    let mut server = stopped();
    let held = spool(&server, &["hold", "tim", "--yes"]);
    assert_eq!(held, (Some(0), "2 messages of tim held\n".into(), String::new()));
    let (code, _, err) = spool(&server, &["hold", "tim", "--yes"]);
    assert_eq!((code, &err[..]), (Some(67), "mms: nothing waits for tim; 2 are held\n"));
    server.restart();
    assert!(welcomed(&server, "tim").ends_with(NONE));
    server.signed_in("fred").ask("send tim third");
    let mut tim = server.signed_in("tim");
    tim.expect("fred: third");
    assert_eq!(tim.sign_out().last().unwrap(), ">> Thank you for using MMS!");
    // It is settled when his machine is known to have it.
    eventually("the third is settled", || (server.waiting("tim") == 0).then_some(()));
    let (_, listing, _) = spool(&server, &["ls"]);
    let line = listing.lines().find(|line| line.starts_with("tim ")).unwrap();
    assert!(line.contains("0 waiting, 2 held"), "{line}");
    assert_eq!(server.terminate().code(), Some(0));

    // He gets them although he has settled a later one.
    let released = spool(&server, &["hold", "--release", "tim", "--yes"]);
    assert_eq!(released, (Some(0), "2 messages of tim released\n".into(), String::new()));
    let released = spool(&server, &["hold", "--release", "seas", "--yes"]);
    assert_eq!(released, (Some(0), "1 message of seas released\n".into(), String::new()));
    server.restart();
    let mut tim = server.greeted();
    assert!(tim.sign_in("tim", PASSWORD).ends_with("you have 2 messages waiting:"));
    assert_eq!(tim.line(), ">>      fred: first: \"quoted\" \\ ż");
    assert_eq!(tim.line(), ">>      fred: second");
    let mut seas = server.signed_in("seas");
    assert_eq!(seas.line(), ">>      fred: second");
    assert_eq!(seas.line(), ">>      fred: to the old seas");
    server.kill9();

    // Nobody has the name: the server holds them again.
    server.folder.write("users", &users_file(&["fred"]));
    server.restart();
    server.logs("2 letters of tim are held: the user was removed");
}

#[test]
fn at_a_terminal_the_operator_is_asked_first() {
    use std::os::unix::process::ExitStatusExt as _;
    if std::process::Command::new("script").arg("--version").output().is_err() {
        return println!("SKIP at_a_terminal_the_operator_is_asked_first: no script(1)");
    }
    let server = stopped();
    let mms = env!("CARGO_BIN_EXE_mms");
    for (answer, done) in [("n", false), ("", false), ("yes", true)] {
        let mut command = std::process::Command::new("script");
        let purge = format!("{mms} spool purge tim --waiting");
        command.args(["-qec", &purge, "/dev/null"]).current_dir(server.folder.path("."));
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut keyboard, format!("{answer}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(keyboard);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("Remove 2 messages waiting for tim for good? [y/N]"), "{shown}");
        assert_eq!(output.status.signal(), None);
        let code = if done { 0 } else { 64 };
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert_eq!(shown.contains("nothing was changed"), !done, "{shown}");
        assert_eq!(server.waiting("tim"), if done { 0 } else { 2 });
    }
}

#[test]
fn what_root_does_to_a_spool_stays_its_owners() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    const NOBODY: u32 = 65_534;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return println!("SKIP what_root_does_to_a_spool_stays_its_owners: not root");
    }
    let server = stopped();
    let files = || {
        let entries = fs::read_dir(server.folder.path("spool")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    fs::remove_file(server.folder.path("spool/lock")).unwrap();
    for path in files().iter().chain([&server.folder.path("spool")]) {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let before = files().len();
    assert_eq!(spool(&server, &["hold", "tim", "--yes"]).0, Some(0));
    assert_eq!(files().len(), before + 2, "a lock and a segment");
    for path in files() {
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid()), (NOBODY, NOBODY), "{}", path.display());
    }
}

/// Damages the text of a letter in the first segment; the bytes as they are then.
fn damage(server: &Server, text: &str) -> Vec<u8> {
    let path = server.folder.path("spool/journal-0000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn a_reader_is_told_of_a_letter_that_the_disk_has_lost() {
    let mut server = stopped();
    damage(&server, "second");
    let (code, exported, err) = spool(&server, &["export"]);
    assert_eq!((code, exported.lines().count()), (Some(65), 2), "what is whole: {exported}");
    assert!(err.contains("the spool is damaged, and what is whole was exported"), "{err}");
    let (code, checked, err) = spool(&server, &["check"]);
    assert_eq!(code, Some(65));
    assert!(checked.contains("are damaged and lost: they had been confirmed; letters "));
    assert!(err.contains("confirmed bytes are lost, in which 1 letter can be told"), "{err}");
    let (code, _, err) = spool(&server, &["purge", "tim", "--waiting", "--yes"]);
    assert_eq!(code, Some(65));
    assert!(err.contains("nothing was changed") && err.contains("start the server once"), "{err}");

    for again in ["", "(again) "] {
        server.restart();
        let mut tim = server.greeted();
        assert!(tim.sign_in("tim", PASSWORD).ends_with("you have 2 messages waiting:"));
        assert_eq!(tim.line(), format!(">>      {again}fred: first: \"quoted\" \\ ż"));
        let told = tim.line();
        let lost = "mms: 1 message to you was damaged on the server's disk and is lost (id ";
        assert!(told.starts_with(&format!(">>      {again}{lost}")), "{told}");
        assert!(told.ends_with(", from fred)"), "{told}");
        server.kill9();
    }
    let log = server.log();
    assert_eq!(log.matches("tim is told that the disk has lost 1 letter to him").count(), 1);
    assert_eq!(log.matches("seas is told").count(), 1);
    let counts = "bytes lost (1 letter readable), 0 segments missing, 0 bytes cut at the end, \
                  1 file in quarantine";
    assert_eq!(log.matches(counts).count(), 1, "{log}");
    assert_eq!(spool(&server, &["check"]).0, Some(0));
}

/// As README.md says: copied while the server runs, into a directory of any mode, without the lock.
#[test]
fn a_backup_is_put_back() {
    let mut server = Server::start(&["fred", "tim"], &[]);
    server.signed_in("fred").ask("send tim before");
    let (spool, backup) = (server.folder.path("spool"), server.folder.path("backup"));
    fs::create_dir(&backup).unwrap();
    fs::set_permissions(&backup, Permissions::from_mode(0o755)).unwrap();
    for file in ["secret", "journal-0000000001.log"] {
        fs::copy(spool.join(file), backup.join(file)).unwrap();
    }
    server.signed_in("fred").ask("send tim after");
    assert_eq!(server.terminate().code(), Some(0));
    fs::rename(&spool, server.folder.path("damaged")).unwrap();
    fs::rename(&backup, &spool).unwrap();
    server.restart();
    let mut tim = server.greeted();
    assert!(tim.sign_in("tim", PASSWORD).ends_with("you have 1 message waiting:"));
    assert_eq!(tim.line(), ">>      fred: before");
    assert_eq!(fs::metadata(&spool).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_strict_server_leaves_a_damaged_spool_alone() {
    let mut server = stopped();
    let whole = fs::read(server.folder.path("spool/journal-0000000001.log")).unwrap();
    let damaged = damage(&server, "second");
    fs::write(server.folder.path("spool/journal-0000000009.tmp"), "half").unwrap();
    let names = || {
        let entries = fs::read_dir(server.folder.path("spool")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    let before = names();
    let strict = ["server", "0", "users", "--strict"];
    let output = run(mms(&server.folder).args(strict));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(65), &b""[..]), "{err}");
    for words in [
        "the spool spool is damaged and was left as it is: journal-0000000001.log: ",
        "had been confirmed; letters ",
        "Restore a backup of it; or start without --strict",
        "mms spool check --spool spool",
    ] {
        assert!(err.contains(words), "{words:?} is missing in {err}");
    }
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(server.log().contains("spool not opened: it is damaged, and --strict was given"));
    assert_eq!(names(), before);
    let now = fs::read(server.folder.path("spool/journal-0000000001.log")).unwrap();
    assert!(now == damaged, "not a byte was changed");

    // The backup is put back; a crash is no damage.
    fs::write(server.folder.path("spool/journal-0000000001.log"), whole).unwrap();
    let folder = std::mem::replace(&mut server.folder, Folder::new());
    drop(server);
    let mut server = Server::start_in(folder, &["--strict"]);
    assert!(welcomed(&server, "tim").ends_with("you have 2 messages waiting:"));
    server.kill9();
    let newest = |server: &Server| {
        let mut files: Vec<_> = fs::read_dir(server.folder.path("spool"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("/journal-"))
            .collect();
        files.sort_unstable();
        files.pop().unwrap()
    };
    let path = newest(&server);
    // Behind what was written there is room that was not used yet.
    let mut torn = fs::read(&path).unwrap();
    let end = 1 + torn.iter().rposition(|&byte| byte != 0).unwrap();
    torn.splice(end..(end + 6).min(torn.len()), *b"=L 000");
    fs::write(path, torn).unwrap();
    let (code, checked, _) = spool(&server, &["check"]);
    assert_eq!(code, Some(0));
    assert!(checked.contains("a start would say: journal-"), "{checked}");
    server.restart();
    server.logs("6 bytes cut at the end");
}
