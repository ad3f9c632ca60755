//! `mms server`: options to settings, and the order in which a server comes up. Whatever is wrong
//! is found before anything is changed: users, port, log, spool.

use super::certificate::{self, Source};
use super::{Code, Failure};
use crate::core::event::Saved;
use crate::core::hub::{Duplicate, Rules, SelfSend};
use crate::core::password::Verifier;
use crate::digits::Count;
use crate::engine::{Engine, SavePassword};
use crate::limits::{
    BLOCK_TIME_S, BUFFERS_MIB, CONNECTIONS, DESCRIPTORS_KEPT, IDLE_TIMEOUT_S, MAILBOX_BYTES,
    MAILBOX_LETTERS, MAX_FAILURES, RESERVE_MIB, RESERVE_MIB_LEAST, RESERVE_MIB_MOST, SENDER_SHARE,
};
use crate::logging::{self, LogFile};
use crate::net::{
    Certificate, Clock, Listener, Network, Outside, Server as Loop, Settings, keep_memory_private,
    listen, raise_descriptor_limit,
};
use crate::proto::name::UserName;
use crate::proto::reply::Flushed;
use crate::store::disk::{FileDisk, OpenError};
use crate::store::foresight::foresee;
use crate::store::recovery::{Recovery, SpoolError};
use crate::store::spool::{Config, Sync};
use crate::store::users::{self, Change, UsersErrorKind};
use clap::{Args, ValueEnum};
use log::{error, info, warn};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

mod check;

/// Run the server: people reach it with telnet, nc or the like.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms server 1060 users                       then: telnet localhost 1060
  mms server 0 users                          a free port; it is printed
  mms server 1060 users --tls 1061            reachable from other machines, over TLS
  mms server 1060 users --bind 0.0.0.0        the same without: who is on the way reads along
  TIME_OUT=600 mms server 1060 users          sign off who is idle for 10 minutes
  mms server 1060 users --check               what a start would find; changes nothing

It prints 'mms: listening on ADDRESS:PORT' when it is ready. SIGTERM or Ctrl-C stop it in order;
SIGHUP reads the password file and the certificate again and reopens the log. An argument goes
before the environment, the environment before the default.

Exit codes: 0 stopped in order; 64 the command line is wrong; 65 the spool is damaged, and
--strict was given; 66 the password file or the certificate is missing or cannot be read; 69 the
port is in use; 73 the spool or the log cannot be made; 74 the disk failed, and nothing was
confirmed that is not stored; 75 another server has the spool; 77 no permission; 78 the password
file or the certificate is wrong, or the spool is of a newer version.")]
pub struct Server {
    /// The TCP port, 0 to 65535; 0 takes a free one
    #[arg(value_parser = port, allow_negative_numbers = true)]
    port: u16,
    /// The password file (see `mms user`)
    users: PathBuf,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    bind: IpAddr,
    /// The TCP port for connections over TLS, 0 for a free one; without it there are none
    #[arg(long, value_name = "PORT", value_parser = port, allow_negative_numbers = true)]
    tls: Option<u16>,
    /// The address to listen on for TLS; :: is all of them, those of IPv4 too
    #[arg(long, value_name = "ADDRESS", default_value = "::", value_parser = address)]
    tls_bind: IpAddr,
    /// The certificate for TLS in PEM, with those that vouch for it behind it; without it one is
    /// made at the first start and kept in the spool
    #[arg(long, value_name = "FILE", requires = "tls", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate in PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires = "tls", requires = "cert")]
    key: Option<PathBuf>,
    /// The directory for messages that wait
    #[arg(long, value_name = "DIR", default_value = "spool")]
    spool: PathBuf,
    /// Do not start if confirmed messages are damaged or missing: for who would rather restore a
    /// backup first
    #[arg(long)]
    strict: bool,
    /// Do not start: tell what a start with these options would find, and end with its exit code.
    /// Changes nothing, and may be done while a server runs
    #[arg(long)]
    check: bool,
    /// The log file; it also goes to stderr if that is a terminal
    #[arg(long, value_name = "FILE", default_value = "server.log")]
    log: PathBuf,
    /// Sign off who has given no command for so many seconds; 0 is never
    #[arg(long, value_name = "SECONDS", env = "TIME_OUT", default_value_t = IDLE_TIMEOUT_S,
        value_parser = seconds, allow_negative_numbers = true)]
    idle_timeout: u64,
    /// How long a name is blocked for an address after too many failed sign-ins
    #[arg(long, value_name = "SECONDS", env = "BLOCK_TIME", default_value_t = BLOCK_TIME_S,
        value_parser = seconds, allow_negative_numbers = true)]
    block_time: u64,
    /// Failed sign-ins in a row that block; 0 is never
    #[arg(long, value_name = "N", default_value_t = MAX_FAILURES, allow_negative_numbers = true)]
    max_failures: u32,
    /// Refuse messages to oneself
    #[arg(long)]
    no_self_send: bool,
    /// A second sign-in of a user who is online: refuse it while the first session is alive, or
    /// let it replace the first
    #[arg(long, value_enum, default_value_t = OnDuplicate::Refuse)]
    duplicate: OnDuplicate,
    /// Wait for the disk before a message is confirmed: always; or never, which survives the end
    /// of the server but not a power cut
    #[arg(long, value_enum, default_value_t = OnSync::Always)]
    sync: OnSync,
    /// MiB kept ready on the disk, so that a full one is survived; 0 is none, and a full disk ends
    /// the server
    #[arg(long, value_name = "MIB", default_value_t = RESERVE_MIB, value_parser = reserve,
        allow_negative_numbers = true)]
    spool_reserve: u32,
    /// Networks that may connect as often as they like: no caps, penalties or early drop hold for
    /// them; or none. Lockout holds for all
    #[arg(long, value_name = "NETWORK,…", default_value = "127.0.0.0/8,::1",
        value_parser = networks)]
    trusted: Networks,
    /// Messages that may wait for one user
    #[arg(long, value_name = "N", default_value_t = MAILBOX_LETTERS,
        allow_negative_numbers = true)]
    mailbox_letters: usize,
    /// Bytes of messages that may wait for one user
    #[arg(long, value_name = "BYTES", default_value_t = MAILBOX_BYTES,
        allow_negative_numbers = true)]
    mailbox_bytes: u64,
    /// Percent of a mailbox that messages of one sender may take; with less than 100, one who
    /// floods it leaves room for others
    #[arg(long, value_name = "PERCENT", default_value_t = SENDER_SHARE, value_parser = percent,
        allow_negative_numbers = true)]
    sender_share: u8,
    /// Memory for what connections have sent and not ended, or been told and not taken; those
    /// that hold most are closed beyond it
    #[arg(long, value_name = "MIB", default_value_t = BUFFERS_MIB, value_parser = mebibytes,
        allow_negative_numbers = true)]
    buffers: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnDuplicate {
    Refuse,
    Replace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnSync {
    Always,
    Never,
}

#[derive(Clone, Debug)]
struct Networks(Vec<Network>);

fn networks(words: &str) -> Result<Networks, String> {
    if words == "none" {
        return Ok(Networks(Vec::new()));
    }
    let all: Result<_, _> = words.split(',').map(|word| word.trim().parse()).collect();
    all.map(Networks).map_err(|fault: crate::net::NotANetwork| fault.to_string())
}

fn port(word: &str) -> Result<u16, String> {
    word.parse().map_err(|_| "a port is a number from 0 to 65535; 0 takes a free one".into())
}

fn address(word: &str) -> Result<IpAddr, String> {
    word.parse().map_err(|_| {
        "an address is wanted, such as 127.0.0.1, ::1, or 0.0.0.0 for all; names are not looked up"
            .into()
    })
}

/// Seconds up to a year. The value may come from the environment, which clap does not tell.
fn seconds(word: &str) -> Result<u64, String> {
    word.parse().ok().filter(|s| (0..=31_536_000).contains(s)).ok_or_else(|| {
        "a number of seconds is wanted, 0 to 31536000, as the option or in the environment".into()
    })
}

fn reserve(word: &str) -> Result<u32, String> {
    let fits = |mib: &u32| *mib == 0 || (RESERVE_MIB_LEAST..=RESERVE_MIB_MOST).contains(mib);
    word.parse().ok().filter(fits).ok_or_else(|| {
        format!("MiB are wanted, {RESERVE_MIB_LEAST} to {RESERVE_MIB_MOST}, or 0 for none")
    })
}

fn percent(word: &str) -> Result<u8, String> {
    let percent = word.parse().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| "a percentage is wanted, 1 to 100".into())
}

/// MiB, of which there are at least enough for one connection, and at most a TiB.
fn mebibytes(word: &str) -> Result<usize, String> {
    word.parse()
        .ok()
        .filter(|mib| (1..=1 << 20).contains(mib))
        .ok_or_else(|| "a number of MiB is wanted, 1 to 1048576".into())
}

impl Server {
    /// Runs the server until it is asked to stop. Tells on `out` when it is ready.
    ///
    /// # Errors
    /// If it cannot start, or the disk fails.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        // Before anything secret is read.
        if let Err(e) = keep_memory_private() {
            _ = writeln!(io::stderr(), "mms: a crash may leave passwords in a core dump: {e}");
        }
        if self.check {
            return check::all(self, out);
        }
        let users = users::load(&self.users)?;
        for warning in &users.warnings {
            _ = writeln!(io::stderr(), "mms: {warning}");
        }
        let given = self.given_certificate()?;
        let (listener, address) = door(SocketAddr::new(self.bind, self.port), "--bind")?;
        let tls_door =
            self.tls.map(|port| door(SocketAddr::new(self.tls_bind, port), "--tls-bind"));
        let tls_door = tls_door.transpose()?;
        let mut disk = FileDisk::open(&self.spool).map_err(cannot_open_spool)?;
        let log = logging::start(&self.log).map_err(|e| self.cannot_log(&e))?;
        if self.strict {
            self.refuse_damage(&mut disk)?;
        }
        let tls = match (tls_door, given) {
            (None, _) => None,
            (Some(door), Some(given)) => Some((door, given)),
            (Some(door), None) => Some((door, certificate::own(&mut disk, &self.spool)?)),
        };
        let clock = Clock::start();
        let (mut engine, recovery) = Engine::open(
            disk,
            self.config(),
            self.rules(),
            users.entries,
            clock.now(),
            &mut |bytes| getrandom::fill(bytes).map_err(io::Error::other),
        )
        .map_err(|e| cannot_replay(&e))?;
        tell_recovery(&recovery);
        // What nobody can read was not told: the next start says it again.
        if recovery.missing.is_empty() || log.settle().is_ok() {
            engine.told(&recovery).map_err(|e| cannot_replay(&e.into()))?;
        }
        let settings = Settings {
            connections: connections(),
            trusted: self.trusted.0.clone(),
            buffer_bytes: self.buffers << 20,
            seed: seed()?,
        };
        let failed = |e| Failure::new(Code::Io, format!("cannot set up the event loop: {e}"));
        let mut server = Loop::new(engine, listener, settings).map_err(failed)?;
        let (mut lines, mut warning) = (vec![format!("listening on {address}")], None);
        if let Some(((listener, address), certificate)) = tls {
            let fingerprint = certificate::shown(&certificate);
            lines.push(format!("listening on {address} with TLS, certificate {fingerprint}"));
            warning = self.certificate_warning(&certificate, clock.now().unix_ms);
            server.listen_for_tls(listener, certificate).map_err(failed)?;
        }
        self.tell(&lines, warning.as_deref(), address, out);
        let outside = Outside {
            reload: &mut || self.reload(&log),
            renew: &mut || self.renew(clock.now().unix_ms),
            inspect: &mut |certificate| self.inspect(certificate, clock.now().unix_ms),
            save: &mut |save| self.save(save),
        };
        server.run(&clock, outside).map_err(|e| self.disk_failed(&e))
    }

    fn disk_failed(&self, e: &io::Error) -> Failure {
        error!("the disk failed: {e}");
        log::logger().flush();
        Failure::new(
            Code::Io,
            format!(
                "the disk failed: {e}; nothing was confirmed that is not stored. Make room or mend \
                 the disk under {}, then start again",
                self.spool.display()
            ),
        )
    }

    fn cannot_log(&self, e: &io::Error) -> Failure {
        let path = self.log.display();
        Failure::new(Code::CannotCreate, format!("cannot write the log {path}: {e}; use --log"))
    }

    /// The certificate that the operator names, if there is to be TLS and he names one.
    fn given_certificate(&self) -> Result<Option<Certificate>, Failure> {
        if self.tls.is_some() {
            certificate::is_possible()?;
        }
        match (&self.cert, &self.key) {
            (Some(chain), Some(key)) => certificate::read(&Source { chain, key }).map(Some),
            _ => Ok(None),
        }
    }

    /// Tells where it listens, and who cannot come that way. Nobody may be reading it; whoever is
    /// waits for the first line.
    fn tell(
        &self,
        lines: &[String],
        warning: Option<&str>,
        address: SocketAddr,
        out: &mut dyn Write,
    ) {
        for line in lines {
            info!("{line}");
        }
        if let Some(warning) = warning {
            warn!("{warning}");
        }
        log::logger().flush();
        let all = lines.iter().map(String::as_str).chain(warning);
        let mut text: String = all.map(|line| format!("mms: {line}\n")).collect();
        if address.ip().is_loopback() {
            let others = match self.tls {
                None => "--tls PORT lets others in, encrypted; --bind 0.0.0.0 as it is",
                Some(_) => "others come by TLS; --bind 0.0.0.0 lets them in without",
            };
            text += &format!(
                "mms: {address} is for this machine only: without TLS anybody on the way could \
                 read passwords and messages; {others}\n"
            );
        }
        _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn certificate_warning(&self, certificate: &Certificate, unix_ms: u64) -> Option<String> {
        let own = self.spool.join(certificate::FILE);
        certificate::warning(certificate, self.cert.as_deref().unwrap_or(&own), unix_ms)
    }

    /// Tells the log what speaks against the certificate now.
    fn inspect(&self, certificate: &Certificate, unix_ms: u64) {
        if let Some(warning) = self.certificate_warning(certificate, unix_ms) {
            warn!("{warning}");
        }
    }

    /// What SIGHUP asks for, of the certificate.
    fn renew(&self, unix_ms: u64) -> Option<Certificate> {
        let own = self.spool.join(certificate::FILE);
        let source = match (&self.cert, &self.key) {
            (Some(chain), Some(key)) => Source { chain, key },
            _ => Source { chain: &own, key: &own },
        };
        match certificate::read(&source) {
            Ok(certificate) => {
                info!("certificate read again: {}", certificate::shown(&certificate));
                self.inspect(&certificate, unix_ms);
                Some(certificate)
            }
            Err(e) => {
                error!("certificate not read again, the old one is kept: {e}");
                None
            }
        }
    }

    /// What `--strict` is for. Nothing has been changed yet.
    fn refuse_damage(&self, disk: &mut FileDisk) -> Result<(), Failure> {
        let foreseen = foresee(disk).map_err(|e| cannot_replay(&e))?;
        if foreseen.lost_places == 0 {
            return Ok(());
        }
        for line in &foreseen.lines {
            error!("spool not opened: {line}");
        }
        error!("spool not opened: it is damaged, and --strict was given");
        log::logger().flush();
        Err(self.damaged(&foreseen))
    }

    fn damaged(&self, foreseen: &Recovery) -> Failure {
        let spool = self.spool.display();
        let message = format!(
            "the spool {spool} is damaged and was left as it is: {}. Restore a backup of it; or \
             start without --strict, which saves every whole message, keeps the damaged files \
             aside and tells those who can be made out to have lost messages. mms spool check \
             --spool {spool} says more",
            foreseen.lines.join("; ")
        );
        Failure::new(Code::Data, message)
    }

    fn rules(&self) -> Rules {
        Rules {
            idle_timeout_s: self.idle_timeout,
            block_time_s: self.block_time,
            max_failures: self.max_failures,
            self_send: if self.no_self_send { SelfSend::Refused } else { SelfSend::Allowed },
            duplicate: match self.duplicate {
                OnDuplicate::Refuse => Duplicate::Refuse,
                OnDuplicate::Replace => Duplicate::Replace,
            },
            mailbox_letters: self.mailbox_letters,
            mailbox_bytes: self.mailbox_bytes,
            sender_share: self.sender_share,
            ..Rules::default()
        }
    }

    fn config(&self) -> Config {
        let sync = match self.sync {
            OnSync::Always => Sync::Always,
            OnSync::Never => Sync::Never,
        };
        Config::with_reserve(sync, self.spool_reserve)
    }

    /// What a user's own change of his password asks for.
    fn save(&self, save: &SavePassword) -> Saved {
        let (user, old, new) = (save.user.clone(), save.old.clone(), save.new.clone());
        let Err(e) = users::try_edit(&self.users, &Change::ReplacePassword { user, old, new })
        else {
            return Saved::Done(Flushed::Surely);
        };
        match e.kind {
            UsersErrorKind::Busy => return Saved::Locked,
            UsersErrorKind::NoUser | UsersErrorKind::Outdated => return Saved::Outdated,
            _ => error!("password of {} not saved: {e}", save.user),
        }
        match e.kind {
            UsersErrorKind::Unflushed => Saved::Done(Flushed::Perhaps),
            _ => Saved::Failed,
        }
    }

    /// What SIGHUP asks for. Whatever is bad now, the old one stays.
    fn reload(&self, log: &LogFile) -> Option<Vec<(UserName, Verifier)>> {
        if let Err(e) = log.reopen() {
            warn!("log {} not reopened, the old one is kept: {e}", self.log.display());
        }
        match users::load(&self.users) {
            Ok(users) => {
                for warning in &users.warnings {
                    warn!("{warning}");
                }
                info!("users reloaded: {}", users.entries.len());
                Some(users.entries)
            }
            Err(e) => {
                error!("users not reloaded, the old ones are kept: {e}");
                None
            }
        }
    }
}

/// Connections at most: the descriptors, less those for everything else.
fn connections() -> usize {
    let descriptors =
        raise_descriptor_limit().map_or(1024, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    descriptors.saturating_sub(DESCRIPTORS_KEPT).clamp(1, CONNECTIONS)
}

/// What the early drop rolls its dice from.
fn seed() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(Code::Io, format!("the system gives no randomness: {e}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Listens there. `option`: what says where.
fn door(address: SocketAddr, option: &str) -> Result<(Listener, SocketAddr), Failure> {
    let failed = |e: io::Error| cannot_listen(address, option, &e);
    let listener = listen(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn cannot_listen(address: SocketAddr, option: &str, e: &io::Error) -> Failure {
    let port = address.port();
    match e.kind() {
        ErrorKind::AddrInUse => Failure::new(
            Code::Unavailable,
            format!(
                "port {port} on {} is in use; stop what uses it or choose another, 0 for a free \
                 one",
                address.ip()
            ),
        ),
        ErrorKind::PermissionDenied => Failure::new(
            Code::Permission,
            format!("port {port} needs the right to use ports below 1024; choose a higher one"),
        ),
        ErrorKind::AddrNotAvailable => Failure::new(
            Code::Unavailable,
            format!("this machine has no address {}; use another {option}", address.ip()),
        ),
        _ => Failure::new(
            Code::Unavailable,
            format!("cannot listen on {address}: {e}; choose another port or {option}"),
        ),
    }
}

/// What an operator of the server may do, behind what is wrong.
fn cannot_open_spool(e: OpenError) -> Failure {
    let advice = match &e {
        OpenError::InUse(_) => "",
        OpenError::Permission(_) => {
            "; the directory must belong to the user who runs the server, on a disk that can be \
             written to; or use another --spool"
        }
        OpenError::CannotCreate(_) | OpenError::Missing(_) | OpenError::Io(_) => {
            "; mend that or use another --spool"
        }
    };
    let mut failure = Failure::from(e);
    failure.message.push_str(advice);
    failure
}

fn cannot_replay(e: &SpoolError) -> Failure {
    let code = match e {
        SpoolError::Io(e) if e.kind() == ErrorKind::PermissionDenied => Code::Permission,
        SpoolError::Io(_) => Code::Io,
        SpoolError::NewerFormat { .. } => Code::Config,
    };
    error!("spool not opened: {e}");
    log::logger().flush();
    let advice = match e {
        SpoolError::Io(e) if e.kind() == ErrorKind::StorageFull => {
            "; the disk is full: make room, then start again. Nothing is lost"
        }
        SpoolError::Io(e) if e.kind() == ErrorKind::PermissionDenied => {
            "; give it to the user who runs the server, or use another --spool"
        }
        SpoolError::Io(_) => "; mend that, then start again, or use another --spool",
        SpoolError::NewerFormat { .. } => "",
    };
    Failure::new(code, format!("cannot open the spool: {e}{advice}"))
}

fn tell_recovery(recovery: &Recovery) {
    let (letters, bytes) = (Count(recovery.letters, "letter"), Count(recovery.bytes, "byte"));
    info!("spool replayed: {letters} in {bytes}");
    for line in recovery.lines.iter().chain(&recovery.repairs) {
        warn!("spool: {line}");
    }
    let Recovery { lost_bytes, lost_letters, torn_bytes, salvaged, .. } = recovery;
    if lost_bytes + torn_bytes + recovery.lost_places > 0 {
        let missing: u64 = recovery.missing.iter().map(|gap| gap.segments()).sum();
        warn!(
            "spool repaired: {} saved from damaged segments, {} lost ({} readable), {} missing, \
             {} cut at the end, {} in quarantine",
            Count(*salvaged, "record"),
            Count(*lost_bytes, "byte"),
            Count(*lost_letters, "letter"),
            Count(missing, "segment"),
            Count(*torn_bytes, "byte"),
            Count(recovery.quarantined.len() as u64, "file"),
        );
    }
}
