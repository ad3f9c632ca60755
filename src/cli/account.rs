//! What the commands for scripts have in common: which server, as whom, with what; and which exit
//! code tells a script what went wrong.

use super::trust::TlsArgs;
use super::{Code, Failure};
use crate::client::keys::{self, KeysError};
use crate::client::link::{Credential, Login, Password, Why};
use crate::client::oneshot::Trouble;
use crate::client::trust::{Distrust, Route};
use crate::limits::PASSWORD_BYTES;
use crate::proto::coded_client::Kind;
use crate::proto::name::UserName;
use crate::scram::ScramFault;
use clap::Args;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

/// The port of a server that is named without one.
const PORT: u16 = 1060;
/// The same over TLS.
const TLS_PORT: u16 = 1061;

/// Which server, as whom.
#[derive(Debug, Args)]
pub struct Account {
    #[command(flatten)]
    server: ServerArg,
    /// The user to sign in as; if it is left out, the one whose keys are saved.
    #[arg(long, value_name = "NAME", env = "MMS_USER")]
    user: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, value_name = "FILE", env = "MMS_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// Take the password from the first line of stdin.
    #[arg(long)]
    password_stdin: bool,
}

/// Which server.
#[derive(Debug, Args)]
pub struct ServerArg {
    /// The server; without a port it is 1060, over TLS 1061.
    #[arg(long, value_name = "HOST:PORT", env = "MMS_SERVER", default_value = "127.0.0.1")]
    server: String,
    #[command(flatten)]
    tls: TlsArgs,
}

impl ServerArg {
    /// `host:port`, with the usual port if none is given.
    pub fn address(&self) -> Result<String, Failure> {
        let server = &*self.server;
        let usual = if self.tls.is_wanted() { TLS_PORT } else { PORT };
        let wrong = || {
            let message = format!("{server:?} is no server; it is HOST:PORT, as in localhost:1060");
            Failure::new(Code::Usage, message)
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            // A bare IPv6 address.
            Some(_) if !server.ends_with(']') => return Ok(format!("[{server}]:{usual}")),
            _ => return Ok(format!("{server}:{usual}")),
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(format!("{host}:{port}"))
    }

    /// The way to it.
    pub fn route(&self) -> Result<Route, Failure> {
        self.tls.route(&self.address()?)
    }
}

impl Account {
    /// An account that was not given as options.
    pub fn new(server: String, user: Option<String>, password_file: Option<PathBuf>) -> Self {
        let tls = TlsArgs::default();
        Self { server: ServerArg { server, tls }, user, password_file, password_stdin: false }
    }

    /// `host:port`.
    pub fn address(&self) -> Result<String, Failure> {
        self.server.address()
    }

    /// The way to the server.
    pub fn route(&self) -> Result<Route, Failure> {
        self.server.route()
    }

    /// Whether the password comes from stdin, so that nothing else can.
    pub fn takes_stdin(&self) -> bool {
        self.password_stdin
    }

    /// The user, checked.
    pub fn user(&self, address: &str) -> Result<UserName, Failure> {
        user(self.user.as_deref(), address)
    }

    /// Everything for a sign-in.
    pub fn login(&self, kind: Kind) -> Result<(String, Login), Failure> {
        let address = self.address()?;
        let user = self.user(&address)?;
        let credential = match self.given_password()? {
            Some(password) => Credential::Password(password),
            None => match saved(&address, user.as_str())? {
                Some(keys) => Credential::Keys(keys),
                None => Credential::Password(ask(&user)?),
            },
        };
        Ok((address, Login { user: user.as_str().into(), kind, credential }))
    }

    /// A sign-in from the password, to make keys of it.
    pub fn login_by_password(&self) -> Result<(String, Login), Failure> {
        let address = self.address()?;
        let user = self.user(&address)?;
        let password = match self.given_password()? {
            Some(password) => password,
            None => ask(&user)?,
        };
        let credential = Credential::Password(password);
        Ok((address, Login { user: user.as_str().into(), kind: Kind::Tool, credential }))
    }

    fn given_password(&self) -> Result<Option<Password>, Failure> {
        if self.password_stdin {
            return first_line(&mut io::stdin().lock(), "stdin").map(Some);
        }
        let Some(path) = &self.password_file else { return Ok(None) };
        let name = path.display().to_string();
        let mut file = File::open(path)
            .map_err(|error| Failure::new(Code::NoInput, format!("{name}: {error}")))?;
        first_line(&mut file, &name).map(Some)
    }
}

/// The user of this name, checked; without one, the only one whose keys for this server are saved.
pub fn user(name: Option<&str>, address: &str) -> Result<UserName, Failure> {
    let saved = || keys::only_user(&folder()?, address);
    let Some(name) = name.map(str::to_owned).or_else(saved) else {
        let message = "as whom? give --user NAME, set MMS_USER, or save keys with 'mms login'";
        return Err(Failure::new(Code::Usage, message));
    };
    UserName::new(&name)
        .map_err(|fault| Failure::new(Code::Data, format!("user {name:?}: {fault}")))
}

/// The folder of saved keys, if the environment tells where it would be.
pub fn folder() -> Option<PathBuf> {
    below("XDG_CONFIG_HOME", ".config")
}

/// The folder of inboxes, likewise.
pub fn data_folder() -> Option<PathBuf> {
    below("XDG_DATA_HOME", ".local/share")
}

fn below(variable: &str, at_home: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let folder = absolute(variable);
    let folder = folder.or_else(|| absolute("HOME").map(|home| home.join(at_home)));
    folder.map(|folder| folder.join("mms"))
}

/// Where the keys of this user are, or would be.
pub fn keys_path(address: &str, user: &str) -> Result<PathBuf, Failure> {
    let message = "nowhere to keep keys: neither HOME nor XDG_CONFIG_HOME names an absolute folder";
    let folder = folder().ok_or_else(|| Failure::new(Code::Config, message))?;
    Ok(keys::path(&folder, address, user))
}

fn saved(address: &str, user: &str) -> Result<Option<crate::scram::Keys>, Failure> {
    let Some(folder) = folder() else { return Ok(None) };
    Ok(keys::load(&keys::path(&folder, address, user))?)
}

/// Asks at the terminal, without echo.
pub fn ask(user: &UserName) -> Result<Password, Failure> {
    // The prompt goes to the terminal itself, so stdin may be the message.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        let message = format!(
            "no password for {user}: give --password-file or --password-stdin, or save keys once \
             with 'mms login'"
        );
        return Err(Failure::new(Code::Usage, message));
    }
    match rpassword::prompt_password(format!("Password for {user}: ")) {
        Ok(password) => Ok(Password(password.into_bytes())),
        Err(error) => Err(Failure::new(Code::Io, format!("no password: {error}"))),
    }
}

/// The first line without its end.
fn first_line(input: &mut dyn Read, name: &str) -> Result<Password, Failure> {
    // Enough to notice that a line is too long, CR LF included.
    let most = PASSWORD_BYTES + 3;
    let mut line = Password(Vec::with_capacity(most));
    BufReader::new(input.take(most as u64))
        .read_until(b'\n', &mut line.0)
        .map_err(|error| Failure::new(Code::NoInput, format!("{name}: {error}")))?;
    if line.0.last() == Some(&b'\n') {
        line.0.pop();
    }
    if line.0.last() == Some(&b'\r') {
        line.0.pop();
    }
    if line.0.len() > PASSWORD_BYTES {
        let message = format!("{name}: a password has at most {PASSWORD_BYTES} bytes");
        return Err(Failure::new(Code::Data, message));
    }
    if line.0.is_empty() {
        return Err(Failure::new(Code::Data, format!("{name}: the first line holds no password")));
    }
    Ok(line)
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let shown = |path: &Path| path.display().to_string();
        match error {
            KeysError::Open(path) => {
                let path = shown(&path);
                let message = format!("{path}: others may read these keys; run: chmod 600 {path}");
                Self::new(Code::Config, message)
            }
            KeysError::Damaged(path) => {
                let message =
                    format!("{}: this holds no keys; save new ones: mms login", shown(&path));
                Self::new(Code::Config, message)
            }
            KeysError::Io(path, error) => Self::new(Code::Io, format!("{}: {error}", shown(&path))),
        }
    }
}

/// Why there was no session, as a line and an exit code.
pub fn failure(address: &str, trouble: &Trouble) -> Failure {
    let mut message = format!("{address}: {trouble}");
    if matches!(trouble, Trouble::Closed(Why::Scram(ScramFault::OldKeys))) {
        message += "; save new ones: mms login";
    }
    Failure::new(code(trouble), message)
}

fn code(trouble: &Trouble) -> Code {
    match trouble {
        Trouble::Unreachable(_) | Trouble::TimedOut(crate::client::link::State::Greeting) => {
            Code::Unavailable
        }
        Trouble::TimedOut(_) | Trouble::Tls(Distrust::Locked(_)) => Code::TryLater,
        Trouble::NoEntropy(_) => Code::Io,
        Trouble::Tls(Distrust::Files(_)) => Code::Config,
        Trouble::Tls(Distrust::Absent) => Code::Usage,
        Trouble::Tls(_) => Code::Protocol,
        Trouble::Closed(why) => match why {
            Why::Lost | Why::TurnedAway(_) => Code::TryLater,
            Why::Refused(refused) => match refused.code {
                535 | 536 => Code::Permission,
                400..=499 | 533 => Code::TryLater,
                _ => Code::Protocol,
            },
            Why::Scram(ScramFault::Impostor | ScramFault::TooFewRounds | ScramFault::OldKeys) => {
                Code::Permission
            }
            Why::Goodbye { reason, .. } => match &**reason {
                "too-many-failures" | "removed" | "password-changed" => Code::Permission,
                _ => Code::TryLater,
            },
            _ => Code::Protocol,
        },
    }
}

/// Writes data for a script. A reader that has gone had what it wanted.
pub fn put(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Io, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells a person something.
pub fn tell(words: &str) {
    // If nobody can be told, nobody can be told that either.
    _ = writeln!(io::stderr(), "mms: {words}");
}
