//! `mms bench`: each kind of work with a handful of texts. What is counted must be right, and what
//! was started must be gone; how fast it was is nobody's business here.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use socket2::SockRef;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::server::{Folder, eventually, mms, run};

/// A bench that keeps what it writes in this folder.
fn bench(folder: &Folder, arguments: &str) -> Command {
    let mut command = mms(folder);
    command.env("TMPDIR", folder.path("")).arg("bench").args(arguments.split(' '));
    command
}

/// A flat JSON object: names and values as they stand there.
fn object(line: &str) -> BTreeMap<String, String> {
    let inner = line.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect(line);
    let pair = |pair: &str| {
        let (name, value) = pair.split_once(':').expect(line);
        let name = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect(line);
        let word = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let number = value.parse::<f64>().is_ok_and(f64::is_finite);
        assert!(word.is_some_and(|word| !word.contains('"')) || number, "{value} in {line}");
        (name.to_owned(), word.unwrap_or(value).to_owned())
    };
    inner.split(',').map(pair).collect()
}

/// Measures; an object for each server.
#[track_caller]
fn measured(arguments: &str) -> Vec<BTreeMap<String, String>> {
    let folder = Folder::new();
    let output = run(bench(&folder, arguments).arg("--json"));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{arguments}");
    assert_eq!(left_behind(&folder), [""; 0], "{arguments}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(object).collect()
}

/// Files of the folder, and processes that run in it.
fn left_behind(folder: &Folder) -> Vec<String> {
    let names = fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().path());
    let is_there = |process: &Path| {
        let place = fs::read_link(process.join("cwd"));
        place.is_ok_and(|place| place.starts_with(folder.path("")) && place != folder.path(""))
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let all = names.chain(processes.filter(|process| is_there(process)));
    all.map(|path| path.display().to_string()).collect()
}

/// What each of the servers must have come to.
#[track_caller]
fn comes_to(arguments: &str, servers: &[&str], wanted: &[(&str, f64)]) {
    let all = measured(arguments);
    let names: Vec<&str> = all.iter().map(|one| one["server"].as_str()).collect();
    assert_eq!(names, servers, "{arguments}");
    for one in &all {
        for (name, value) in wanted {
            let figure: f64 = one.get(*name).expect(name).parse().unwrap();
            assert_eq!(figure, *value, "{name} of {one:?}");
        }
    }
}

const BOTH: [&str; 2] = ["mms", "relay"];

#[test]
fn pairs_hear_each_text_once() {
    let wanted = [("users", 6.0), ("texts", 100.0), ("missing", 0.0)];
    comes_to("pairs --users 6 --window 3 --texts 100", &BOTH, &wanted);
    comes_to("pairs --users 6 --window 3 --texts 100 --of relay-ok", &["relay-ok"], &wanted);
    comes_to("pairs --users 6 --texts 100 --dialect plain --of mms", &["mms"], &wanted);
    let who = ["mms", "relay-ok"];
    comes_to("pairs --users 6 --texts 100 --sync always --runs 2 --of mms,relay-ok", &who, &wanted);
    // How many there are in so short a time is the machine's affair, but all that were sent come.
    let timed = measured("pairs --users 2 --window 1 --secs 0.05 --bytes 18");
    for one in timed {
        let lasted = one["seconds"].parse::<f64>().unwrap() >= 0.05;
        assert!(lasted && one["missing"] == "0.000", "{one:?}");
    }
}

#[test]
fn a_relay_with_a_journal_has_written_what_it_hands_on() {
    let folder = Folder::new();
    let mut command = bench(&folder, "relay --journal texts");
    let command = command.current_dir(folder.path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().rsplit(' ').next().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let mut journal = fs::File::open(folder.path("texts")).unwrap();
    client.write_all(b"R1\n").unwrap();
    client.read_exact(&mut [0; 3]).unwrap();
    for text in ["first\n", "second\n"] {
        client.write_all(format!("D1 {text}").as_bytes()).unwrap();
        let mut heard = vec![0; text.len() + 3];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, format!("{text}ok\n").as_bytes());
        let mut written = vec![0; text.len()];
        journal.read_exact(&mut written).unwrap();
        assert_eq!(written, text.as_bytes());
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn all_others_hear_a_text_to_all() {
    let wanted = [("texts", 4.0 * 25.0), ("missing", 0.0)];
    comes_to("fanout --users 5 --window 2 --texts 25", &BOTH, &wanted);
    comes_to("fanout --users 5 --window 2 --texts 25 --of relay-ok", &["relay-ok"], &wanted);
}

#[test]
fn a_rate_is_kept_up() {
    let wanted = [("texts", 60.0), ("missing", 0.0)];
    comes_to("rate --users 4 --per-second 2000 --texts 60", &BOTH, &wanted);
    let folder = Folder::new();
    let output = run(&mut bench(&folder, "rate --users 4 --per-second 2000 --texts 60"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.matches("█").count() > 48 && text.contains("p99.9"), "a picture: {text}");
}

#[test]
fn letters_are_stored_for_who_is_away() {
    for window in [1, 16] {
        let arguments = format!("offline --window {window} --texts 50 --of mms");
        comes_to(&arguments, &["mms"], &[("texts", 50.0)]);
    }
}

#[test]
fn users_sign_in_and_idle() {
    let by = |how| format!("signins --count 12 --by {how} --of mms");
    for how in ["scram", "password"] {
        let one = &measured(&by(how))[0];
        for name in ["signins_per_s", "cpu_us_a_signin", "others_max_us", "alone_p99_us"] {
            assert!(one[name].parse::<f64>().unwrap() >= 0.0, "{one:?}");
        }
    }
    comes_to("idle --users 7 --secs 0.02", &BOTH, &[("users", 7.0)]);
}

#[test]
fn what_waits_is_read_and_read_back() {
    // More than may be shown without being acknowledged.
    let wanted = [("texts", 700.0), ("missing", 0.0)];
    comes_to("backlog --letters 700 --of mms", &["mms"], &wanted);
    comes_to("replay --letters 300 --of mms", &["mms"], &[("texts", 300.0)]);
}

#[test]
fn a_folder_may_be_named_from_where_one_is() {
    let folder = Folder::new();
    for name in [".", ""] {
        let mut command = bench(&folder, "idle --users 2 --secs 0.01");
        command.current_dir(folder.path("")).env("TMPDIR", name);
        let output = run(&mut command);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{name:?}");
    }
    assert_eq!(left_behind(&folder), [""; 0]);
}

#[test]
fn more_than_memory_holds_is_not_begun() {
    let folder = Folder::new();
    for arguments in ["pairs --users 50000 --window 100000", "fanout --window 100000 --users 170"] {
        let output = run(&mut bench(&folder, arguments));
        let err = String::from_utf8(output.stderr).unwrap();
        let told = "mms: so many users and texts under way are more than 1024 MiB at once\n";
        assert_eq!((output.status.code(), err.as_str()), (Some(64), told), "{arguments}");
    }
}

#[test]
fn nothing_measured_is_no_success() {
    let folder = Folder::new();
    let output = run(&mut bench(&folder, "replay --letters 5 --of relay,redis"));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0), "{err}");
    assert!(err.ends_with("\nmms: nobody of them can be measured here\n"), "{err}");
}

#[test]
fn who_is_not_installed_or_cannot_do_it_is_left_out_and_told() {
    let folder = Folder::new();
    // Without a PATH it is looked for where only servers are.
    if Path::new("/usr/sbin/redis-server").exists() || Path::new("/sbin/redis-server").exists() {
        println!("SKIP who_is_not_installed…: redis-server is found without a PATH");
        return;
    }
    let arguments = "replay --letters 5 --of redis,relay,mms --json";
    let output = run(&mut bench(&folder, arguments));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("relay has nothing like it"), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "{err}");
    let output = run(&mut bench(&folder, "pairs --users 2 --texts 5 --of redis,relay --json"));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("redis-server is not installed"), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "{err}");
}

/// Sends a signal and takes what it has said by its end.
fn end_with(signal: &str, to: &str, child: Child) -> Output {
    assert!(Command::new("kill").args(["-s", signal, "--", to]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

fn terminate(child: Child) -> Output {
    let pid = child.id().to_string();
    end_with("TERM", &pid, child)
}

#[test]
fn whoever_ends_the_bench_ends_what_it_has_started() {
    // A terminal sends Ctrl-C to the servers as well.
    for (signal, group) in [("TERM", ""), ("INT", "-")] {
        let folder = Folder::new();
        let mut command = bench(&folder, "pairs --users 2 --secs 600 --of mms");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().unwrap();
        let started = || left_behind(&folder).iter().any(|one| one.starts_with("/proc/"));
        eventually("the server", || started().then_some(()));
        let to = format!("{group}{}", child.id());
        let output = end_with(signal, &to, child);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(130), "mms: interrupted\n"));
        assert_eq!(left_behind(&folder), [""; 0]);
        assert!(output.stdout.is_empty(), "nothing was measured to the end");
    }
}

#[test]
fn whoever_ends_the_bench_is_told_what_it_had_by_then() {
    let folder = Folder::new();
    let mut command = bench(&folder, "pairs --users 2 --texts 5 --runs 1000 --of mms");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // The folder of the third run.
    let third = || left_behind(&folder).iter().any(|one| one.ends_with("-2")).then_some(());
    eventually("the third run", third);
    let output = terminate(child);
    assert_eq!(output.status.code(), Some(130));
    let out = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("mms  "), "{out}");
    let count = lines[2].strip_prefix("mms had ").and_then(|rest| rest.split_once(" of 1000 runs"));
    assert!(count.unwrap().0.parse::<u32>().unwrap() >= 2, "{out}");
    assert_eq!(left_behind(&folder), [""; 0]);
}

/// A folder with a `nats-server` that is [`the_peer`]; `fault` is what it does in its run of that
/// number and later.
fn folder_with_peer(fault: &str, run: usize) -> Folder {
    let folder = Folder::new();
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\necho started >>'{starts}'\n\
         PEER_PORT=$4 PEER_STARTS='{starts}' PEER_FAULT={fault} PEER_RUN={run} \
         exec '{exe}' --ignored --exact the_peer\n",
        starts = folder.path("starts").display(),
        exe = exe.display(),
    );
    install(&script, &folder);
    folder
}

/// Puts a `nats-server` into the folder. What this process wrote itself could not be run while
/// another test forks.
fn install(script: &str, folder: &Folder) {
    folder.write("script", script);
    copy(&folder.path("script"), &folder.path("nats-server"));
}

#[test]
fn who_stores_waits_for_the_disk_where_mms_does_and_nowhere_else() {
    for (sync, wanted) in
        [("always", "--appendonly yes --appendfsync always"), ("never", "yes --appendfsync no")]
    {
        let (folder, peer) = (Folder::new(), Folder::new());
        let told = peer.path("told");
        let script = format!("#!/bin/sh\necho \"$*\" >'{}'\nexit 3\n", told.display());
        install(&script, &peer);
        copy(&peer.path("script"), &peer.path("redis-server"));
        let mut command = bench(&folder, "offline --texts 5 --of redis --sync");
        let output = run(command.arg(sync).env("PATH", peer.path("")));
        assert_eq!(output.status.code(), Some(69));
        assert!(peer.read("told").contains(wanted), "{}", peer.read("told"));
    }
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("install");
    assert!(command.args(["-m", "700"]).args([from, to]).status().unwrap().success());
}

/// Not a test but the server of somebody else that fails in the midst, as [`folder_with_peer`]
/// starts it: it speaks as much of the language of NATS as the bench does.
#[test]
#[ignore = "other tests start it"]
fn the_peer() {
    let Ok(port) = std::env::var("PEER_PORT") else { return };
    let starts = fs::read_to_string(std::env::var("PEER_STARTS").unwrap()).unwrap();
    let sound = starts.lines().count() < std::env::var("PEER_RUN").unwrap().parse().unwrap();
    let fault = if sound { String::new() } else { std::env::var("PEER_FAULT").unwrap() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
    let peer = Arc::new(Peer { fault, readers: Mutex::default() });
    for stream in listener.incoming() {
        let (peer, stream) = (peer.clone(), stream.unwrap());
        std::thread::spawn(move || peer.serve(&stream));
    }
}

/// One that hoards hands nothing on before a writer has been silent for so long.
const HOARDED: Duration = Duration::from_millis(500);

/// What the connections of [`the_peer`] share.
struct Peer {
    fault: String,
    /// Who reads what.
    readers: Mutex<HashMap<String, TcpStream>>,
}

impl Peer {
    fn serve(&self, mut stream: &TcpStream) {
        let hoards = self.fault == "hoards";
        stream.set_read_timeout(hoards.then_some(HOARDED)).unwrap();
        let (mut lines, mut hoard) = (BufReader::new(stream).lines(), Vec::new());
        while let Some(line) = lines.next() {
            let line = match line {
                Ok(line) => line,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    hoard.drain(..).for_each(|(to, text): (String, String)| self.hand(&to, &text));
                    continue;
                }
                Err(_) => return,
            };
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["SUB", subject, _] => {
                    let reader = stream.try_clone().unwrap();
                    self.readers.lock().unwrap().insert(subject.to_owned(), reader);
                }
                ["PING"] => {
                    stream.write_all(b"PONG\r\n").unwrap();
                    // Users 0 to 2 and what is for all: everybody is in, or as good as.
                    if self.fault == "dies" && self.readers.lock().unwrap().len() == 4 {
                        std::process::exit(3);
                    }
                }
                ["PUB", ..] if self.fault == "sulks" => _ = lines.next(),
                ["PUB", ..] if self.fault == "resets" => {
                    self.readers.lock().unwrap().clear();
                    return SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                ["PUB", to, _] if hoards => hoard.push((to.into(), lines.next().unwrap().unwrap())),
                ["PUB", to, _] => self.hand(to, &lines.next().unwrap().unwrap()),
                _ => {}
            }
        }
    }

    fn hand(&self, to: &str, text: &str) {
        let readers = self.readers.lock().unwrap();
        let message = format!("MSG {to} 1 {}\r\n{text}\r\n", text.len());
        (&readers[to]).write_all(message.as_bytes()).unwrap();
    }
}

#[test]
fn who_resets_a_connection_in_the_midst_costs_nobody_else_his_figures() {
    for json in [false, true] {
        let (folder, peer) = (Folder::new(), folder_with_peer("resets", 2));
        let arguments = "pairs --users 4 --texts 50 --runs 3 --of mms,nats,relay";
        let mut command = bench(&folder, arguments);
        command.env("PATH", peer.path("")).args(json.then_some("--json"));
        let output = run(&mut command);
        let (out, err) =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).into();
        assert_eq!(output.status.code(), Some(69), "{err}");
        let told = ["mms: nats failed in run 2 of 3: u", ": Connection reset by peer"];
        assert!(told.iter().all(|words| err.contains(words)), "{err}");
        assert!(err.ends_with("\nmms: not all did their work; failed: nats\n"), "{err}");
        assert_eq!(peer.read("starts").lines().count(), 2, "it had no third turn");
        assert_eq!(left_behind(&folder), [""; 0]);
        let lines: Vec<&str> = out.lines().collect();
        if !json {
            assert!(lines.len() == 4 && lines[1].starts_with("mms  "), "{out}");
            assert!(lines[2].starts_with("relay  ") && lines[3].contains(told[1]), "{out}");
            continue;
        }
        let all: Vec<_> = lines.iter().map(|line| object(line)).collect();
        let names: Vec<&str> = all.iter().map(|one| one["server"].as_str()).collect();
        assert_eq!(names, ["mms", "relay", "nats"]);
        assert!(all[..2].iter().all(|one| one["texts"] == "50.000" && one["runs"] == "3"), "{out}");
        assert!(all[2]["failed"].contains("Connection reset by peer"), "{out}");
        assert_eq!((all[2]["run"].as_str(), all[2]["of"].as_str()), ("2", "3"));
        assert!(!all[2].contains_key("texts_per_s"), "nobody takes it for a figure: {out}");
    }
}

#[test]
fn who_dies_is_noticed_even_while_nothing_happens_and_it_is_told_how() {
    for work in ["idle --users 3 --secs 0.5", "pairs --users 3 --texts 50"] {
        let (folder, peer) = (Folder::new(), folder_with_peer("dies", 1));
        let mut command = bench(&folder, work);
        command.env("PATH", peer.path("")).args(["--of", "mms,nats", "--json"]);
        let output = run(&mut command);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{err}");
        assert!(err.contains("nats failed in run 1 of 1: "), "{err}");
        assert!(err.contains("it ended: exit status: 3; it is left out"), "{err}");
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.contains("\"mms\",\"users\":3,\"runs\":1,\"signins_per_s\""), "{out}");
    }
}

#[test]
fn who_says_nothing_any_more_is_not_waited_for_without_end() {
    let peer = folder_with_peer("sulks", 1);
    let path = format!("PATH={}", peer.path("").display());
    // Longer than a program is waited for elsewhere.
    let mut command = Command::new("timeout");
    command.args(["60", "env", &path, env!("CARGO_BIN_EXE_mms"), "bench"]);
    let arguments = "pairs --users 4 --texts 50 --of mms,nats --json";
    let output = command.args(arguments.split(' ')).output().unwrap();
    let (out, err) =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).into();
    assert_eq!(output.status.code(), Some(69), "{err}");
    assert!(err.contains("nats failed in run 1 of 1: has said nothing for 15 s"), "{err}");
    assert!(out.contains("\"mms\",\"users\":4,\"runs\":1"), "{out}");
}

#[test]
fn what_comes_only_behind_the_end_has_taken_its_time_as_well() {
    for (work, figures) in [
        ("rate --users 2 --per-second 1000 --secs 0.1", &["p50_us", "max_us"][..]),
        ("signins --count 400", &["alone_max_us", "others_max_us"]),
    ] {
        let (folder, peer) = (Folder::new(), folder_with_peer("hoards", 1));
        let mut command = bench(&folder, work);
        command.env("PATH", peer.path("")).args(["--of", "nats", "--json"]);
        let output = run(&mut command);
        let (out, err) =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).into();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
        let one = object(out.trim_end());
        for name in figures {
            let us: f64 = one[*name].parse().unwrap();
            assert!(us >= HOARDED.as_micros() as f64, "{name}: {out}");
        }
    }
}

#[test]
fn targets_that_are_interrupted_are_shown_as_far_as_they_were_measured() {
    let (folder, peer) = (Folder::new(), folder_with_peer("resets", 1));
    let mut command = bench(&folder, "targets --quick --secs 0.1 --runs 1");
    command.env("PATH", peer.path("")).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = String::new();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    while !err.contains("2 of 16: ") {
        assert!(told.read_line(&mut err).unwrap() > 0, "it ended: {err}");
    }
    let output = terminate(child);
    told.read_to_string(&mut err).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.ends_with("2 of 16: pairs, synced\nmms: interrupted\n"), "at once: {err}");
    assert!(err.contains("nats failed in run 1 of 1: u"), "told as it happens: {err}");
    assert_eq!(left_behind(&folder), [""; 0]);
    let out = String::from_utf8(output.stdout).unwrap();
    let row = out.lines().nth(2).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let nats = out.split('|').position(|head| head.trim() == "nats").unwrap();
    assert_eq!(cells[nats], "failed", "{out}");
    assert!(cells[2].parse::<f64>().unwrap() > 0.0, "MMS was measured: {out}");
    assert!(out.contains("- pairs: nats failed in run 1 of 1: u"), "{out}");
    assert!(out.contains("This is not all: it was interrupted."), "{out}");
}

#[test]
fn when_mms_itself_fails_the_others_are_shown_and_it_is_an_error() {
    // Behind its back, before its turn comes, the program is taken away.
    let (folder, away) = (Folder::new(), Folder::new());
    let program = folder.path("mms");
    copy(Path::new(env!("CARGO_BIN_EXE_mms")), &program);
    let script = format!("#!/bin/sh\n/bin/rm '{}'\n", program.display());
    install(&script, &away);
    let mut command = Command::new(&program);
    command.env_clear().env("TMPDIR", folder.path("")).env("PATH", away.path(""));
    let arguments = "bench pairs --users 2 --texts 5 --of mms,nats,relay --json";
    let output = run(command.args(arguments.split(' ')));
    let (out, err) =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).into();
    assert_eq!(output.status.code(), Some(74), "{err}");
    assert!(err.contains("mms: nats failed in run 1 of 1: does not start"), "{err}");
    assert!(err.contains("\nmms: mms failed in run 1 of 1: cannot start mms: "), "{err}");
    let all: Vec<_> = out.lines().map(object).collect();
    assert_eq!((all[0]["server"].as_str(), all[0]["texts"].as_str()), ("relay", "5.000"));
    assert!(all[1..].iter().all(|one| one.contains_key("failed")) && all.len() == 3, "{out}");
    assert_eq!(left_behind(&folder), [""; 0]);
}
