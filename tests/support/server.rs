//! The real server as its users and its operator meet it: the program on a free port of the
//! loopback, in a folder of its own, and people who are connected to it.
//!
//! Whatever is waited for is an event: a line, the end of a connection, the end of a process.
//! Times are bounds after which a test has failed. Where there is no event to wait for (the log,
//! figures of the kernel), [`eventually`] looks again and again, up to such a bound.

use mms::core::password::Verifier;
use mms::store::disk::FileDisk;
use mms::store::survey::Survey;
use socket2::{Domain, SockRef, Socket, Type};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Whoever has waited that long for something has found a fault.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The password of each user that [`Server::start`] makes.
pub const PASSWORD: &str = "secret1";
/// The salt of it.
pub const SALT: &[u8] = b"saltsaltsalt";

/// Looks until `what` is there; panics with `why` when patience ends.
pub fn eventually<T>(why: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never came: {why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory of one test, which goes with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mms-test-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that only its owner may write to.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A line of the password file for `name`, whose password is `password`.
pub fn user_line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", Verifier::derive(password.as_bytes(), SALT, 4096))
}

/// A password file of these users, each with [`PASSWORD`].
pub fn users_file(names: &[impl AsRef<str>]) -> String {
    let verifier = Verifier::derive(PASSWORD.as_bytes(), SALT, 4096);
    names.iter().map(|name| format!("{}:{verifier}\n", name.as_ref())).collect()
}

/// The sample password file of the repository.
pub fn sample_users() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("users")).unwrap()
}

/// The program under test, told nothing by the environment of whoever runs the tests.
pub fn mms(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mms"));
    command.current_dir(&folder.0).env_clear();
    command
}

/// Runs a program that must end by itself.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the end of the program", || child.try_wait().unwrap())
    }));
    if ended.is_err() {
        _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_ok(), "it started: {}", String::from_utf8_lossy(&output.stdout));
    output
}

/// The room that is ready in the spool, in MiB.
pub fn ready_mib(spool: &Path) -> u64 {
    let entries = fs::read_dir(spool).unwrap().map(Result::unwrap);
    let ready = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("ready-"));
    ready.map(|entry| entry.metadata().map_or(0, |found| found.len())).sum::<u64>() >> 20
}

/// A running server. It ends with this value.
pub struct Server {
    pub folder: Folder,
    pub address: SocketAddr,
    /// Where it listens for TLS, and with which certificate, if it does.
    pub tls: Option<(SocketAddr, String)>,
    start: Start,
    child: Child,
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Behind `mms server 0 users`.
    pub options: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The limit on open descriptors, soft and hard.
    pub descriptors: Option<u32>,
    /// A program that starts it, and becomes it, with the words before `mms`.
    pub by: Vec<String>,
}

impl Server {
    /// Starts a server for these users, with these options.
    pub fn start(users: &[impl AsRef<str>], options: &[&str]) -> Self {
        let folder = Folder::new();
        folder.write("users", &users_file(users));
        Self::start_in(folder, options)
    }

    /// Starts a server in a folder that has a file `users`.
    pub fn start_in(folder: Folder, options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.into()).collect();
        Self::start_as(folder, Start { options, ..Start::default() })
    }

    /// The same in every detail.
    pub fn start_as(folder: Folder, start: Start) -> Self {
        let (child, address, tls) = spawn(&folder, &start);
        Self { folder, address, tls, start, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server as a crash would.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "it had ended by itself before");
    }

    /// Its end by itself; if that does not come it is killed, and nothing is returned.
    pub fn ends_by_itself(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.end();
        None
    }

    /// Sees to it that it has ended, by itself or now; returns how.
    pub fn end(&mut self) -> ExitStatus {
        // Fails only if it has ended already.
        _ = self.child.kill();
        self.child.wait().unwrap()
    }

    /// Starts it again on the same folder, after it has ended. It gets another port.
    pub fn restart(&mut self) {
        (self.child, self.address, self.tls) = spawn(&self.folder, &self.start);
    }

    /// Asks it to stop; returns how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Its end, which is awaited.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the server", || self.child.try_wait().unwrap())
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// The log so far. Only what has been logged before the last answer is there for sure.
    pub fn log(&self) -> String {
        self.folder.read("server.log")
    }

    /// Waits for a line in the log.
    pub fn logs(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// How many letters the journal keeps for the user.
    pub fn waiting(&self, user: &str) -> usize {
        let mut disk = FileDisk::open_read_only(&self.folder.path("spool")).unwrap();
        let survey = Survey::take(&mut disk).unwrap();
        survey.mailboxes.get(user).map_or(0, |mailbox| mailbox.waiting.len())
    }

    pub fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    /// A client with this address, such as 127.0.0.2.
    pub fn connect_from(&self, from: Ipv4Addr) -> Client {
        self.connect_to(self.address, from)
    }

    /// The same to another of its ports.
    pub fn connect_to(&self, to: SocketAddr, from: Ipv4Addr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Client::new(socket.into())
    }

    /// A client whose socket is prepared before it connects.
    pub fn connect_with(&self, prepare: impl Fn(&Socket)) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        prepare(&socket);
        socket.connect(&self.address.into()).unwrap();
        Client::new(socket.into())
    }

    /// A client that has been greeted.
    pub fn greeted(&self) -> Client {
        let mut client = self.connect();
        client.expect("Welcome to MMS.");
        client.expect("signin");
        client
    }

    /// A client that has signed in; what waits for it is not read yet.
    pub fn signed_in(&self, name: &str) -> Client {
        let mut client = self.greeted();
        client.sign_in(name, PASSWORD);
        client
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most memory that was ever resident, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time spent so far, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let behind_name = stat.rsplit_once(')').unwrap().1;
        let field = |n| behind_name.split_whitespace().nth(n).unwrap().parse::<u64>().unwrap();
        field(11) + field(12)
    }

    /// Open descriptors; 0 where only root may know, for the server hides what it has.
    pub fn descriptors(&self) -> usize {
        match fs::read_dir(format!("/proc/{}/fd", self.pid())) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => 0,
            found => found.unwrap().count(),
        }
    }

    /// Lowers its limit of descriptors, so that so many more can be opened, or raises it again.
    /// Returns whether that is possible here.
    pub fn limit_descriptors(&self, more: Option<usize>) -> bool {
        let folder = format!("/proc/{}/fd", self.pid());
        // The limit is one of numbers: the first that is free is the next to be given.
        let free = (0..).find(|n| fs::read_link(format!("{folder}/{n}")).is_err()).unwrap_or(0);
        let most = more.map_or(1024, |more| free + more);
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.pid().to_string(), &format!("--nofile={most}:1024")]);
        let limited = self.descriptors() > 0 && command.status().is_ok_and(|it| it.success());
        if !limited {
            println!("SKIP no prlimit, or not root: the limit of descriptors stays");
        }
        limited
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn spawn(folder: &Folder, start: &Start) -> (Child, SocketAddr, Option<(SocketAddr, String)>) {
    let stderr = fs::File::create(folder.path("stderr")).unwrap();
    let limited = start.descriptors.map(|limit| {
        let limit = format!("ulimit -n {limit} && exec \"$@\"");
        vec!["sh".into(), "-c".into(), limit, "sh".into()]
    });
    let mut command = match limited.as_ref().unwrap_or(&start.by).as_slice() {
        [] => mms(folder),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.current_dir(&folder.0).env_clear();
            command.args(words).arg(env!("CARGO_BIN_EXE_mms"));
            command
        }
    };
    command.args(["server", "0", "users"]).args(&start.options);
    if !start.options.iter().any(|option| option == "--spool-reserve") {
        // Hundreds of servers need not each write what one of them keeps ready by default.
        command.args(["--spool-reserve", "2"]);
    }
    command.envs(start.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (send, first_lines) = mpsc::channel();
    // Ends with the first lines, or with the process.
    let tls = start.options.iter().any(|option| option == "--tls");
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        for _ in 0..=usize::from(tls) {
            let mut line = String::new();
            _ = out.read_line(&mut line);
            _ = send.send(line);
        }
    });
    let next_line = || first_lines.recv_timeout(PATIENCE).unwrap_or_default();
    let line = next_line();
    let address = line.trim_end().strip_prefix("mms: listening on ").map(str::parse::<SocketAddr>);
    let Some(Ok(address)) = address else {
        _ = child.kill();
        _ = child.wait();
        panic!("no server: {line:?} {}", folder.read("stderr"));
    };
    let secured = |line: String| {
        let told = line.trim_end().strip_prefix("mms: listening on ")?;
        let (at, fingerprint) = told.split_once(" with TLS, certificate ")?;
        let port = at.parse::<SocketAddr>().ok()?.port();
        Some((SocketAddr::new(address.ip(), port), fingerprint.to_owned()))
    };
    (child, address, secured(if tls { next_line() } else { String::new() }))
}

/// Somebody who is connected.
pub struct Client {
    pub stream: TcpStream,
    /// Text that has come, without telnet's commands.
    text: Vec<u8>,
    /// Bytes of a telnet command under way.
    command: Vec<u8>,
    /// Telnet's commands, three bytes each, in the order in which they came.
    pub commands: Vec<[u8; 3]>,
    /// All bytes that have come.
    pub raw: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, text: vec![], command: vec![], commands: vec![], raw: vec![] }
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads once; false at the end of the connection, be it in order or not.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let count = match self.stream.read(&mut buffer) {
            Ok(count) => count,
            // A read with a timeout is not resumed by the kernel.
            Err(e) if e.kind() == ErrorKind::Interrupted => return true,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
            Err(e) => panic!("{e}, after {:.200?}", String::from_utf8_lossy(&self.text)),
        };
        self.raw.extend_from_slice(&buffer[..count]);
        for &byte in &buffer[..count] {
            if byte != 255 && self.command.is_empty() {
                self.text.push(byte);
                continue;
            }
            self.command.push(byte);
            if let [a, b, c] = self.command[..] {
                self.commands.push([a, b, c]);
                self.command.clear();
            }
        }
        count > 0
    }

    /// The next line without its end; what is left at the end of the connection counts as one.
    pub fn next_line(&mut self) -> Option<String> {
        let mut scanned = 0;
        loop {
            if let Some(end) = self.text[scanned..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.text.drain(..=scanned + end).collect();
                let line = String::from_utf8(line).unwrap();
                return Some(
                    line.strip_suffix("\r\n")
                        .unwrap_or_else(|| panic!("CR LF ends each line: {line:?}"))
                        .into(),
                );
            }
            scanned = self.text.len();
            if !self.more() {
                let rest = String::from_utf8(std::mem::take(&mut self.text)).unwrap();
                return (!rest.is_empty()).then_some(rest);
            }
        }
    }

    /// The next line.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.next_line().expect("a line, not the end of the connection")
    }

    /// The next `count` bytes of text.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.text.len() < count {
            assert!(self.more(), "the connection ended before {count} bytes");
        }
        self.text.drain(..count).collect()
    }

    /// Reads up to the line that contains `text`, and returns it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let mut skipped = vec![];
        loop {
            match self.next_line() {
                Some(line) if line.contains(text) => return line,
                Some(line) => skipped.push(line),
                None => panic!("{text:?} never came, but {skipped:?}"),
            }
        }
    }

    /// Waits for the prompt, which has no line end, and takes it.
    #[track_caller]
    pub fn expect_prompt(&mut self) {
        self.expect_prompt_for("Password: ");
    }

    /// The same with another text.
    #[track_caller]
    pub fn expect_prompt_for(&mut self, prompt: &str) {
        while !self.text.ends_with(prompt.as_bytes()) {
            assert!(self.more(), "the connection ended before the prompt");
        }
        assert_eq!(String::from_utf8_lossy(&self.text), prompt);
        self.text.clear();
    }

    /// Says a line and returns the answer's first line.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    /// Signs in on one line; returns the welcome.
    #[track_caller]
    pub fn sign_in(&mut self, name: &str, password: &str) -> String {
        let answer = self.ask(&format!("signin {name} {password}"));
        assert!(answer.starts_with(&format!(">> Welcome {name}, ")), "{answer}");
        answer
    }

    /// Signs out, and waits for the end.
    #[track_caller]
    pub fn sign_out(mut self) -> Vec<String> {
        self.say("signout");
        let lines = self.rest();
        assert_eq!(lines.last().map(String::as_str), Some(">> Thank you for using MMS!"));
        lines
    }

    /// All that comes until the connection ends.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }

    /// Says that no more will come from here.
    pub fn close_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks the connection: the server gets a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads once what comes next, for who wants to stop within a line. False at the end.
    pub fn read_once(&mut self) -> bool {
        self.more()
    }

    /// The whole lines that have come and were not taken yet.
    pub fn take_lines(&mut self) -> Vec<String> {
        let Some(end) = self.text.iter().rposition(|&b| b == b'\n') else { return vec![] };
        let text: Vec<u8> = self.text.drain(..=end).collect();
        let text = String::from_utf8(text).unwrap();
        text.split_terminator("\r\n").map(Into::into).collect()
    }
}
