//! `mms server --check`: it says what a start would say and ends as that would, changes nothing,
//! and does not mind a server that runs.

mod support;

use mms::store::record::{FORMAT, Header, encode_header};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};
use support::server::{Folder, Server, eventually, mms, run, users_file};

/// User and group ids of nobody.
const NOBODY: u32 = 65_534;

/// Everything below a folder: its mode and content, or the names in it.
fn all(folder: &Path, into: &mut BTreeMap<String, (u32, u64, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_file() { fs::read(&path).unwrap() } else { vec![] };
        let modified =
            found.mtime().unsigned_abs() * 1_000_000_000 + found.mtime_nsec().unsigned_abs();
        into.insert(path.display().to_string(), (found.mode(), modified, content));
        if found.is_dir() {
            all(&path, into);
        }
    }
}

fn snapshot(folder: &Folder) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    all(&folder.path(""), &mut found);
    found
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Checks and sees that nothing is changed by it.
#[track_caller]
fn check(folder: &Folder, arguments: &[&str]) -> Output {
    let before = snapshot(folder);
    let output = run(mms(folder).args(["server", "0", "users", "--check"]).args(arguments));
    assert!(snapshot(folder) == before, "it has changed something");
    let told = text(&output.stdout);
    let begins =
        |line: &str| ["ok    ", "note  ", "FAULT "].iter().any(|one| line.starts_with(one));
    assert!(told.lines().count() >= 7 && told.lines().all(begins), "{told}");
    assert_eq!(told.contains("FAULT "), !output.status.success(), "{told}");
    output
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred", "tim"]));
    folder
}

#[test]
fn a_sound_server_is_found_sound_before_and_after_its_first_start() {
    let folder = folder();
    let output = check(&folder, &[]);
    assert_eq!(output.status.code(), Some(0));
    let told = text(&output.stdout);
    for line in ["ok    users: 2 in users", "note  spool: spool is missing and would be made"] {
        assert!(told.contains(line), "{told}");
    }
    let mut server = Server::start_in(folder, &[]);
    assert!(server.signed_in("fred").ask("send tim hi").contains("saved"));
    assert_eq!(server.terminate().code(), Some(0));
    let output = check(&server.folder, &["--strict"]);
    assert_eq!(output.status.code(), Some(0));
    let told = text(&output.stdout);
    for line in ["ok    spool: spool can be used", "ok    journal: 1 letter in "] {
        assert!(told.contains(line), "{told}");
    }
    assert!(!told.contains("note "), "{told}");
}

#[test]
fn a_server_that_runs_is_no_fault_and_is_left_alone() {
    let server = Server::start(&["fred", "tim"], &["--spool-reserve", "0"]);
    let mut fred = server.signed_in("fred");
    fred.ask("send tim hi");
    let port = server.address.port().to_string();
    let arguments = ["server", &port, "users", "--check", "--spool-reserve", "0"];
    for _ in 0..5 {
        let output = run(mms(&server.folder).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        assert!(told.contains(&format!("note  port: 127.0.0.1:{port} is in use now")), "{told}");
        assert!(told.contains("ok    journal: 1 letter in "), "{told}");
        if Path::new("/proc/locks").exists() {
            assert!(told.contains("note  spool: a server is running on spool"), "{told}");
        }
        assert!(fred.ask("whoelse").contains("Nobody"));
    }
    assert!(fred.ask("send tim more").contains("saved"));
}

/// A start in this folder must fail, and a check as well: with the same code and the same words.
#[track_caller]
fn alike(folder: &Folder, arguments: &[&str], code: i32) {
    let checked = check(folder, arguments);
    let started = run(mms(folder).args(["server", "0", "users"]).args(arguments));
    assert_eq!(started.status.code(), Some(code), "{}", text(&started.stderr));
    assert_eq!(checked.status.code(), Some(code), "{}", text(&checked.stdout));
    let why = text(&started.stderr).strip_prefix("mms: ").unwrap();
    assert_eq!(text(&checked.stderr), format!("mms: a start would fail: {why}"));
    assert!(text(&checked.stdout).contains(why), "{}", text(&checked.stdout));
}

#[test]
fn it_ends_as_the_start_would() {
    let damaged = folder();
    let mut server = Server::start_in(damaged, &["--spool-reserve", "0"]);
    let mut fred = server.signed_in("fred");
    (0..4).for_each(|_| _ = fred.ask("send tim hello"));
    server.kill9();
    let journal = server.folder.path("spool/journal-0000000001.log");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(5).position(|part| part == b"hello").unwrap();
    bytes[at] ^= 1;
    fs::write(&journal, bytes).unwrap();
    alike(&server.folder, &["--strict", "--spool-reserve", "0"], 65);
    let output = check(&server.folder, &["--spool-reserve", "0"]);
    assert_eq!(output.status.code(), Some(0), "without --strict it would start");
    assert!(text(&output.stdout).contains("note  journal: would say: "));

    let newer = folder();
    fs::create_dir(newer.path("spool")).unwrap();
    newer.chmod("spool", 0o700);
    let mut header = vec![];
    encode_header(&mut header, 1, &Header { spool: 1, segment: 1, format: FORMAT + 1 });
    fs::write(newer.path("spool/journal-0000000001.log"), header).unwrap();
    fs::write(newer.path("spool/lock"), "").unwrap();
    alike_but_for(&newer, "server.log", 78);

    let missing = Folder::new();
    alike(&missing, &[], 66);
    for (text, mode, code) in [("fred secret\n", 0o600, 78), ("", 0o600, 78), ("#\n", 0o666, 77)] {
        let folder = Folder::new();
        folder.write("users", text);
        folder.chmod("users", mode);
        alike(&folder, &[], code);
    }
    let folder = folder();
    fs::write(folder.path("file"), "").unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    fs::write(folder.path("folder/photo"), "").unwrap();
    folder.chmod("folder", 0o755);
    alike(&folder, &["--spool", "file"], 73);
    alike(&folder, &["--spool", "folder"], 73);
    alike(&folder, &["--bind", "192.0.2.1"], 69);
    let spool = &["--log", "none/server.log"];
    assert_eq!(check(&folder, spool).status.code(), Some(73));
    assert_eq!(check(&folder, &["--log", "folder"]).status.code(), Some(73));
    assert_eq!(check(&folder, &["--spool", "file/spool"]).status.code(), Some(73));
    // The first fault is the one that a start ends with.
    folder.write("users", "fred secret\n");
    alike(&folder, &["--spool", "file", "--log", "folder"], 78);
}

/// The same where a start goes so far that it makes a log.
#[track_caller]
fn alike_but_for(folder: &Folder, made: &str, code: i32) {
    let checked = check(folder, &[]);
    let started = run(mms(folder).args(["server", "0", "users"]));
    assert_eq!((started.status.code(), checked.status.code()), (Some(code), Some(code)));
    let why = text(&started.stderr).strip_prefix("mms: ").unwrap();
    assert_eq!(text(&checked.stderr), format!("mms: a start would fail: {why}"));
    assert!(folder.path(made).exists());
}

#[test]
fn what_may_not_be_written_is_found() {
    if fs::metadata("/proc/self").unwrap().uid() != 0
        || Command::new("setpriv").arg("-V").output().is_err()
    {
        println!("SKIP what_may_not_be_written_is_found: not root, or no setpriv");
        return;
    }
    let folder = folder();
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mms")).arg(folder.path("mms")).status();
    assert!(copied.unwrap().success());
    folder.chmod("mms", 0o755);
    folder.chmod("users", 0o644);
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(folder.path("mms")).current_dir(folder.path("")).env_clear();
        run(command.args(["server", "0", "users"]).args(arguments))
    };
    // The folder is root's: neither spool nor log can be made there.
    fs::create_dir(folder.path("own")).unwrap();
    chown(folder.path("own"), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir(folder.path("roots")).unwrap();
    folder.chmod("roots", 0o700);
    fs::write(folder.path("log"), "").unwrap();
    folder.chmod("log", 0o600);
    for (arguments, code) in [
        (&["--log", "own/log"][..], 73),
        (&["--spool", "own/spool"], 73),
        (&["--spool", "own/spool", "--log", "log"], 73),
        (&["--spool", "roots", "--log", "own/log"], 77),
    ] {
        let checked = as_nobody(&[arguments, &["--check"]].concat());
        let started = as_nobody(arguments);
        assert_eq!(started.status.code(), Some(code), "{}", text(&started.stderr));
        assert_eq!(checked.status.code(), Some(code), "{}", text(&checked.stdout));
        _ = fs::remove_dir_all(folder.path("own/spool"));
    }
    let sound = as_nobody(&["--spool", "own/spool", "--log", "own/log", "--check"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stdout));
    assert!(text(&sound.stdout).contains("note  users: nobody can change his password"));
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let folder = folder();
    for (arguments, word) in [
        (&["--bind", "0.0.0.0"][..], "--bind"),
        (&["--max-failures", "0"], "--max-failures 0"),
        (&["--block-time", "0"], "--block-time 0"),
        (&["--mailbox-letters", "0"], "--mailbox-letters 0"),
        (&["--mailbox-bytes", "1999"], "--mailbox-bytes"),
        (&["--sync", "never"], "--sync never"),
        (&["--spool-reserve", "0"], "--spool-reserve 0"),
    ] {
        let output = check(&folder, arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(&format!("note  options: {word}")), "{word}");
    }
    assert!(text(&check(&folder, &[]).stdout).contains("ok    options: "));
    // Few descriptors are told as what they mean.
    let few = "ulimit -n 100; exec \"$@\"";
    let mut command = Command::new("sh");
    command.current_dir(folder.path("")).args(["-c", few, "sh", env!("CARGO_BIN_EXE_mms")]);
    let output = run(command.args(["server", "0", "users", "--check"]));
    assert!(text(&output.stdout).contains("ok    limits: 36 connections\nnote  limits: "));
    eventually("nothing was left", || (!folder.path("spool").exists()).then_some(()));
}
