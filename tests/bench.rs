//! `mms bench`: each kind of work with a handful of texts. What is counted must be right, and what
//! was started must be gone; how fast it was is nobody's business here.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
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
    comes_to("pairs --users 6 --texts 100 --sync always --runs 2 --of mms", &["mms"], &wanted);
    // How many there are in so short a time is the machine's affair, but all that were sent come.
    let timed = measured("pairs --users 2 --window 1 --secs 0.05 --bytes 18");
    for one in timed {
        let lasted = one["seconds"].parse::<f64>().unwrap() >= 0.05;
        assert!(lasted && one["missing"] == "0.000", "{one:?}");
    }
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

#[test]
fn whoever_ends_the_bench_ends_what_it_has_started() {
    let folder = Folder::new();
    let mut command = bench(&folder, "pairs --users 2 --secs 600 --of mms");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let started = || left_behind(&folder).iter().any(|one| one.starts_with("/proc/")).then_some(());
    eventually("the server", started);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.as_str()), (Some(130), "mms: interrupted\n"));
    assert_eq!(left_behind(&folder), [""; 0]);
}
