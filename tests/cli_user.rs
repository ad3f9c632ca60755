//! `mms user` as a script sees it: the real program, its output and its exit codes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The fewest rounds there may be: these tests are about something else.
const QUICK: &str = "--iterations=4096";
const SHA1: &str = "356a192b7913b04c54574d18c28d46e6395428ab";

/// A directory of one test, in which the program runs, and which goes with it.
struct Folder(PathBuf);

/// How a run of the program ended.
#[derive(Debug, PartialEq)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mms-cli-user-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A folder with a file `users` of fred, whose password is `fred1`.
    fn with_fred() -> Self {
        let folder = Self::new();
        let run = folder.run(&["add", "users", "fred", QUICK], "fred1\n");
        assert_eq!(run, ok("users created\nfred added\n"));
        folder
    }

    fn run(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mms"))
            .arg("user")
            .args(arguments)
            .current_dir(&self.0)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that fails early does not read it, and that is no fault of the test.
        _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn list(&self) -> String {
        let run = self.run(&["list", "users"], "");
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        run.out
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn ok(out: &str) -> Run {
    Run { code: 0, out: out.into(), err: String::new() }
}

fn failed(code: i32, err: &str) -> Run {
    Run { code, out: String::new(), err: format!("mms: {err}\n") }
}

#[test]
fn a_user_comes_and_goes() {
    let folder = Folder::with_fred();
    let mode = fs::metadata(folder.0.join("users")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.run(&["add", "users", "Francoc", QUICK], "x"), ok("Francoc added\n"));
    assert_eq!(folder.list(), "fred    4096\nFrancoc 4096\n");
    assert_eq!(folder.run(&["remove", "users", "FRED"], ""), ok("FRED removed\n"));
    assert_eq!(folder.list(), "Francoc 4096\n");
    let run = folder.run(&["remove", "users", "francoc"], "");
    let warning = "mms: warning: users has no users now; no server starts with it\n";
    assert_eq!(run, Run { err: warning.into(), ..ok("francoc removed\n") });
}

#[test]
fn a_password_is_changed_in_its_line() {
    let folder = Folder::with_fred();
    let before = folder.read("users");
    let run = folder.run(&["passwd", "users", "FRED", "--iterations", "5000"], "new\r\n");
    assert_eq!(run, ok("fred has a new password\n"));
    assert_ne!(folder.read("users"), before);
    assert_eq!(folder.list(), "fred 5000\n");
}

#[test]
fn new_passwords_are_hashed_with_care_and_their_own_salt() {
    let folder = Folder::with_fred();
    assert_eq!(folder.run(&["add", "users", "tim"], "fred1\n").code, 0);
    assert_eq!(folder.run(&["add", "users", "seas", QUICK], "fred1\n").code, 0);
    assert_eq!(folder.list(), "fred 4096\ntim  600000\nseas 4096\n");
    let text = folder.read("users");
    let secrets: Vec<_> = text.lines().map(|line| line.split_once(':').unwrap().1).collect();
    assert_ne!(secrets[0], secrets[2], "the same password, another salt");
    assert!(!text.contains("fred1"));
}

#[test]
fn a_password_that_will_not_do_is_refused() {
    let folder = Folder::with_fred();
    let before = folder.read("users");
    let too_long = "x".repeat(257);
    for (password, message) in [
        (&b""[..], "a password has at least one character"),
        (b"\r\n", "a password has at least one character"),
        (b"a\tb\n", "a password has no control characters"),
        (b"a\x1b[A\n", "a password has no control characters"),
        (b"k\xe4se\n", "a password is UTF-8 or ASCII"),
        (too_long.as_bytes(), "a password has at most 256 bytes"),
        (&[b'y'; 100_000], "a password has at most 256 bytes"),
    ] {
        for arguments in [["add", "users", "tim", QUICK], ["passwd", "users", "fred", QUICK]] {
            assert_eq!(folder.run(&arguments, password), failed(65, message));
        }
    }
    assert_eq!(folder.read("users"), before);
    let longest = format!("{}\r\nanother line\n", "x".repeat(256));
    assert_eq!(folder.run(&["add", "users", "tim", QUICK], longest), ok("tim added\n"));
}

#[test]
fn a_name_that_will_not_do_is_refused() {
    let folder = Folder::with_fred();
    for command in ["add", "passwd", "remove"] {
        let run = folder.run(&[command, "users", "a b"], "x\n");
        let message = "\"a b\": a name has only letters a-z, digits, '_', '-' and '.'";
        assert_eq!(run, failed(65, message), "{command}");
    }
    let run = folder.run(&["add", "users", "FRED"], "x\n");
    let message = "users: FRED exists already; for a new password: mms user passwd users FRED";
    assert_eq!(run, failed(65, message));
    for command in ["passwd", "remove"] {
        let run = folder.run(&[command, "users", "tim"], "x\n");
        assert_eq!(run, failed(67, "users: there is no user tim"), "{command}");
    }
}

#[test]
fn a_file_that_will_not_do_is_refused() {
    let folder = Folder::new();
    let missing = failed(66, "users: no such file; make it with: mms user add users <name>");
    for arguments in
        [&["passwd", "users", "fred"][..], &["remove", "users", "fred"], &["list", "users"]]
    {
        assert_eq!(folder.run(arguments, "x\n"), missing);
    }
    let run = folder.run(&["add", "none/users", "fred", QUICK], "x\n");
    assert_eq!(run, failed(73, "none/users: its directory does not exist; make it first"));
    let run = folder.run(&["list", "."], "");
    assert_eq!(run, failed(66, ".: it is a directory; name the password file in it"));
    folder.write("users", "");
    let run = folder.run(&["list", "users"], "");
    let message = "users: it has no users; add one with: mms user add users <name>";
    assert_eq!(run, failed(78, message));
    folder.write("users", "fred secret\n");
    let message = "users: line 1: the password of fred is in plain text; convert the file with: \
        mms user import users users.new";
    for arguments in [
        &["add", "users", "tim"][..],
        &["passwd", "users", "fred"],
        &["remove", "users", "fred"],
        &["list", "users"],
    ] {
        assert_eq!(folder.run(arguments, "x\n"), failed(78, message));
    }
}

#[test]
fn a_file_that_everyone_may_write_to_is_refused() {
    let folder = Folder::with_fred();
    let path = folder.0.join("users");
    fs::set_permissions(path, fs::Permissions::from_mode(0o646)).unwrap();
    let refused = failed(77, "users: everyone may write to it; forbid it with: chmod o-w users");
    for arguments in [
        &["add", "users", "tim"][..],
        &["passwd", "users", "fred"],
        &["remove", "users", "fred"],
        &["list", "users"],
    ] {
        assert_eq!(folder.run(arguments, "x\n"), refused);
    }
}

#[test]
fn an_older_file_is_converted() {
    let folder = Folder::with_fred();
    let fred = folder.read("users");
    folder.write("old", "# ours\n\nFred other\r\ntim tim1\nlibero:a:b\n");
    let run = folder.run(&["import", "old", "users", QUICK], "");
    assert_eq!(run, ok("tim added\nlibero added\nFred skipped: is in users already\n"));
    assert_eq!(folder.list(), "fred   4096\ntim    4096\nlibero 4096\n");
    assert!(folder.read("users").starts_with(&fred));
    let after = folder.read("users");
    let run = folder.run(&["import", "old", "users", QUICK], "");
    assert_eq!(run.code, 0, "again, it changes nothing");
    assert_eq!(folder.read("users"), after);
}

#[test]
fn a_sha1_hash_is_told_and_skipped() {
    let folder = Folder::new();
    folder.write("old", &format!("fred {SHA1}\ntim tim1\n"));
    let run = folder.run(&["import", "old", "users", QUICK], "");
    let out = "tim added\nfred skipped: a SHA-1 hash does not tell the password; give a new one \
        with: mms user add users fred\n";
    let err = "mms: old: 1 of 2 users could not be converted\n";
    assert_eq!(run, Run { code: 65, out: out.into(), err: err.into() });
    assert_eq!(folder.list(), "tim 4096\n");
    assert_eq!(folder.run(&["add", "users", "fred", QUICK], "x\n").code, 0);
    let run = folder.run(&["import", "old", "users", QUICK], "");
    assert_eq!(run.code, 0, "fred has a password now: {run:?}");
}

#[test]
fn an_older_file_with_a_fault_writes_nothing() {
    let folder = Folder::new();
    folder.write("old", "tim tim1\nfred\n");
    let message = "old: line 2: expected name:SCRAM-SHA-256$…, found a single word; correct or \
        remove the line";
    assert_eq!(folder.run(&["import", "old", "users"], ""), failed(78, message));
    assert!(!folder.0.join("users").exists());
    assert_eq!(folder.run(&["import", "none", "users"], "").code, 66);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let folder = Folder::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["add", "users"],
        &["add", "users", "fred", "secret"],
        &["add", "users", "fred", "--iterations", "4095"],
        &["add", "users", "fred", "--iterations", "100000001"],
        &["add", "users", "fred", "--iterations", "many"],
        &["list"],
    ] {
        let run = folder.run(arguments, "x\n");
        assert_eq!((run.code, run.out.as_str()), (64, ""), "{arguments:?}");
        assert!(run.err.contains("--help") || run.err.contains("Usage: mms user"), "{}", run.err);
    }
}

#[test]
fn each_help_teaches_by_example() {
    let folder = Folder::new();
    for command in ["", "add", "passwd", "remove", "list", "import"] {
        let arguments = [command, "--help"];
        let run = folder.run(&arguments[usize::from(command.is_empty())..], "");
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{command}");
        assert!(run.out.contains("\n  mms user "), "{}", run.out);
    }
}

#[test]
fn a_reader_who_leaves_early_is_no_fault() {
    let folder = Folder::with_fred();
    // The pipe breaks for sure only if nobody holds its other end when the program writes.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_mms"))
        .args(["user", "list", "users"])
        .current_dir(&folder.0)
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn a_full_device_is_told() {
    let folder = Folder::with_fred();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mms"))
        .args(["user", "list", "users"])
        .current_dir(&folder.0)
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("mms: stdout: "));
}
