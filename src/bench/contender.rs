//! Who is measured: MMS, the bare relay, and servers of others that do the same work, where they
//! are installed. How each is started, so that it is as fast as it can be: without its own log,
//! its brakes against floods, and more promises than the work asks for.

use super::tongue::Dialect;
use super::work::{Setup, Sync, Work};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A server under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// This program.
    Mms,
    /// The bare relay.
    Relay,
    /// The same, with an answer to each text; where MMS waits for the disk, it does so as well.
    Answering,
    /// Redis: publish and subscribe; for who is away, a stream a mailbox.
    Redis,
    /// NATS, a subject a user.
    Nats,
    /// `InspIRCd`.
    Inspircd,
    /// `ngIRCd`.
    Ngircd,
    /// Mosquitto, MQTT with QoS 0.
    Mosquitto,
}

/// How a program is started.
pub(super) struct Start {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Whether its first line ends with its address; else it is at the one that it was given.
    pub(super) tells: bool,
}

impl Contender {
    /// All, MMS first.
    pub const ALL: [Self; 8] = [
        Self::Mms,
        Self::Relay,
        Self::Answering,
        Self::Redis,
        Self::Nats,
        Self::Inspircd,
        Self::Ngircd,
        Self::Mosquitto,
    ];

    /// Its name in tables and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mms => "mms",
            Self::Relay => "relay",
            Self::Answering => "relay-ok",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Inspircd => "inspircd",
            Self::Ngircd => "ngircd",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether it is this program, without whose figures there is nothing to compare: a fault of
    /// its own is not one of a stranger.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Mms | Self::Relay | Self::Answering)
    }

    /// Its program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
            one => one.name(),
        }
    }

    /// Where its program is, if it is anywhere.
    #[must_use]
    pub fn find_program(self) -> Option<PathBuf> {
        if self.is_ours() {
            return std::env::current_exe().ok();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers are often where an ordinary user does not look.
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder| folder.join(self.program())).find(|program| program.is_file())
    }

    /// What is put into `folder`, and how it is started then. `free` is an address that nobody
    /// listens at.
    pub(super) fn prepare(
        self,
        program: PathBuf,
        folder: &Path,
        free: SocketAddr,
        setup: &Setup,
    ) -> io::Result<Start> {
        let file = |name: &str| folder.join(name).display().to_string();
        let port = free.port().to_string();
        let config = |text: String| fs::write(folder.join("config"), text);
        let arguments = match self {
            Self::Mms => return prepare_mms(program, folder, setup),
            Self::Relay | Self::Answering => {
                let mut arguments: Vec<String> = words("bench relay").collect();
                if self == Self::Answering && setup.sync == Sync::Always {
                    arguments.extend(["--journal".into(), file("journal")]);
                }
                return Ok(Start { program, arguments, tells: true });
            }
            Self::Redis => redis(&port, &folder.display().to_string(), setup),
            Self::Nats => words("-a 127.0.0.1 -p").chain([port]).collect(),
            Self::Inspircd => {
                config(inspircd(&port))?;
                let root = (nix::unistd::geteuid().is_root()).then(|| "--runasroot".into());
                let head = words("--nofork --nolog --config");
                head.chain([file("config")]).chain(root).collect()
            }
            Self::Ngircd => {
                config(ngircd(&port))?;
                words("-n -f").chain([file("config")]).collect()
            }
            Self::Mosquitto => {
                config(format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
                     max_inflight_messages 1000\nmax_queued_messages 1000000\n"
                ))?;
                vec!["-c".into(), file("config")]
            }
        };
        Ok(Start { program, arguments, tells: false })
    }

    /// Whether it can do that work at all.
    #[must_use]
    pub fn knows(self, work: &Work) -> bool {
        match work {
            Work::Pairs { .. } | Work::FanOut { .. } | Work::Rate { .. } | Work::Idle { .. } => {
                true
            }
            Work::Offline { .. } => matches!(self, Self::Mms | Self::Redis),
            // Nobody else is asked for a password here: what is compared is the connection alone.
            Work::SignIns { .. } => true,
            Work::Backlog { .. } | Work::Replay { .. } => self == Self::Mms,
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(' ').map(Into::into)
}

fn prepare_mms(program: PathBuf, folder: &Path, setup: &Setup) -> io::Result<Start> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = |name: &str| folder.join(name).display().to_string();
    let (keys, mut users) = (setup.keys(), String::new());
    let verifier = keys.verifier();
    // One more than sign in: who is away.
    for user in 0..=setup.users {
        users += &format!("u{user}:{verifier}\n");
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(folder.join("users"))?.write_all(users.as_bytes())?;
    let sync = match setup.sync {
        Sync::Always => "always",
        Sync::Never => "never",
    };
    let (letters, bytes) = (setup.letters.max(10_000), setup.letters.max(10_000) * 4096);
    let mut arguments = vec!["server".into(), "0".into(), file("users")];
    for (name, value) in [
        ("--spool", file("spool")),
        ("--log", file("log")),
        ("--sync", sync.into()),
        ("--idle-timeout", "0".into()),
        ("--mailbox-letters", letters.to_string()),
        ("--mailbox-bytes", bytes.to_string()),
    ] {
        arguments.extend([name.into(), value]);
    }
    debug_assert!(matches!(setup.dialect, Dialect::Coded | Dialect::Plain));
    Ok(Start { program, arguments, tells: true })
}

fn redis(port: &str, folder: &str, setup: &Setup) -> Vec<String> {
    let mut arguments: Vec<String> = words("--bind 127.0.0.1 --port").collect();
    let unlimited = "pubsub 0 0 0";
    let durable = if setup.durable { "yes" } else { "no" };
    arguments.extend([port.into(), "--save".into(), String::new(), "--dir".into(), folder.into()]);
    arguments.extend(["--client-output-buffer-limit".into(), unlimited.into()]);
    arguments.extend(["--maxclients".into(), "50000".into(), "--appendonly".into()]);
    // As MMS does: for the kernel alone, or for the disk.
    let flushes = if setup.sync == Sync::Always { "always" } else { "no" };
    arguments.extend([durable.into(), "--appendfsync".into(), flushes.into()]);
    arguments
}

/// Nobody is slowed down for sending much.
fn inspircd(port: &str) -> String {
    format!(
        r#"<server name="bench.local" description="bench" id="1AA" network="bench">
<admin name="bench" nick="bench" email="bench@localhost">
<bind address="127.0.0.1" port="{port}" type="clients">
<connect name="all" allow="*" timeout="60" pingfreq="30m" limit="100000" localmax="100000"
  globalmax="100000" maxchans="10" useident="no" resolvehostnames="no" fakelag="no"
  threshold="100000000" commandrate="100000000" recvq="16M" softsendq="64M" hardsendq="128M">
<options defaultmodes="">
<performance quietbursts="yes" somaxconn="1024" softlimit="20000" netbuffersize="65534">
<limits maxnick="30">
"#
    )
}

fn ngircd(port: &str) -> String {
    let user = if nix::unistd::geteuid().is_root() { "ServerUID = nobody\n" } else { "" };
    format!(
        "[Global]\nName = bench.local\nInfo = bench\nListen = 127.0.0.1\nPorts = {port}\n{user}\
         [Limits]\nMaxConnections = 0\nMaxConnectionsIP = 0\nMaxJoins = 0\nMaxNickLength = 30\n\
         MaxPenaltyTime = 0\nPingTimeout = 600\nPongTimeout = 600\n\
         [Options]\nDNS = no\nIdent = no\nPAM = no\nSyslogFacility = daemon\n"
    )
}
