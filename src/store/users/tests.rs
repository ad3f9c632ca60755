//! Stories of the password file: read, refused, edited.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const SHA1: &str = "356a192b7913b04c54574d18c28d46e6395428ab";

/// A directory of one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mms-users-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn users(&self) -> PathBuf {
        self.0.join("users")
    }

    fn with(text: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        fs::write(folder.users(), text).unwrap();
        set_mode(&folder.users(), 0o600);
        folder
    }

    fn text(&self) -> String {
        fs::read_to_string(self.users()).unwrap()
    }

    /// The names of what lies in the directory.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What `load` says against the file, without its path.
    fn fault(&self) -> (UsersErrorKind, String) {
        let error = load(&self.users()).unwrap_err();
        let path = self.users().display().to_string();
        (error.kind, error.to_string().replace(&path, "users"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn name(word: &str) -> UserName {
    UserName::new(word).unwrap()
}

fn verifier(password: &str) -> Verifier {
    Verifier::derive(password.as_bytes(), b"saltsalt", 4096)
}

fn names(path: &Path) -> Vec<String> {
    read(path).unwrap().entries.iter().map(|(name, _)| name.to_string()).collect()
}

fn bad(message: &str) -> (UsersErrorKind, String) {
    (UsersErrorKind::Bad, message.into())
}

#[test]
fn users_come_in_the_order_of_the_file() {
    let (one, two) = (verifier("1"), verifier("2"));
    let folder = Folder::with(format!("# ours\r\n\r\nTim:{one}\r\n  # him too\nfred:{two}"));
    let file = load(&folder.users()).unwrap();
    assert_eq!(file.entries, [(name("Tim"), one), (name("fred"), two)]);
    assert_eq!(file.warnings, [""; 0]);
}

#[test]
fn a_bad_line_refuses_the_file_and_tells_the_line() {
    let good = format!("# comment\n\nfred:{}\n", verifier("1"));
    for (line, message) in [
        (
            "tim hunter2",
            "users: line 4: the password of tim is in plain text; convert the file with: \
             mms user import users users.new",
        ),
        (
            "tim:hunter2",
            "users: line 4: the password of tim is in plain text; convert the file with: \
             mms user import users users.new",
        ),
        (
            &format!("tim:{SHA1}"),
            "users: line 4: the password of tim is a SHA-1 hash, which cannot be converted \
             without the password; convert the others with: mms user import users users.new, \
             then give tim a new one with: mms user add users.new tim",
        ),
        (
            &format!("FRED:{}", verifier("2")),
            "users: line 4: FRED is in line 3 already; remove one of the two",
        ),
        ("tim:", "users: line 4: tim has no password; correct or remove the line"),
        (
            "usage:x",
            "users: line 4: it does not start with a user name: the words 'user', 'message', \
             'coded', 'usage', 'also', 'mms', and the commands cannot be names; correct or \
             remove the line",
        ),
        (
            "hunter2",
            "users: line 4: expected name:SCRAM-SHA-256$…, found a single word; correct or \
             remove the line",
        ),
        (
            "tim:SCRAM-SHA-256$1:hunter2$hunter2:hunter2",
            "users: line 4: the password of tim is damaged: the salt is base64 of 8 to 64 \
             bytes; correct or remove the line",
        ),
        (
            "hunter/2 hunter2",
            "users: line 4: it does not start with a user name: a name has only letters a-z, \
             digits, '_', '-' and '.'; correct or remove the line",
        ),
        (
            &format!("# {}", "hunter2".repeat(200)),
            "users: line 4: it is longer than 1024 bytes; shorten or remove it",
        ),
    ] {
        let folder = Folder::with(format!("{good}{line}\n"));
        assert_eq!(folder.fault(), bad(message), "{line}");
    }
}

#[test]
fn a_file_without_users_says_how_to_add_one() {
    for text in ["", "# nobody\n\n"] {
        let message = "users: it has no users; add one with: mms user add users <name>";
        assert_eq!(Folder::with(text).fault(), bad(message));
    }
}

#[test]
fn what_is_no_text_file_is_refused() {
    let not_utf8 = Folder::with(b"# ok\nk\xe4the:x\n");
    let message = "users: line 2: it is not UTF-8; save the file as UTF-8 or ASCII";
    assert_eq!(not_utf8.fault(), bad(message));
    let large = Folder::with("");
    File::options().write(true).open(large.users()).unwrap().set_len(USERS_FILE_BYTES + 1).unwrap();
    let message = "users: it is larger than 256 MiB; is it a password file?";
    assert_eq!(large.fault(), bad(message));
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = Folder::new();
    let missing = "users: no such file; make it with: mms user add users <name>";
    assert_eq!(folder.fault(), (UsersErrorKind::Missing, missing.into()));
    fs::create_dir(folder.users()).unwrap();
    let message = "users: it is a directory; name the password file in it";
    assert_eq!(folder.fault(), (UsersErrorKind::Unreadable, message.into()));
    fs::remove_dir(folder.users()).unwrap();
    assert!(Command::new("mkfifo").arg(folder.users()).status().unwrap().success());
    let message = "users: it is not a regular file; name the password file";
    assert_eq!(folder.fault(), (UsersErrorKind::Unreadable, message.into()));
    let inside = load(&folder.users().join("x")).unwrap_err();
    assert_eq!(inside.kind, UsersErrorKind::Unreadable);
}

#[test]
fn nobody_else_may_write_to_it() {
    let path = Path::new("users");
    assert_eq!(check_writers(path, 0o100_644, 7, 8).unwrap(), [""; 0]);
    let warnings = check_writers(path, 0o100_664, 7, 7).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("chmod g-w users"), "{warnings:?}");
    for (mode, uid, gid, advice) in [
        (0o100_664, 7, 8, "users: its group may write to it; forbid it with: chmod g-w users"),
        (0o100_646, 7, 7, "users: everyone may write to it; forbid it with: chmod o-w users"),
    ] {
        let error = check_writers(path, mode, uid, gid).unwrap_err();
        assert_eq!((error.kind, error.to_string()), (UsersErrorKind::Permission, advice.into()));
    }
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    set_mode(&folder.users(), 0o666);
    assert_eq!(folder.fault().0, UsersErrorKind::Permission);
    let change = Change::Remove(name("fred"));
    assert_eq!(edit(&folder.users(), &change).unwrap_err().kind, UsersErrorKind::Permission);
}

#[test]
fn changes_keep_comments_order_and_line_ends() {
    let (one, two, new) = (verifier("1"), verifier("2"), verifier("3"));
    let folder = Folder::with(format!("# a\r\nfred:{one}\r\n\n# b\nTim:{two}\n# end"));
    let path = folder.users();
    let done = edit(&path, &Change::SetPassword(name("FRED"), new.clone())).unwrap();
    assert_eq!(done, Edited { users: 2, created: false, skipped: vec![] });
    assert_eq!(folder.text(), format!("# a\r\nfred:{new}\r\n\n# b\nTim:{two}\n# end"));
    edit(&path, &Change::Add(name("seas"), one.clone())).unwrap();
    assert_eq!(
        folder.text(),
        format!("# a\r\nfred:{new}\r\n\n# b\nTim:{two}\n# end\nseas:{one}\n")
    );
    let done = edit(&path, &Change::Remove(name("tim"))).unwrap();
    assert_eq!(done.users, 2);
    assert_eq!(folder.text(), format!("# a\r\nfred:{new}\r\n\n# b\n# end\nseas:{one}\n"));
    let both = vec![(name("SEAS"), two.clone()), (name("x"), two.clone())];
    let done = edit(&path, &Change::Append(both)).unwrap();
    assert_eq!(done, Edited { users: 3, created: false, skipped: vec![name("SEAS")] });
    assert_eq!(folder.text(), format!("# a\r\nfred:{new}\r\n\n# b\n# end\nseas:{one}\nx:{two}\n"));
    assert_eq!(folder.files(), ["users"], "and leave nothing behind");
}

#[test]
fn a_change_that_cannot_be_changes_nothing() {
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    let before = folder.text();
    for (change, kind) in [
        (Change::Add(name("Fred"), verifier("2")), UsersErrorKind::Exists),
        (Change::SetPassword(name("tim"), verifier("2")), UsersErrorKind::NoUser),
        (Change::Remove(name("tim")), UsersErrorKind::NoUser),
    ] {
        assert_eq!(edit(&folder.users(), &change).unwrap_err().kind, kind);
    }
    assert_eq!(folder.text(), before);
    fs::write(folder.users(), format!("{before}tim secret\n")).unwrap();
    let error = edit(&folder.users(), &Change::Remove(name("fred"))).unwrap_err();
    assert_eq!(error.kind, UsersErrorKind::Bad);
    assert_eq!(folder.text(), format!("{before}tim secret\n"));
    assert_eq!(folder.files(), ["users"]);
}

#[test]
fn a_file_is_made_for_its_first_user() {
    let folder = Folder::new();
    let path = folder.users();
    for change in [Change::Remove(name("fred")), Change::SetPassword(name("fred"), verifier("1"))] {
        assert_eq!(edit(&path, &change).unwrap_err().kind, UsersErrorKind::Missing);
    }
    let done = edit(&path, &Change::Append(vec![])).unwrap();
    assert_eq!(done, Edited { users: 0, created: false, skipped: vec![] });
    assert_eq!(folder.files(), [""; 0], "nothing to write, nothing made");
    let done = edit(&path, &Change::Add(name("fred"), verifier("1"))).unwrap();
    assert_eq!(done, Edited { users: 1, created: true, skipped: vec![] });
    assert_eq!(mode(&path), 0o600);
    let nowhere = folder.0.join("none/users");
    let error = edit(&nowhere, &Change::Add(name("fred"), verifier("1"))).unwrap_err();
    assert_eq!(error.kind, UsersErrorKind::CannotCreate);
}

#[test]
fn a_change_keeps_the_mode_and_the_link() {
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    let (real, link) = (folder.0.join("real"), folder.users());
    fs::rename(&link, &real).unwrap();
    symlink("real", &link).unwrap();
    set_mode(&real, 0o640);
    edit(&link, &Change::Add(name("tim"), verifier("2"))).unwrap();
    assert_eq!(names(&real), ["fred", "tim"]);
    assert_eq!(mode(&real), 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    fs::remove_file(&real).unwrap();
    let error = edit(&link, &Change::Add(name("tim"), verifier("2"))).unwrap_err();
    assert_eq!(error.kind, UsersErrorKind::Missing, "who knows what the link meant");
}

#[test]
fn what_a_crash_left_behind_is_in_nobodys_way() {
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    fs::write(folder.0.join(".users.new"), "half a fi").unwrap();
    edit(&folder.users(), &Change::Add(name("tim"), verifier("2"))).unwrap();
    assert_eq!(names(&folder.users()), ["fred", "tim"]);
    assert_eq!(folder.files(), ["users"]);
}

#[test]
fn a_failed_write_leaves_the_file_as_it_was() {
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    // A directory where the temporary file should go: it can be neither removed nor replaced.
    fs::create_dir(folder.0.join(".users.new")).unwrap();
    let error = edit(&folder.users(), &Change::Remove(name("fred"))).unwrap_err();
    assert_eq!(error.kind, UsersErrorKind::Io);
    assert_eq!(names(&folder.users()), ["fred"]);
}

#[test]
fn no_concurrent_edit_is_lost() {
    let folder = Folder::new();
    let path = folder.users();
    thread::scope(|scope| {
        for editor in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..10 {
                    let user = name(&format!("u{editor}-{n}"));
                    edit(path, &Change::Add(user, verifier("1"))).unwrap();
                }
            });
        }
    });
    assert_eq!(names(&path).len(), 40);
    assert_eq!(folder.files(), ["users"]);
}

#[test]
fn an_older_file_is_understood() {
    let folder = Folder::with(format!(
        "# old\n\nfred secret one\r\nTim:secret\nseas {SHA1}\nlibero:{}\n",
        verifier("1")
    ));
    let old = load_old(&folder.users()).unwrap();
    let told = format!("{old:?}");
    assert!(!told.contains("secret one"), "{told}");
    let found: Vec<_> = old
        .users
        .iter()
        .map(|(name, password)| match password {
            OldPassword::Plain(plain) => format!("{name} {}", String::from_utf8_lossy(plain)),
            OldPassword::Verifier(verifier) => format!("{name} {verifier}"),
        })
        .collect();
    let libero = format!("libero {}", verifier("1"));
    assert_eq!(found, ["fred secret one", "Tim secret", &libero]);
    assert_eq!(old.sha1, [name("seas")]);
    let damaged = Folder::with("fred secret\nFRED other\n");
    assert_eq!(load_old(&damaged.users()).unwrap_err().kind, UsersErrorKind::Bad);
}

#[test]
fn the_sample_file_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("users");
    let (text, _) = read_text(&path).unwrap();
    let users = parse(&path, &text).unwrap();
    let found: Vec<_> = users.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, ["fred", "francoc", "Tim", "libero", "columbia", "seas"]);
    for (name, verifier) in &users {
        let password = format!("{}1", name.as_str().to_lowercase());
        let mut check = crate::core::password::Check::new(password.as_bytes(), verifier);
        assert_eq!(check.step(4096), Some(true), "{name}");
        assert!(text.contains(&password));
    }
}

#[test]
fn a_password_is_replaced_only_if_it_is_the_one_that_was_known() {
    let (one, two, new) = (verifier("1"), verifier("2"), verifier("3"));
    let text = |fred: &Verifier| format!("# a\r\nFred:{fred}\r\n\n# b\nTim:{two}\n# end");
    let folder = Folder::with(text(&one));
    let replace = |user: &str, old: &Verifier| {
        let (user, old, new) = (name(user), old.clone(), new.clone());
        try_edit(&folder.users(), &Change::ReplacePassword { user, old, new })
    };
    for (user, old, kind) in
        [("fred", &two, UsersErrorKind::Outdated), ("seas", &one, UsersErrorKind::NoUser)]
    {
        assert_eq!(replace(user, old).unwrap_err().kind, kind);
        assert_eq!(folder.text(), text(&one));
    }
    let done = replace("fred", &one).unwrap();
    assert_eq!(done, Edited { users: 2, created: false, skipped: vec![] });
    assert_eq!(folder.text(), text(&new));
    assert_eq!(replace("fred", &one).unwrap_err().kind, UsersErrorKind::Outdated, "twice");
    assert_eq!(folder.files(), ["users"]);
}

#[test]
fn who_must_not_wait_is_told_at_once_that_it_is_locked() {
    let folder = Folder::with(format!("fred:{}\n", verifier("1")));
    let change = Change::SetPassword(name("fred"), verifier("2"));
    let lock = File::open(&folder.0).unwrap();
    lock.lock().unwrap();
    // As often as this it would take for ever to wait each time.
    for _ in 0..100 {
        let error = try_edit(&folder.users(), &change).unwrap_err();
        assert_eq!(error.kind, UsersErrorKind::Busy);
    }
    drop(lock);
    try_edit(&folder.users(), &change).unwrap();
    assert!(folder.text().contains(&verifier("2").to_string()));
}
