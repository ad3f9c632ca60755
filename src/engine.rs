//! The engine: hub and spool in the one order that keeps the promise. Events go in and are
//! decided at once; what the hub wants said is held until the journal is durable, and only then
//! handed over. Simulations run this same code.
//!
//! ```text
//! handle(event)…  tick()      decided, records gather in memory
//! commit()                    one write, one fdatasync if a promise stands on it
//! release(say)                only now anything is said
//! prepare()                   a piece of the way to a smaller journal, and of the room that later
//!                             turns write to
//! ```
//!
//! The disk may still be at it when a commit returns. What stands on that batch is then said in the
//! turn that finds it durable, and what is decided meanwhile gathers for the next batch: all in the
//! order in which it was decided.

pub use crate::core::event::SavePassword;
use crate::core::event::{Action, Conn, Dialect, Event, Flow, Note, Viewer};
use crate::core::hub::{Hub, Rules, Turn};
use crate::core::password::Verifier;
use crate::core::record::{LetterId, LetterKind, Location, Record};
use crate::digits::Count;
use crate::fault::{Fault, is_planted};
use crate::limits::{MUCH_TO_SAY, SLOW_SYNC_MS, SMALL_TALK};
use crate::proto::coded::{LetterLine, Tag};
use crate::proto::command::Verb;
use crate::proto::line::Limits;
use crate::proto::name::UserName;
use crate::proto::plain::Showing;
use crate::proto::reply::{Farewell, Reply};
use crate::store::disk::{Disk, Patience, Progress};
use crate::store::ledger::Ledger;
use crate::store::ready::Tidings;
use crate::store::recovery::{Recovery, SpoolError};
pub use crate::store::spool::Load;
use crate::store::spool::{Ask, Config, Measure, Spool};
use crate::time::{Millis, Now};
use log::{error, info, warn};
use std::io;
use std::os::fd::BorrowedFd;

/// What the world is to do, once it is durable.
#[derive(Debug)]
pub enum Output<'a> {
    /// Say this, to whom, as the answer to a command with this tag.
    Say(Conn, Option<Tag>, &'a Reply),
    /// Show a letter to a program.
    Letter(Conn, &'a LetterLine<'a>),
    /// Show a letter.
    Show {
        /// To whom.
        conn: Conn,
        /// Its sender.
        from: &'a UserName,
        /// Its text: UTF-8.
        body: &'a [u8],
        /// How it came.
        showing: Showing,
    },
    /// Report `Drained` when all of it is written.
    Watch(Conn),
    /// Report now what was acknowledged.
    Look(Conn),
    /// Hand over its lines again.
    Resume(Conn),
    /// See [`Action::SavePassword`].
    SavePassword(&'a SavePassword),
    /// Write what is left, then close.
    Close {
        /// Which.
        conn: Conn,
        /// See [`Action::Close`].
        witness: bool,
    },
    /// Nothing more will be said to it.
    Free(Conn),
}

/// A letter that is to be shown.
struct Shown<'a> {
    dialect: Dialect,
    id: LetterId,
    from: &'a UserName,
    at: Location,
}

/// The rules and the journal of one server.
pub struct Engine<D: Disk> {
    hub: Hub,
    spool: Spool<D>,
    /// Decided, not durable; the first of them then.
    held: Vec<Action>,
    held_since: Millis,
    /// Written, and the disk is at it; the first of them was decided then.
    syncing: Vec<Action>,
    syncing_since: Millis,
    /// When the disk began, as of the turn in which it did: later than that if it was at another.
    sync_began: Option<Millis>,
    /// The operator was told that it takes its time.
    slow_told: bool,
    /// Durable, not said.
    durable: Vec<Action>,
    /// Whether the next commit waits until all is durable.
    patience: Patience,
    /// How many of those that are held are there by no work of the rules.
    small_talk: usize,
    tally: Tally,
}

impl<D: Disk> Engine<D> {
    /// Replays the spool on `disk` and begins a run.
    pub fn open(
        disk: D,
        config: Config,
        rules: Rules,
        entries: Vec<(UserName, Verifier)>,
        now: Now,
        entropy: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    ) -> Result<(Self, Recovery), SpoolError> {
        let mut hub = Hub::new(rules, entries);
        let mut visit = |record: &Record<'_>, at, ledger: &mut Ledger| {
            hub.restore(record, at, &mut |at| ledger.release(at));
        };
        let (spool, recovery) = Spool::open(disk, config, now.unix_ms, entropy, &mut visit)?;
        hub.set_spool(spool.name(), *spool.secret());
        hub.restored(spool.epoch());
        let mut engine = Self {
            hub,
            spool,
            held: Vec::new(),
            held_since: now.mono,
            syncing: Vec::new(),
            syncing_since: now.mono,
            sync_began: None,
            slow_told: false,
            durable: Vec::new(),
            patience: Patience::Look,
            small_talk: 0,
            tally: Tally::default(),
        };
        // The last segment may be full, so that whatever is appended first begins a new one; or
        // its first batch was torn, and marks that older segments still have are missing in it.
        // So all marks are repeated, durably, before an older segment can go.
        let Self { hub, spool, held, .. } = &mut engine;
        let mut marks = Measure::default();
        hub.checkpoint(now.unix_ms, &mut marks);
        if spool.begin_repeating(marks.bytes)? {
            hub.checkpoint(now.unix_ms, spool);
            spool.repeated();
        }
        let turn = &mut Turn { now, journal: spool, out: held, said_until: now.mono };
        hub.hold_orphans(turn);
        for loss in &recovery.losses {
            hub.tell_losses(&loss.letters, turn);
        }
        spool.commit_now()?;
        spool.losses_told(&recovery.losses)?;
        Ok((engine, recovery))
    }

    /// The operator was told what was found.
    pub fn told(&mut self, recovery: &Recovery) -> io::Result<()> {
        self.spool.gaps_told(&recovery.missing)
    }

    /// Handles what happened. Nothing is said before [`Engine::release`].
    pub fn handle(&mut self, event: Event<'_>, now: Now) -> Flow {
        self.begin(now);
        if let Event::Reloaded { .. } = event {
            // Before the file may be changed once more: who was removed and added again is somebody
            // else.
            self.patience = Patience::Wait;
        }
        let (work, things) = (self.hub.work(), self.held.len());
        let said_until = self.said_until(now.mono);
        let out = &mut self.held;
        let mut turn = Turn { now, journal: &mut self.spool, out, said_until };
        let flow = self.hub.handle(event, &mut turn);
        if self.hub.work() == work {
            self.small_talk += self.held.len() - things;
        }
        if is_planted(Fault::DeliverBeforeSync) {
            let shown = |action: &mut Action| matches!(action, Action::Show { .. });
            self.durable.extend(self.held.extract_if(.., shown));
        }
        flow
    }

    /// Does what has become due.
    pub fn tick(&mut self, now: Now) {
        self.begin(now);
        if let Some(at) = self.slow_at().filter(|at| *at <= now.mono) {
            self.slow_told = true;
            let seconds = (SLOW_SYNC_MS + now.mono.since(at)) / 1000;
            warn!("the disk has synced for {seconds} s: nobody is told anything until it is done");
        }
        let said_until = self.said_until(now.mono);
        let out = &mut self.held;
        self.hub.tick(&mut Turn { now, journal: &mut self.spool, out, said_until });
    }

    /// When the operator is told that the disk takes its time, unless he was.
    fn slow_at(&self) -> Option<Millis> {
        self.sync_began.filter(|_| !self.slow_told).map(|began| began.plus(SLOW_SYNC_MS))
    }

    fn said_until(&self, now: Millis) -> Millis {
        match (self.syncing.is_empty(), self.held.is_empty()) {
            (false, _) => self.syncing_since,
            (true, false) => self.held_since,
            (true, true) => now,
        }
    }

    /// What comes before each event: seldom anything.
    fn begin(&mut self, now: Now) {
        if self.held.is_empty() {
            self.held_since = now.mono;
        }
        if self.spool.needs_way() {
            self.make_way(now);
        }
    }

    /// A new segment begins with what must outlive the older ones.
    #[cold]
    fn make_way(&mut self, now: Now) {
        self.spool.make_way();
        if self.spool.roll_due() {
            self.hub.checkpoint(now.unix_ms, &mut self.spool);
            self.spool.repeated();
        }
    }

    /// When [`Engine::tick`] is wanted next. Time zero means: as soon as the others have had their
    /// turn.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        if self.spool.compact_due() {
            return Some(Millis(0));
        }
        // While the disk is at a sync, it is for that to say when there is more to do.
        let prepare_at = match (self.spool.is_syncing(), self.spool.is_idle()) {
            (true, _) => None,
            // Copies wait for a commit.
            (false, false) => Some(Millis(0)),
            (false, true) => self.spool.prepare_at(),
        };
        [self.hub.deadline(), self.slow_at(), prepare_at].into_iter().flatten().min()
    }

    /// Whether this turn has gathered so much that lines had better wait for the next one.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.spool.is_batch_full() || self.hub.has_enough() || self.small_talk >= SMALL_TALK
    }

    /// Whether the disk is at a sync.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.spool.is_syncing()
    }

    /// Whether promises wait for the disk.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.spool.syncs()
    }

    /// From now on a commit may take its time: what it makes durable is said in the turn that finds
    /// it so. The descriptor has an edge when it is worth to look. None if a commit waits.
    pub fn sync_in_background(&mut self) -> Option<BorrowedFd<'_>> {
        self.spool.sync_in_background()
    }

    /// How much this turn has done, in the measure of [`crate::limits::WORK_A_TURN`].
    #[must_use]
    pub fn work(&self) -> usize {
        self.hub.work()
    }

    /// Whether this turn has so much to say that saying it takes far longer than hearing more.
    #[must_use]
    pub fn has_much_to_say(&self) -> bool {
        let things = || self.held.iter().map(Action::things).sum::<usize>();
        let much = self.held.len() >= MUCH_TO_SAY || things() >= MUCH_TO_SAY;
        much && !self.has_enough() && !self.spool.is_syncing()
    }

    /// What a line to be handed over from `conn` may be.
    #[must_use]
    pub fn limits(&self, conn: Conn) -> Limits {
        self.hub.limits(conn)
    }

    /// Makes what was decided durable; what the disk is still at when this returns, a later call
    /// finds durable, and what is decided meanwhile waits until then. After an error the process
    /// must end without saying any of it: the next start replays.
    pub fn commit(&mut self) -> io::Result<()> {
        // Lines are taken no faster than the disk takes what they ask for.
        let patience = if self.has_enough() { Patience::Wait } else { self.patience };
        if self.spool.settle(patience)? == Progress::UnderWay {
            return Ok(());
        }
        self.sync_began = None;
        if std::mem::take(&mut self.slow_told) {
            info!("the disk goes on");
        }
        move_all(&mut self.syncing, &mut self.durable);
        // A smaller journal needs a moment in which all is said.
        if self.spool.compact_due() {
            self.patience = Patience::Wait;
        }
        let mut progress = self.spool.commit()?;
        if std::mem::replace(&mut self.patience, Patience::Look) == Patience::Wait {
            progress = self.spool.settle(Patience::Wait)?;
        }
        let to = match progress {
            Progress::UnderWay if !is_planted(Fault::SpeakWhileSyncing) => &mut self.syncing,
            _ => &mut self.durable,
        };
        move_all(&mut self.held, to);
        self.syncing_since = self.held_since;
        self.hub.rest();
        self.small_talk = 0;
        Ok(())
    }

    /// Hands over what is durable. Fails if a letter's text cannot be read for a reason other
    /// than damage to that letter.
    pub fn release(&mut self, mut say: impl FnMut(Output<'_>)) -> io::Result<()> {
        let mut durable = std::mem::take(&mut self.durable);
        // Looked at where they lie: what is said most often takes longest to move.
        for action in &durable {
            match action {
                Action::Say { conn, tag, reply } => say(Output::Say(*conn, *tag, reply)),
                Action::Show { dialect, id, from, at, viewer, further } => {
                    let viewers = std::iter::once(viewer).chain(further);
                    let shown = Shown { dialect: *dialect, id: *id, from, at: *at };
                    match self.show(&shown, viewers.clone(), &mut say) {
                        Ok(()) => {}
                        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                            error!("letter {id} from {from} is damaged and cannot be shown: {e}");
                            let damaged = Reply::LetterDamaged { id: *id, from: from.clone() };
                            for viewer in viewers {
                                self.hub.damaged(viewer.user, *id);
                                say(Output::Say(viewer.conn, None, &damaged));
                            }
                        }
                        Err(e) => return Err(e),
                    }
                }
                Action::Watch { conn } => say(Output::Watch(*conn)),
                Action::Look { conn } => say(Output::Look(*conn)),
                Action::Resume { conn } => say(Output::Resume(*conn)),
                Action::Close { conn, witness } => {
                    say(Output::Close { conn: *conn, witness: *witness });
                }
                Action::Free { conn } => say(Output::Free(*conn)),
                Action::SavePassword(save) => say(Output::SavePassword(save)),
                Action::Note(note) => self.tally.note(note),
            }
        }
        durable.clear();
        self.durable = durable;
        self.tally.write();
        Ok(())
    }

    /// Does a piece of the way to a smaller journal, and makes a piece of the room ready that later
    /// turns write to. Called when everything that could be said was said. A full disk is no error;
    /// after an error the process must end.
    pub fn prepare(&mut self, now: Now, load: Load) -> io::Result<()> {
        if self.spool.compact_due() {
            // It is not while the disk is at a sync, and only then something waits. What is still
            // to be shown might stand in the segment that goes.
            debug_assert!(self.held.len() + self.syncing.len() + self.durable.len() == 0);
            self.begin(now);
            let hub = &mut self.hub;
            self.spool.compact_step(&mut |ask| match ask {
                Ask::Needs { user, id, at } => hub.needs(user, id, at),
                Ask::Moved { user, id, to } => {
                    hub.moved(user, id, to);
                    true
                }
            })?;
        }
        let load = if self.spool.is_syncing() {
            self.sync_began.get_or_insert(now.mono);
            Load::Busy
        } else {
            load
        };
        match self.spool.prepare(now.mono, load)? {
            None => {}
            Some(Tidings::Full(why)) => warn!(
                "the disk is full: {why}; {} KiB are ready, with less than half of what is wanted \
                 messages are refused, and all else goes on while there is any",
                self.spool.ready_bytes() >> 10
            ),
            Some(Tidings::Room) => info!("the disk is not full any more"),
        }
        Ok(())
    }

    fn show<'a>(
        &mut self,
        shown: &Shown<'_>,
        viewers: impl Iterator<Item = &'a Viewer>,
        say: &mut impl FnMut(Output<'_>),
    ) -> io::Result<()> {
        let Shown { dialect, id, from, at } = *shown;
        if dialect == Dialect::Plain {
            let body = self.spool.body(at)?;
            for &Viewer { conn, again, waited, .. } in viewers {
                say(Output::Show { conn, from, body, showing: Showing { again, waited } });
            }
            return Ok(());
        }
        let page = self.spool.page(at)?;
        let mut line = LetterLine {
            id,
            stamp: page.stamp,
            again: false,
            broadcast: page.kind == LetterKind::Broadcast,
            from: from.as_str(),
            body: page.body,
            line_ends: at.line_ends,
        };
        for viewer in viewers {
            line.again = viewer.again;
            say(Output::Letter(viewer.conn, &line));
        }
        Ok(())
    }

    /// Ends the run in order.
    pub fn stop(&mut self, now: Now) -> io::Result<()> {
        self.spool.stop(now.unix_ms)
    }
}

fn move_all(from: &mut Vec<Action>, to: &mut Vec<Action>) {
    if to.is_empty() {
        std::mem::swap(from, to);
    } else {
        to.append(from);
    }
}

/// What a turn tells the log: commands, and limits that bite, which are repeated become one line
/// with a number, so that a flood of them is none in the log.
#[derive(Default)]
struct Tally(Vec<(Note, u32)>);

/// How far back a note looks for its like: a command and the limit that it met take turns.
const LIKES: usize = 4;

impl Tally {
    fn note(&mut self, note: &Note) {
        let (note, count) = match note {
            Note::Command { user, verb, times } => {
                (Note::Command { user: user.clone(), verb: *verb, times: 1 }, *times)
            }
            other => (other.clone(), 1),
        };
        if !matches!(note, Note::Command { .. } | Note::Limited { .. }) {
            // Lines stay in the order in which things happened.
            self.write();
            return write_note(&note, 1);
        }
        let like = self.0.iter_mut().rev().take(LIKES).find(|(other, _)| *other == note);
        match like {
            Some((_, before)) => *before += count,
            None => self.0.push((note, count)),
        }
    }

    fn write(&mut self) {
        for (note, count) in self.0.drain(..) {
            write_note(&note, count);
        }
    }
}

/// How often something happened, if it was more than once.
struct Times(u32);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => Ok(()),
            n => write!(f, " x{n}"),
        }
    }
}

/// Somebody's name, if anybody has it: what is typed as one may be a password.
struct Known<'a>(&'a Option<UserName>);

impl std::fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_ref().map_or("an unknown user", UserName::as_str))
    }
}

/// The fixed words of the log. Programs read what begins with `[security]`, and README.md lists it:
/// `[security] <event> from <address>: <more>`, so that nothing a peer chooses stands in front of
/// the address.
fn write_note(note: &Note, count: u32) {
    let times = Times(count);
    match note {
        Note::SignInFailed { user, address } => {
            warn!("[security] sign-in-failed from {address}: {}", Known(user));
        }
        Note::SignInBlocked { user, address } => {
            warn!("[security] sign-in-blocked from {address}: {}", Known(user));
        }
        Note::SignInRefused { user, address, why } => {
            warn!("[security] sign-in-refused from {address}: {}: {why}", Known(user));
        }
        Note::BlockBegun { user, address, block_s } => {
            warn!("[security] block-begun from {address}: {}: {block_s} s", Known(user));
        }
        Note::PasswordKept { user, address, why } => {
            warn!("[security] password-kept from {address}: {user}: {why}");
        }
        Note::PasswordChanged { user, address } => {
            info!("[security] password-changed from {address}: {user}");
        }
        Note::Dismissed { address, why: Farewell::Foreign(what) } => {
            warn!("[security] other-protocol from {address}: {}", what.name());
        }
        Note::SignedIn { user, address } => info!("{user} signed in from {address}"),
        Note::SignedOff { user, address, why } => {
            info!("{user} signed off from {address}: {}", why.reason());
        }
        Note::Dismissed { address, why: why @ (Farewell::Overload | Farewell::ShuttingDown) } => {
            warn!("[security] connection-dropped from {address}: {}", why.reason());
        }
        Note::Dismissed { address, why } => {
            warn!("[security] dismissed from {address}: {}", why.reason());
        }
        Note::Limited { user: Some(user), what } => warn!("{user}: limit reached: {what}{times}"),
        Note::Limited { user: None, what } => warn!("limit reached: {what}{times}"),
        Note::Held { user, letters } => {
            let are = if *letters == 1 { "is" } else { "are" };
            warn!("{} of {user} {are} held: the user was removed", Count(*letters, "letter"));
        }
        Note::LossTold { user, letters } => {
            let letters = Count(*letters, "letter");
            warn!("{user} is told that the disk has lost {letters} to him");
        }
        Note::Command { user, verb, .. } => {
            let who = user.as_ref().map_or("not signed in", UserName::as_str);
            let what = verb.map_or("unknown", Verb::name);
            info!("{who}: {what}{times}");
        }
    }
}
