//! Parse, run, one line on error, exit code.

use clap::Parser;
use mms::cli::bench::Bench;
use mms::cli::client::Client;
use mms::cli::login::{Login, Logout};
use mms::cli::recv::Recv;
use mms::cli::send::{Broadcast, Send};
use mms::cli::who::{Ping, Who};
use mms::cli::{Code, server::Server, spool::Spool, user::User};
use std::io::Write as _;
use std::process::ExitCode;

/// A messaging server that telnet can talk to and that never loses a message it has said OK to.
#[derive(Parser)]
#[command(
    name = "mms",
    version,
    after_help = "\
Try it, with the sample users of the repository:
  mms server 1060 users       in one terminal
  telnet localhost 1060       in another; then type 'signin fred', whose password is fred1
  mms client localhost 1060   the same, but what you type is never disturbed
  mms login --user tim        in a third; then, for scripts:
  mms send fred 'hi there'"
)]
enum Mms {
    Server(Server),
    Client(Client),
    Send(Send),
    Broadcast(Broadcast),
    Recv(Recv),
    Who(Who),
    Ping(Ping),
    Login(Login),
    Logout(Logout),
    User(User),
    Spool(Spool),
    Bench(Bench),
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
    let out = &mut std::io::stdout();
    let done = match mms {
        Mms::Server(server) => server.run(out),
        Mms::Client(client) => client.run(out),
        Mms::Send(send) => send.run(out),
        Mms::Broadcast(broadcast) => broadcast.run(out),
        Mms::Recv(recv) => recv.run(out),
        Mms::Who(who) => who.run(out),
        Mms::Ping(ping) => ping.run(out),
        Mms::Login(login) => login.run(out),
        Mms::Logout(logout) => logout.run(out),
        Mms::User(user) => user.run(out),
        Mms::Spool(spool) => spool.run(out),
        Mms::Bench(bench) => bench.run(out),
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
