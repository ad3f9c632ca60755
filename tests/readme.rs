//! README.md, checked against the program: options and their defaults, commands and their aliases,
//! exit codes.

#![allow(missing_docs)]

use mms::proto::command::Verb;
use std::process::Command;

const README: &str = include_str!("../README.md");

fn help(of: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mms"));
    command.args(of).arg("--help").env_remove("TIME_OUT").env_remove("BLOCK_TIME");
    String::from_utf8(command.output().expect("mms runs").stdout).unwrap()
}

/// The word behind `before`, up to `after`.
fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split(after).next()?.trim())
}

#[test]
fn every_option_stands_there_with_its_default() {
    let help = help(&["server"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, options) = help.split_once("Options:").unwrap();
    let (options, _) = options.split_once("-h, --help").unwrap();
    let mut count = 0;
    for option in options.split(" --").skip(1) {
        let name = option.split(' ').next().unwrap();
        let row = README.lines().find(|line| line.starts_with(&format!("| `--{name}")));
        let row = row.unwrap_or_else(|| panic!("no row for --{name}"));
        if let Some(default) = between(option, "[default: ", ']') {
            assert!(row.contains(&format!("| {default} |")), "--{name}: {default}");
        }
        if let Some(variable) = between(option, "[env: ", '=') {
            assert!(row.contains(&format!("`{variable}`")), "--{name}: {variable}");
        }
        count += 1;
    }
    assert_eq!(count, README.lines().filter(|line| line.starts_with("| `--")).count());
}

#[test]
fn every_command_stands_there() {
    for verb in Verb::ALL {
        for usage in verb.usage() {
            assert!(README.contains(&format!("| `{usage}` |")), "{usage}");
        }
        let row = README.lines().find(|line| line.starts_with(&format!("| `{}", verb.name())));
        for word in verb.words().iter().skip(1) {
            assert!(row.unwrap().contains(&format!("`{word}`")), "{word}");
        }
    }
}

#[test]
fn what_the_server_says_is_what_the_protocol_says() {
    let protocol = include_str!("../PROTOCOL.md");
    let said = README.lines().filter(|line| line.starts_with(">> "));
    let strange: Vec<&str> =
        said.filter(|line| !protocol.contains(&format!("< {line}\n"))).collect();
    assert_eq!(strange, [""; 0]);
}

#[test]
fn every_exit_code_stands_there() {
    let codes = |text: &str| {
        let (_, after) = text.split_once("Exit codes").expect("exit codes are told");
        let words = after.split("\n\n").next().unwrap_or_default().to_owned();
        let numbers = words.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
        numbers.collect::<Vec<u8>>()
    };
    assert_eq!(codes(&help(&["server"])), codes(README));
}
