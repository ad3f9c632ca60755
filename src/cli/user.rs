//! `mms user`: the password file, by hand and by script.

use super::{Code, Failure};
use crate::core::password::{NEW_SALT_BYTES, Verifier, acceptable, wipe};
use crate::limits::{PASSWORD_BYTES, ROUNDS_DEFAULT, ROUNDS_LEAST, ROUNDS_MOST};
use crate::proto::name::{NameKey, UserName};
use crate::store::users::{
    self, Change, OldPassword, UsersError, UsersErrorKind, UsersFile, load_old,
};
use clap::{Args, Subcommand};
use std::collections::HashSet;
use std::io::{self, BufRead as _, BufWriter, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

/// Who may sign in: add, change, remove, list or convert users.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms user add users fred           asks for the password, twice
  mms user list users
  mms user passwd users fred
  mms user remove users fred
  mms user import old-users users   converts the file of an older system

The file holds a line for each user, with a verifier that does not tell the password.
Comments and the order of the lines stay as they are.")]
pub struct User {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    Passwd(Passwd),
    Remove(Remove),
    List(List),
    Import(Import),
}

/// Add a user; the file is made if it is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms user add users fred                        asks for the password, twice
  mms user add users fred < password.txt         takes the first line
  mms user add users fred --iterations 1000000   a costlier sign-in, for who guesses too

A name has 1 to 32 letters, digits, '_', '-' and '.', and does not start with a dot.
A password has 1 to 256 bytes and no control characters. It is never an argument, since
anybody on the machine can see those.

Exit codes: 65 the name or the password will not do, or the user exists; 73 the file cannot
be made; 74 it cannot be written; 75 somebody else is changing it; 77 no permission; 78 the
file is damaged.")]
struct Add {
    /// The password file.
    file: PathBuf,
    /// The new user's name.
    name: String,
    #[command(flatten)]
    rounds: Rounds,
}

/// Give a user another password.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms user passwd users fred                     asks for the password, twice
  mms user passwd users fred < password.txt      takes the first line

Exit codes: 65 the password will not do; 66 no such file; 67 no such user; 74 the file cannot
be written; 75 somebody else is changing it; 77 no permission; 78 the file is damaged.")]
struct Passwd {
    /// The password file.
    file: PathBuf,
    /// The user's name, upper or lower case.
    name: String,
    #[command(flatten)]
    rounds: Rounds,
}

/// Remove a user.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mms user remove users fred

Letters that wait for the user are held, and the server never gives them to another one of that
name. Only mms spool hold --release does; mms spool purge removes them.

Exit codes: 66 no such file; 67 no such user; 74 the file cannot be written; 75 somebody else
is changing it; 77 no permission; 78 the file is damaged.")]
struct Remove {
    /// The password file.
    file: PathBuf,
    /// The user's name, upper or lower case.
    name: String,
}

/// List the users and the hash rounds of their passwords, in the order of the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms user list users
  mms user list users | awk '$2 < 600000 { print $1 }'    whose passwords are hashed cheaply

Exit codes: 66 no such file; 77 others may write to the file; 78 the file is damaged.")]
struct List {
    /// The password file.
    file: PathBuf,
}

/// Convert the password file of an older system and add its users.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mms user import old-users users

Reads lines such as 'fred secret' and 'fred:secret', blank lines and comments after '#'. Users
who are in FILE already are left as they are. A SHA-1 hash (40 hex digits) does not tell the
password: such users are named and skipped; give each a new password with mms user add. If any
other line cannot be read, nothing is written. Remove the old file afterwards, since it tells
everybody's password.

Exit codes: 65 users were skipped because of their SHA-1 hash; 66 no such file; 73 FILE cannot
be made; 74 it cannot be written; 75 somebody else is changing it; 77 no permission; 78 one of
the files is damaged.")]
struct Import {
    /// The file of the older system.
    old_file: PathBuf,
    /// The password file to add to; it is made if it is missing.
    file: PathBuf,
    #[command(flatten)]
    rounds: Rounds,
}

#[derive(Debug, Args)]
struct Rounds {
    /// Hash rounds: what each guess at the password costs, and each sign-in from telnet.
    #[arg(long, value_name = "N", default_value_t = ROUNDS_DEFAULT, value_parser = rounds())]
    iterations: u32,
}

fn rounds() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(ROUNDS_LEAST)..=i64::from(ROUNDS_MOST))
}

impl User {
    /// Does what was asked. What a script may want goes to `out`, all else to stderr.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let lines = match &self.command {
            Command::Add(command) => command.run(),
            Command::Passwd(command) => command.run(),
            Command::Remove(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Import(command) => return command.run(out),
        }?;
        say(out, &lines)
    }
}

impl Add {
    fn run(&self) -> Result<Vec<String>, Failure> {
        let name = parse_name(&self.name)?;
        // Whoever types a password twice should not learn only then that it was for nothing. The
        // edit itself looks again.
        if find(&read_if_any(&self.file)?, &name).is_some() {
            let file = self.file.display();
            let message = format!(
                "{file}: {name} exists already; for a new password: mms user passwd {file} {name}"
            );
            return Err(Failure::new(Code::Data, message));
        }
        let verifier = new_verifier(&name, self.rounds.iterations)?;
        let edited = users::edit(&self.file, &Change::Add(name.clone(), verifier))?;
        let mut lines = Vec::new();
        if edited.created {
            lines.push(format!("{} created", self.file.display()));
        }
        lines.push(format!("{name} added"));
        Ok(lines)
    }
}

impl Passwd {
    fn run(&self) -> Result<Vec<String>, Failure> {
        let name = parse_name(&self.name)?;
        let file = users::read(&self.file)?;
        warn(&file.warnings);
        let Some(name) = find(&file, &name) else {
            let message = format!("{}: there is no user {name}", self.file.display());
            return Err(Failure::new(Code::NoUser, message));
        };
        let verifier = new_verifier(&name, self.rounds.iterations)?;
        users::edit(&self.file, &Change::SetPassword(name.clone(), verifier))?;
        Ok(vec![format!("{name} has a new password")])
    }
}

impl Remove {
    fn run(&self) -> Result<Vec<String>, Failure> {
        let name = parse_name(&self.name)?;
        let edited = users::edit(&self.file, &Change::Remove(name.clone()))?;
        if edited.users == 0 {
            warn(&[format!("{} has no users now; no server starts with it", self.file.display())]);
        }
        Ok(vec![format!("{name} removed")])
    }
}

impl List {
    fn run(&self) -> Result<Vec<String>, Failure> {
        let file = users::load(&self.file)?;
        warn(&file.warnings);
        let width = file.entries.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0);
        let line = |(name, verifier): &(UserName, Verifier)| {
            format!("{name:width$} {}", verifier.iterations())
        };
        Ok(file.entries.iter().map(line).collect())
    }
}

impl Import {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let old = load_old(&self.old_file)?;
        let there: HashSet<NameKey> =
            read_if_any(&self.file)?.entries.iter().map(|(name, _)| name.key()).collect();
        let mut new = Vec::new();
        let mut known = Vec::new();
        for (name, password) in &old.users {
            if there.contains(&name.key()) {
                known.push(name.clone());
                continue;
            }
            let verifier = match password {
                OldPassword::Plain(password) => derive(password, self.rounds.iterations)?,
                OldPassword::Verifier(verifier) => verifier.clone(),
            };
            new.push((name.clone(), verifier));
        }
        let names: Vec<UserName> = new.iter().map(|(name, _)| name.clone()).collect();
        let skipped = users::edit(&self.file, &Change::Append(new))?.skipped;
        let (file, mut lines) = (self.file.display(), Vec::new());
        for name in names.iter().filter(|&name| !skipped.contains(name)) {
            lines.push(format!("{name} added"));
        }
        for name in known.iter().chain(&skipped) {
            lines.push(format!("{name} skipped: is in {file} already"));
        }
        let lost: Vec<_> = old.sha1.iter().filter(|name| !there.contains(&name.key())).collect();
        for name in &lost {
            lines.push(format!(
                "{name} skipped: a SHA-1 hash does not tell the password; give a new one with: \
                 mms user add {file} {name}"
            ));
        }
        say(out, &lines)?;
        if lost.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}: {} of {} users could not be converted",
            self.old_file.display(),
            lost.len(),
            old.users.len() + old.sha1.len()
        );
        Err(Failure::new(Code::Data, message))
    }
}

impl From<UsersError> for Failure {
    fn from(error: UsersError) -> Self {
        let code = match error.kind {
            UsersErrorKind::Missing | UsersErrorKind::Unreadable => Code::NoInput,
            UsersErrorKind::Bad => Code::Config,
            UsersErrorKind::Permission => Code::Permission,
            UsersErrorKind::NoUser => Code::NoUser,
            UsersErrorKind::Exists => Code::Data,
            UsersErrorKind::CannotCreate => Code::CannotCreate,
            UsersErrorKind::Io | UsersErrorKind::Unflushed => Code::Io,
            UsersErrorKind::Busy | UsersErrorKind::Outdated => Code::TryLater,
        };
        Self::new(code, error.to_string())
    }
}

fn parse_name(word: &str) -> Result<UserName, Failure> {
    UserName::new(word).map_err(|fault| Failure::new(Code::Data, format!("{word:?}: {fault}")))
}

/// The file as it is; without users if there is none.
fn read_if_any(path: &Path) -> Result<UsersFile, Failure> {
    match users::read(path) {
        Ok(file) => {
            warn(&file.warnings);
            Ok(file)
        }
        Err(error) if error.kind == UsersErrorKind::Missing => {
            Ok(UsersFile { entries: Vec::new(), warnings: Vec::new() })
        }
        Err(error) => Err(error.into()),
    }
}

/// The user's name as the file spells it.
fn find(file: &UsersFile, name: &UserName) -> Option<UserName> {
    file.entries.iter().map(|(name, _)| name).find(|known| known.key() == name.key()).cloned()
}

/// The verifier of a password that is asked for.
fn new_verifier(name: &UserName, iterations: u32) -> Result<Verifier, Failure> {
    let mut password =
        if io::stdin().is_terminal() { prompt(name)? } else { read_line(&mut io::stdin().lock())? };
    let verifier = match str::from_utf8(&password).map(acceptable) {
        Err(_) => Err(Failure::new(Code::Data, "a password is UTF-8 or ASCII")),
        Ok(Err(fault)) => Err(Failure::new(Code::Data, fault.to_string())),
        Ok(Ok(())) => derive(&password, iterations),
    };
    wipe(&mut password);
    verifier
}

fn derive(password: &[u8], iterations: u32) -> Result<Verifier, Failure> {
    let mut salt = [0; NEW_SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| {
        Failure::new(Code::Io, format!("no random numbers for a salt: {error}"))
    })?;
    Ok(Verifier::derive(password, &salt, iterations))
}

/// Asks at the terminal, twice, without echo.
fn prompt(name: &UserName) -> Result<Vec<u8>, Failure> {
    let ask = |text: String| match rpassword::prompt_password(text) {
        Ok(password) => Ok(password.into_bytes()),
        Err(error) => Err(Failure::new(Code::Io, format!("no password: {error}"))),
    };
    let first = ask(format!("Password for {name}: "))?;
    if first.is_empty() {
        // To be refused; asking for nothing again would be silly.
        return Ok(first);
    }
    let mut second = ask("The same again: ".into())?;
    let same = first == second;
    wipe(&mut second);
    if same {
        return Ok(first);
    }
    Err(Failure::new(Code::Data, "the two passwords differ; nothing was changed"))
}

/// The first line of `input` without its end.
fn read_line(input: &mut dyn io::BufRead) -> Result<Vec<u8>, Failure> {
    // Enough to notice that a line is too long, CR LF included.
    let most = PASSWORD_BYTES + 3;
    let mut line = Vec::with_capacity(most);
    input
        .take(most as u64)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::new(Code::Io, format!("no password: stdin: {error}")))?;
    while let Some(b'\r' | b'\n') = line.last() {
        line.pop();
    }
    Ok(line)
}

fn say(out: &mut dyn Write, lines: &[String]) -> Result<(), Failure> {
    let mut out = BufWriter::new(out);
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    match written.and_then(|()| out.flush()) {
        // `mms user list users | head` has what it wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Io, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        // If nobody can be warned, nobody can be told that either.
        _ = writeln!(io::stderr(), "mms: warning: {warning}");
    }
}
