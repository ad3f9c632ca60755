//! The companion in a pseudo-terminal and behind a pipe, against the real server: what one types
//! is never disturbed, nothing is lost or doubled when the server dies, and the terminal is left as
//! it was found.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use rexpect::process::PtyProcess;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::server::{Folder, PASSWORD, Server, eventually, mms};

/// Longer than anything takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
const USERS: [&str; 3] = ["fred", "Tim", "libero"];

/// A person at a terminal.
struct Terminal {
    process: PtyProcess,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    /// How much of the text was looked at.
    seen: usize,
}

impl Terminal {
    /// Starts the client; behind it the terminal's settings and the exit code are shown.
    fn start(folder: &Folder, address: SocketAddr, options: &str) -> Self {
        Self::start_on("xterm", 80, folder, address, options)
    }

    fn start_on(
        term: &str,
        columns: u32,
        folder: &Folder,
        address: SocketAddr,
        options: &str,
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        let program = env!("CARGO_BIN_EXE_mms");
        let port = address.port();
        let script = format!(
            "stty sane cols {columns} rows 24; tty; TERM={term} \
             {program} client {options} 127.0.0.1 {port}; \
             echo \"ended with $?\"; stty -a; echo over"
        );
        command.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("HOME", folder.path("home")).env("NO_COLOR", "1");
        command.current_dir(folder.path("."));
        let process = PtyProcess::new(command).unwrap();
        let keyboard = process.get_file_handle().unwrap();
        let mut screen = process.get_file_handle().unwrap();
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { process, keyboard, output, bytes: vec![], seen: 0 }
    }

    /// Signed in, at the prompt.
    fn signed_in(folder: &Folder, address: SocketAddr, user: &str) -> Self {
        folder.write("password", PASSWORD);
        let options = format!("--user {user} --password-file password");
        let mut terminal = Self::start(folder, address, &options);
        terminal.shows("Welcome", 1);
        terminal.shows(" online\r\n", 1);
        terminal.shows("\r> ", 1);
        terminal
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What was shown so far, without what drives the terminal.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c == '\x1b' {
                // ESC [ … letter
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| c.is_ascii_alphabetic());
                }
            } else {
                plain.push(c);
            }
        }
        plain
    }

    /// Waits until this is shown behind what was waited for last.
    #[track_caller]
    fn expect(&mut self, what: &str) {
        let seen = self.seen;
        let find = |text: &str| text.get(seen..).and_then(|rest| rest.find(what));
        self.wait(what, |text| find(text).is_some());
        self.seen += find(&self.text()).unwrap_or_default() + what.len();
    }

    /// Waits until this was shown so often, wherever.
    #[track_caller]
    fn shows(&mut self, what: &str, times: usize) {
        self.wait(what, |text| text.matches(what).count() >= times);
    }

    #[track_caller]
    fn wait(&mut self, what: &str, there: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !there(&self.text()) {
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.bytes.extend(bytes),
                Err(error) => panic!("{what:?} never came ({error}): {:?}", self.text()),
            }
        }
    }

    /// Waits until what is typed is not shown.
    fn hides(&mut self) {
        self.shows("\n", 1);
        let text = self.text();
        let device = text.lines().next().unwrap().trim();
        eventually("hidden input", || {
            let output = Command::new("stty").args(["-F", device, "-a"]).output().unwrap();
            let settings = String::from_utf8(output.stdout).unwrap();
            settings.split_whitespace().any(|set| set == "-echo").then_some(())
        });
    }

    fn count(&self, what: &str) -> usize {
        self.text().matches(what).count()
    }

    /// The client has ended with this code, and the terminal is as before.
    #[track_caller]
    fn ends(&mut self, code: u8) {
        self.expect(&format!("ended with {code}"));
        self.expect("over");
        let text = self.text();
        let settings = text.rsplit_once("ended with").unwrap().1;
        for wanted in ["icanon", "echo", "isig", "icrnl", "opost"] {
            assert!(settings.split_whitespace().any(|set| set == wanted), "{wanted}: {settings}");
        }
    }
}

/// A port that stays while servers behind it come and go.
struct Door {
    address: SocketAddr,
    behind: Arc<Mutex<SocketAddr>>,
    /// What clients say gets lost.
    mute: Arc<AtomicBool>,
}

impl Door {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(server.address));
        let mute = Arc::new(AtomicBool::new(false));
        let (shared, deaf) = (Arc::clone(&behind), Arc::clone(&mute));
        // Ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(*shared.lock().unwrap());
                // Nobody there: the client is let go at once.
                let Ok(server) = server else { continue };
                let never = Arc::new(AtomicBool::new(false));
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&deaf));
                pass(server, client, never);
            }
        });
        Self { address, behind, mute }
    }

    fn lead_to(&self, server: &Server) {
        *self.behind.lock().unwrap() = server.address;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mute: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !mute.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        _ = to.shutdown(Shutdown::Both);
        _ = from.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_message_whose_acknowledgement_was_lost_is_shown_once() {
    let mut server = Server::start(&USERS, &[]);
    let door = Door::to(&server);
    let mut fred = Terminal::signed_in(&server.folder, door.address, "fred");
    door.mute.store(true, Ordering::SeqCst);
    server.signed_in("libero").ask("send fred first.");
    fred.shows("libero: first.", 1);
    server.kill9();
    fred.shows("connecting again", 1);
    door.mute.store(false, Ordering::SeqCst);
    server.restart();
    door.lead_to(&server);
    server.signed_in("libero").ask("send fred second.");
    fred.shows("libero: second.", 1);
    fred.keys("\x04");
    fred.ends(0);
    assert!(fred.text().contains("connected again; "), "{}", fred.text());
    assert_eq!(fred.count("libero: first."), 1, "{}", fred.text());
    assert!(server.greeted().sign_in("fred", PASSWORD).contains("no messages"));
}

#[test]
fn what_is_typed_is_not_disturbed_by_four_hundred_messages() {
    let server = Server::start(&USERS, &[]);
    let mut tim = server.signed_in("Tim");
    let mut libero = server.signed_in("libero");
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    fred.shows("Users fred, Tim, and libero are online", 1);
    fred.keys("send tim Zażółć 👩 wp");
    fred.expect("wp");
    for n in 1..=400 {
        libero.say(&format!("send fred number {n}."));
        if n == 200 {
            fred.keys("ó");
        }
    }
    fred.expect("number 400.");
    fred.keys("ł\r");
    fred.expect("message sent to Tim");
    assert_eq!(tim.line(), ">> fred: Zażółć 👩 wpół");
    for n in 1..=400 {
        assert_eq!(fred.count(&format!("libero: number {n}.")), 1, "{n}");
    }
    fred.keys("\x04");
    fred.ends(0);
    assert!(fred.text().contains("Thank you for using MMS!"));
}

#[test]
fn ctrl_c_clears_the_line_first_and_asks_then() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    fred.keys("send tim no");
    fred.expect("send tim no");
    fred.keys("\x03");
    fred.expect("> ");
    fred.keys("whoelse\r");
    fred.expect("Nobody else is online");
    assert_eq!(fred.count("Leave?"), 0);
    fred.keys("\x03");
    fred.expect("Leave?");
    fred.keys("send Ti\tstay\r");
    fred.expect("Tim is offline, message will be saved");
    fred.keys("\x03");
    fred.expect("Leave?");
    fred.keys("\x03");
    fred.ends(0);
    assert_eq!(server.signed_in("Tim").line(), ">>      fred: stay");
}

#[test]
fn a_password_is_not_shown_and_a_wrong_one_is_asked_for_again() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::start(&server.folder, server.address, "");
    fred.expect("User: ");
    fred.keys("fred\r");
    fred.expect("Password for fred: ");
    fred.hides();
    fred.keys("wrong-one\r");
    fred.expect("user or password is wrong");
    fred.expect("Password for fred: ");
    fred.hides();
    fred.keys(&format!("{PASSWORD}\r"));
    fred.expect("Welcome fred, you have no messages waiting");
    fred.expect("> ");
    fred.keys("/signout\r");
    fred.expect("Thank you for using MMS!");
    fred.ends(0);
    assert_eq!((fred.count("wrong-one"), fred.count(PASSWORD)), (0, 0));
}

#[test]
fn a_password_is_changed_unseen_and_the_next_sign_in_uses_it() {
    let mut server = Server::start(&USERS, &[]);
    let door = Door::to(&server);
    let mut libero = server.signed_in("libero");
    let mut fred = Terminal::signed_in(&server.folder, door.address, "fred");
    fred.keys("/passwd\r");
    fred.expect("Current password: ");
    fred.hides();
    assert!(libero.ask("send fred meanwhile.").contains("message sent"));
    fred.keys(&format!("{PASSWORD}\r"));
    fred.expect("New password: ");
    fred.keys("two words\r");
    fred.expect("New password again: ");
    fred.hides();
    fred.keys("two words\r");
    fred.shows("libero: meanwhile.", 1);
    fred.expect("password changed; your other sessions are signed off");
    server.kill9();
    fred.shows("the connection was lost; connecting again", 1);
    server.restart();
    door.lead_to(&server);
    fred.shows("connected again; no messages were missed", 1);
    for (keys, told) in [
        ("\x03", "the password was not changed"),
        ("half of i\x03", "the password was not changed"),
        ("\r", "the password was not changed"),
    ] {
        fred.keys("passwd\r");
        fred.expect("Current password: ");
        fred.hides();
        fred.keys(keys);
        fred.expect(told);
        fred.expect("> ");
    }
    fred.keys("passwd\r");
    fred.expect("Current password: ");
    fred.keys("wrong\r");
    fred.expect("New password: ");
    fred.keys("one\r");
    fred.expect("New password again: ");
    fred.keys("other\r");
    fred.expect("the new passwords differ; nothing was changed");
    fred.keys("passwd\r");
    fred.expect("Current password: ");
    fred.keys("wrong\r");
    fred.expect("New password: ");
    fred.keys("one\r");
    fred.expect("New password again: ");
    fred.keys("one\r");
    fred.expect("the current password is wrong; nothing was changed");
    fred.keys("\x04");
    fred.expect("Thank you for using MMS!");
    fred.ends(0);
    for secret in [PASSWORD, "two words", "half of i", "wrong\r", "one\r"] {
        assert_eq!(fred.count(secret), 0, "{secret}: {}", fred.text());
    }
    server.greeted().sign_in("fred", "two words");
}

#[test]
fn passwords_that_are_typed_ahead_are_not_shown_nor_sent() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    // All at once, as a paste comes from a terminal that does not mark it as one.
    fred.keys(&format!("passwd\r{PASSWORD}\rtwo words\rtwo words\rwhoelse\r"));
    fred.expect("password changed; your other sessions are signed off");
    fred.expect("Nobody else is online");
    for secret in [PASSWORD, "two words", "is no command"] {
        assert_eq!(fred.count(secret), 0, "{secret}: {}", fred.text());
    }
    // And from one that does: it shows what is pasted, which is neither sent nor remembered.
    fred.keys("\x1b[200~passwd\rtwo words\rthree words\rthree words\r\x1b[201~\r");
    fred.expect("password changed; your other sessions are signed off");
    let shown = fred.count("three words");
    fred.keys("\x1b[A\r");
    fred.expect("Nobody else is online");
    fred.keys("passwd\r");
    fred.expect("Current password: ");
    fred.hides();
    // Nothing is completed meanwhile, and a paste answers as many questions as it has lines.
    fred.keys("who\t\t\x15\x1b[200~three words\rfour words\r\x1b[201~\r");
    fred.expect("New password again: ");
    fred.keys("\x03");
    fred.expect("the password was not changed");
    fred.keys("send libero seen");
    fred.expect("seen");
    fred.keys("\x03");
    fred.expect("> ");
    fred.keys("\x04");
    fred.ends(0);
    assert_eq!((fred.count("three words"), fred.count("is no command")), (shown, 0));
    for unseen in ["four words", "wholast", "Leave?"] {
        assert_eq!(fred.count(unseen), 0, "{unseen}: {}", fred.text());
    }
    server.greeted().sign_in("fred", "three words");
}

#[test]
fn a_session_that_ends_for_good_says_why_at_the_prompt() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    fred.keys("send Tim half");
    let mut tool = server.greeted();
    tool.say("coded 1");
    tool.say(&format!("signin fred tool plain {PASSWORD}"));
    tool.say(&format!("passwd plain {PASSWORD} another"));
    fred.expect("the password of this user was changed; press Enter to leave");
    fred.expect("> send Tim half");
    fred.keys("\r");
    fred.ends(77);
}

#[test]
fn a_server_that_dies_takes_nothing_along() {
    let mut server = Server::start(&USERS, &[]);
    let door = Door::to(&server);
    let mut libero = server.signed_in("libero");
    let mut fred = Terminal::signed_in(&server.folder, door.address, "fred");
    libero.say("send fred before.");
    fred.shows("libero: before.", 1);
    fred.keys("send tim one\r");
    fred.shows("Tim is offline, message will be saved", 1);
    server.kill9();
    fred.shows("the connection was lost; connecting again", 1);
    fred.keys("send tim two\r");
    fred.shows("not connected; it goes out as soon as the server is back", 1);
    fred.keys("send tim half");
    server.restart();
    door.lead_to(&server);
    server.signed_in("libero").say("send fred behind.");
    fred.shows("connected again", 1);
    fred.shows("Tim is offline, message will be saved", 2);
    fred.shows("libero: behind.", 1);
    fred.keys("way\r");
    fred.shows("Tim is offline, message will be saved", 3);
    fred.keys("\x04");
    fred.ends(0);
    assert_eq!((fred.count("libero: before."), fred.count("libero: behind.")), (1, 1));
    let mut tim = server.greeted();
    assert!(tim.sign_in("Tim", PASSWORD).contains("3 messages"));
    for text in ["one", "two", "halfway"] {
        assert_eq!(tim.line(), format!(">>      fred: {text}"));
    }
    // What was shown was acknowledged.
    assert!(server.greeted().sign_in("fred", PASSWORD).contains("no messages"));
}

#[test]
fn lines_that_are_typed_ahead_all_count() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    let lines: String = (0..20).map(|line| format!("send Tim f{line}.\r")).collect();
    fred.keys(&lines);
    told(&mut fred, 20);
    fred.keys("\x04");
    fred.ends(0);
    let mut tim = server.greeted();
    assert!(tim.sign_in("Tim", PASSWORD).contains("20 messages"));
    for line in 0..20 {
        assert_eq!(tim.line(), format!(">>      fred: f{line}."));
    }
}

/// Sees that so many messages were answered with OK.
fn told(terminal: &mut Terminal, times: usize) {
    // What is delivered at once is told in the answer's place.
    let oks = [
        "message sent to ",
        "message will be saved",
        "delivered to Tim\r\n",
        "delivered to fred\r\n",
    ];
    terminal.wait("an answer", |text| {
        oks.iter().map(|ok| text.matches(ok).count()).sum::<usize>() >= times
    });
}

#[test]
fn two_companions_talk_on_across_a_server_that_dies() {
    const ROUNDS: usize = 6;
    const LINES: usize = 4;
    let mut server = Server::start(&USERS, &[]);
    let door = Door::to(&server);
    let mut fred = Terminal::signed_in(&server.folder, door.address, "fred");
    let mut tim = Terminal::signed_in(&server.folder, door.address, "Tim");
    for round in 0..ROUNDS {
        for line in round * LINES..(round + 1) * LINES {
            told(&mut fred, line);
            told(&mut tim, line);
            fred.keys(&format!("send Tim f{line}.\r"));
            tim.keys(&format!("send fred t{line}.\r"));
        }
        if round % 2 == 1 {
            // What was just typed is on its way, stored, or answered.
            server.kill9();
            fred.shows("connecting again", round.div_ceil(2));
            tim.shows("connecting again", round.div_ceil(2));
            server.restart();
            door.lead_to(&server);
        }
    }
    let last = ROUNDS * LINES - 1;
    tim.shows(&format!("fred: f{last}."), 1);
    fred.shows(&format!("Tim: t{last}."), 1);
    for (terminal, sender, letter) in [(&tim, "fred", 'f'), (&fred, "Tim", 't')] {
        let text = terminal.text();
        let mut before = 0;
        for line in 0..=last {
            let shown = format!("Z {sender}: {letter}{line}.");
            let again = format!("Z (again) {sender}: {letter}{line}.");
            // One that the server had offered before it died comes with a mark.
            let all: Vec<_> =
                text.match_indices(&shown).chain(text.match_indices(&again)).collect();
            assert_eq!(all.len(), 1, "{shown} {text}");
            assert!(before < all[0].0, "{shown} comes too early: {text}");
            before = all[0].0;
        }
    }
    for mut terminal in [fred, tim] {
        terminal.keys("\x04");
        terminal.ends(0);
    }
    assert!(server.greeted().sign_in("fred", PASSWORD).contains("no messages"));
    assert!(server.greeted().sign_in("Tim", PASSWORD).contains("no messages"));
}

#[test]
fn a_message_is_marked_once_its_reader_has_it() {
    let server = Server::start(&USERS, &[]);
    let mut tim = Terminal::signed_in(&server.folder, server.address, "Tim");
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    // The companion of the reader has it at once: nothing but that is told, if the machine is not
    // very slow.
    fred.keys("send tim quick\r");
    tim.shows("fred: quick", 1);
    fred.shows("delivered to Tim", 1);
    fred.keys("send libero and later\r");
    fred.shows("libero is offline, message will be saved for future delivery", 1);
    let mut libero = server.greeted();
    libero.sign_in("libero", PASSWORD);
    libero.expect("fred: and later");
    assert_eq!(fred.count("delivered to libero"), 0, "{}", fred.text());
    eventually("the mark", || {
        libero.ask("whoelse");
        while let Ok(bytes) = fred.output.try_recv() {
            fred.bytes.extend(bytes);
        }
        fred.text().contains("delivered to libero: and later\r\n").then_some(())
    });
    // With telnet it takes a line of the reader's.
    fred.keys("send libero still there?\r");
    fred.shows("message sent to libero", 1);
    fred.keys("\x04");
    fred.ends(0);
    assert_eq!(fred.count("delivered to Tim"), 1, "{}", fred.text());
    assert_eq!(fred.count("delivered to libero"), 1, "{}", fred.text());
}

#[test]
fn a_client_that_is_killed_shows_nothing_twice() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    let mut libero = server.signed_in("libero");
    libero.say("send fred first.");
    fred.expect("libero: first.");
    // It was shown; that this is known, too, comes a moment later.
    eventually("the mark", || {
        let mut files = std::fs::read_dir(server.folder.path("home/.local/share/mms")).ok()?;
        let text = std::fs::read_to_string(files.next()?.ok()?.path()).ok()?;
        text.contains("\np ").then_some(())
    });
    // Its terminal goes.
    drop(fred);
    server.logs("fred signed off");
    libero.say("send fred second.");
    libero.expect("fred is offline");
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    fred.expect("libero: second.");
    fred.keys("\x04");
    fred.ends(0);
    assert_eq!(fred.count(" libero: first."), 0, "{}", fred.text());
}

#[test]
fn a_signal_leaves_the_terminal_sane() {
    let server = Server::start(&USERS, &[]);
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    fred.keys("half a li");
    fred.expect("half a li");
    let shell = fred.process.child_pid;
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let killed = Command::new("kill").args(["-s", "TERM", children.trim()]).status().unwrap();
    assert!(killed.success());
    fred.ends(143);
}

#[test]
fn lesser_terminals_do() {
    let server = Server::start(&USERS, &[]);
    server.folder.write("password", PASSWORD);
    let options = "--user fred --password-file password";
    let mut fred = Terminal::start_on("dumb", 80, &server.folder, server.address, options);
    fred.shows(" online\r\n", 1);
    fred.keys("send Tim hi\r");
    fred.shows("Tim is offline", 1);
    fred.keys("\x04");
    fred.ends(0);
    assert!(!fred.bytes.contains(&0x1b), "{:?}", String::from_utf8_lossy(&fred.bytes));
    let mut fred = Terminal::start_on("xterm", 12, &server.folder, server.address, options);
    fred.shows("this terminal is narrow, 12 columns", 1);
    fred.shows("\r> ", 1);
    fred.keys("send Tim hi\r");
    fred.shows("Tim is offline", 1);
    fred.keys("\x04");
    fred.ends(0);
}

#[test]
fn a_home_that_cannot_be_written_is_told_once() {
    let server = Server::start(&USERS, &[]);
    server.folder.write("home", "no folder");
    let mut fred = Terminal::signed_in(&server.folder, server.address, "fred");
    let mut libero = server.signed_in("libero");
    libero.say("send fred hi.");
    fred.expect("libero: hi.");
    fred.keys("send Tim hi\r");
    fred.expect("Tim is offline");
    fred.keys("\x04");
    fred.ends(0);
    assert_eq!(fred.count("no inbox"), 1);
    assert!(server.greeted().sign_in("fred", PASSWORD).contains("no messages"));
}

/// Input from a pipe: what is shown, and the exit code.
fn piped(folder: &Folder, address: SocketAddr, input: &str) -> (i32, String, String) {
    folder.write("password", PASSWORD);
    let mut command = mms(folder);
    command.args(["client", "--user", "fred", "--password-file", "password", "127.0.0.1"]);
    command.arg(address.port().to_string()).env("HOME", folder.path("home"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may have ended before it has read everything.
    let writer = thread::spawn(move || _ = stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_pipe_gets_plain_lines_in_their_order() {
    let server = Server::start(&USERS, &[]);
    let input = "whoelse\nsend tim hi\nsend\nsned\nsend nobody x\nhelp signout\nsend (Tim x) y";
    let (code, out, err) = piped(&server.folder, server.address, input);
    let wanted = "\
Welcome fred, you have no messages waiting
Nobody else is online
Tim is offline, message will be saved for future delivery
send: a user is missing
usage: send <user> <message>
usage: send (<user> <user> ...) <message>
'sned' is no command; did you mean 'send'?
usage: send <user> <message>
usage: send (<user> <user> ...) <message>
no such user: nobody; 'whoison' lists the users
usage: signout
end the session
also: logout, logoff, exit, quit, bye
Tim is offline, message will be saved for future delivery; no such user: x
Thank you for using MMS!
";
    assert_eq!((code, &*out, &*err), (0, wanted, ""));
}

#[test]
fn exit_codes_tell_what_was_wrong() {
    let mut server = Server::start(&USERS, &[]);
    server.folder.write("password", "other");
    let (address, folder) = (server.address, Folder::new());
    let mut command = mms(&folder);
    let file = server.folder.path("password");
    command.args(["client", "--user", "fred", "--password-file"]).arg(file);
    command.args(["127.0.0.1", &address.port().to_string()]);
    let output = support::server::run(&mut command);
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    server.kill9();
    assert_eq!(piped(&server.folder, address, "").0, 69);
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let says = thread::spawn(move || {
        let (mut client, _) = stranger.accept().unwrap();
        client.write_all(b"220 mail ready\r\n").unwrap();
        _ = client.read(&mut [0; 999]);
    });
    let (code, _, err) = piped(&folder, address, "");
    assert_eq!(code, 76, "{err}");
    says.join().unwrap();
}

#[test]
fn a_pipe_loses_and_doubles_nothing_when_the_server_dies() {
    let mut server = Server::start(&USERS, &[]);
    let door = Door::to(&server);
    let input: String = (1..=3000).map(|n| format!("send Tim n{n}.\n")).collect();
    let (code, out, err) = thread::scope(|scope| {
        let folder = Folder::new();
        let address = door.address;
        let client = scope.spawn(move || piped(&folder, address, &input));
        server.logs("fred: send");
        server.kill9();
        server.restart();
        door.lead_to(&server);
        client.join().unwrap()
    });
    assert_eq!(code, 0, "{out} {err}");
    let mut tim = server.greeted();
    assert!(tim.sign_in("Tim", PASSWORD).contains("3000 messages"), "{out}");
    for n in 1..=3000 {
        let line = tim.line();
        assert!(line.ends_with(&format!("fred: n{n}.")), "{line} instead of {n}");
    }
}
