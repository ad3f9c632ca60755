//! A user changes his password at the real server: what becomes of the password file, of his
//! sessions and of everybody else, while the file is locked, edited or cannot be written.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::fs::{self, File};
use support::server::{Folder, PASSWORD, Server, mms, run, user_line, users_file};

const CHANGED: &str = ">> password changed; your other sessions are signed off";

/// A password file with more in it than users.
fn file() -> String {
    let line = |name| user_line(name, PASSWORD).replace('\n', "");
    format!("# ours\r\n{}\r\n\n  # him too\n{}\n# end", line("Fred"), line("tim"))
}

fn server() -> Server {
    let folder = Folder::new();
    folder.write("users", &file());
    folder.chmod("users", 0o640);
    Server::start_in(folder, &[])
}

#[test]
fn a_changed_password_holds_and_nothing_else_is_touched() {
    let mut server = server();
    let (mut fred, mut tim) = (server.signed_in("Fred"), server.signed_in("tim"));
    let mut script = server.greeted();
    script.say("coded 1");
    script.say(&format!("signin fred tool plain {PASSWORD}"));
    script.expect("230");
    // In two pieces of one line each: what stands behind it waits for the answer.
    fred.send(format!("passwd {PASSWORD} fresh-one\r\nwhoelse\r\n").as_bytes());
    assert_eq!(fred.line(), CHANGED);
    assert_eq!(fred.line(), ">> User tim is online");
    assert_eq!(script.rest(), ["190 password-changed"]);
    let (before, after) = (file(), server.folder.read("users"));
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    for (n, (old, new)) in lines(&before).iter().zip(lines(&after)).enumerate() {
        assert_eq!(*old == new, n != 1, "line {n}: {old:?} {new:?}");
    }
    assert!(lines(&after)[1].starts_with("Fred:SCRAM-SHA-256$600000:"), "{after}");
    assert!(lines(&after)[1].ends_with("\r\n") && lines(&after).len() == lines(&before).len());
    assert_eq!(server.folder.mode("users"), 0o640);
    assert!(!server.folder.path(".users.new").exists());
    // A reload finds what is known already.
    server.signal("HUP");
    server.logs("users reloaded: 2");
    assert_eq!(fred.ask("whoelse"), ">> User tim is online");
    assert_eq!(tim.ask("whoelse"), ">> User Fred is online");
    drop(fred);
    server.logs("[security] password-changed from 127.0.0.1: Fred");
    server.logs("Fred: passwd");
    server.kill9();
    server.restart();
    let mut guest = server.greeted();
    let refused = guest.ask(&format!("signin fred {PASSWORD}"));
    assert_eq!(refused, ">> user fred is not authorized to use MMS");
    guest.sign_in("Fred", "fresh-one");
    for secret in [PASSWORD, "fresh-one"] {
        assert!(!server.log().contains(secret), "{}", server.log());
    }
    let journal: String = fs::read_dir(server.folder.path("spool"))
        .unwrap()
        .map(|entry| String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into())
        .collect::<Vec<String>>()
        .concat();
    assert!(!journal.contains("fresh-one"));
}

#[test]
fn what_is_typed_at_the_prompts_is_hidden() {
    let server = server();
    let (mut fred, mut tim) = (server.signed_in("Fred"), server.signed_in("tim"));
    fred.say("passwd");
    fred.expect_prompt_for("Current password: ");
    assert_eq!(tim.ask("send fred hi"), ">> message sent to Fred");
    assert_eq!((fred.line(), fred.line()), (String::new(), ">> tim: hi".into()));
    fred.expect_prompt_for("Current password: ");
    assert_eq!(fred.commands, [[255, 251, 1]; 2], "never shown in between");
    fred.say(PASSWORD);
    assert_eq!(fred.line(), "");
    fred.expect_prompt_for("New password: ");
    fred.say("two words");
    assert_eq!(fred.line(), "");
    fred.expect_prompt_for("New password again: ");
    fred.say("two words");
    assert_eq!((fred.line(), fred.line()), (String::new(), CHANGED.into()));
    let (hide, show) = ([255, 251, 1], [255, 252, 1]);
    assert_eq!(fred.commands, [hide, hide, show, hide, show, hide, show]);
    drop(fred);
    server.logs("Fred signed off");
    server.greeted().sign_in("Fred", "two words");
    tim.say("passwd");
    tim.expect_prompt_for("Current password: ");
    server.signal("TERM");
    assert_eq!(tim.rest(), ["", ">> MMS is shutting down"]);
    assert_eq!(tim.commands.last(), Some(&show), "typing is shown again");
}

#[test]
fn somebody_elses_lock_holds_up_nobody_but_the_change() {
    let server = server();
    let (mut fred, mut tim) = (server.signed_in("Fred"), server.signed_in("tim"));
    let lock = File::open(server.folder.path(".")).unwrap();
    lock.lock().unwrap();
    fred.say(&format!("passwd {PASSWORD} fresh-one"));
    let mut asked = 0;
    // For as long as he waits, others are served. The server gives up by itself.
    fred.stream.set_nonblocking(true).unwrap();
    while fred.stream.peek(&mut [0]).is_err() {
        assert_eq!(tim.ask("whoelse"), ">> User Fred is online");
        asked += 1;
    }
    fred.stream.set_nonblocking(false).unwrap();
    assert_eq!(fred.line(), ">> the password cannot be changed now, try again later");
    assert!(asked > 100, "{asked}");
    assert_eq!(server.folder.read("users"), file());
    fred.say(&format!("passwd {PASSWORD} fresh-one"));
    // The line was read, and the password is being checked at least.
    server.logs("Fred: passwd");
    assert_eq!(tim.ask("whoelse"), ">> User Fred is online");
    drop(lock);
    assert_eq!(fred.line(), CHANGED);
    server
        .logs("[security] password-kept from 127.0.0.1: Fred: somebody else keeps the file locked");
}

#[test]
fn an_edit_of_the_operator_goes_before() {
    let server = server();
    let mut fred = server.signed_in("Fred");
    let (was, his) = (user_line("Fred", PASSWORD), user_line("fred", "his"));
    let another = file().replace(was.trim_end(), his.trim_end());
    for text in [file().replacen("Fred:", "# Fred:", 1), another] {
        assert_ne!(text, file());
        server.folder.write("users", &text);
        let told = fred.ask(&format!("passwd {PASSWORD} fresh-one"));
        assert_eq!(
            told, ">> the password file was changed meanwhile; not changed, sign in again",
            "{text}"
        );
        assert_eq!(server.folder.read("users"), text);
    }
    server.signal("HUP");
    assert_eq!(fred.rest(), [">> signed off: the password was changed, signin again"]);
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing_and_stops_nobody() {
    let server = server();
    let mut fred = server.signed_in("Fred");
    // Where the temporary file would go: it can be neither removed nor replaced, even by root.
    fs::create_dir(server.folder.path(".users.new")).unwrap();
    let refused = ">> the password file cannot be written; not changed, the operator can help";
    assert_eq!(fred.ask(&format!("passwd {PASSWORD} fresh-one")), refused);
    assert_eq!(server.folder.read("users"), file());
    server.logs("password of Fred not saved: users: cannot write: ");
    assert_eq!(server.log().matches("password of Fred not saved").count(), 1);
    fs::rename(server.folder.path("users"), server.folder.path("elsewhere")).unwrap();
    assert_eq!(fred.ask(&format!("passwd {PASSWORD} fresh-one")), refused);
    server.logs("password of Fred not saved: users: no such file");
    fs::rename(server.folder.path("elsewhere"), server.folder.path("users")).unwrap();
    fs::remove_dir(server.folder.path(".users.new")).unwrap();
    assert_eq!(fred.ask(&format!("passwd {PASSWORD} fresh-one")), CHANGED);
    assert_eq!(fred.ask("passwd fresh-one fresh-one"), CHANGED, "the same again");
}

#[test]
fn the_operators_command_and_the_users_get_along() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    let mut lines = users_file(&["fred", "tim"]);
    for n in 0..3 {
        let old = if n == 0 { PASSWORD.to_owned() } else { format!("fred-{n}") };
        fred.say(&format!("passwd {old} fred-{}", n + 1));
        let name = format!("new-{n}");
        let mut add = mms(&server.folder);
        add.args(["user", "import", "plain", "users", "--iterations", "4096"]);
        server.folder.write("plain", &format!("{name} {name}\n"));
        assert!(run(&mut add).status.success());
        assert_eq!(fred.line(), CHANGED);
        lines += &user_line(&name, &name);
    }
    server.signal("HUP");
    server.logs("users reloaded: 5");
    assert_eq!(tim.ask("whoelse"), ">> User fred is online");
    let names: Vec<String> = lines.lines().map(|l| l.split(':').next().unwrap().into()).collect();
    let text = server.folder.read("users");
    let found: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(found, names);
    drop(fred);
    server.logs("fred signed off");
    server.greeted().sign_in("fred", "fred-3");
    server.greeted().sign_in("new-2", "new-2");
}
