//! Parse, run, one line on error, exit code.

use clap::Parser;
use mms::cli::{Code, user::User};
use std::io::Write as _;
use std::process::ExitCode;

/// A messaging server that telnet can talk to.
#[derive(Parser)]
#[command(name = "mms", version)]
enum Mms {
    User(User),
}

fn main() -> ExitCode {
    let mms = match Mms::try_parse() {
        Ok(mms) => mms,
        Err(error) => {
            // If nobody can be told, the code tells.
            _ = error.print();
            return if error.use_stderr() { exit(Code::Usage) } else { ExitCode::SUCCESS };
        }
    };
    let done = match mms {
        Mms::User(user) => user.run(&mut std::io::stdout()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            _ = writeln!(std::io::stderr(), "mms: {failure}");
            exit(failure.code)
        }
    }
}

fn exit(code: Code) -> ExitCode {
    ExitCode::from(code as u8)
}
