//! A disk in memory that tells what was written from what is durable, and that fails on demand.
//!
//! Every call of [`Disk`] is one step. At a chosen step the power goes: from then on everything
//! fails, until [`SimDisk::restart`] decides by a seed what of the unsynced is still there. Or a
//! chosen step fails, once or from then on. As on Linux, a sync that failed forgets what it
//! should have written: reads still see it, a later sync succeeds, and a power cut loses it.
//!
//! A disk that takes its time is at a sync that was begun until it was looked at several times, or
//! waited for; only then it has an effect, or fails. That nobody writes to the file meanwhile is
//! checked.
//!
//! The disk may be full, of files that others have there: then a write fails that needs a further
//! block of [`BLOCK`] bytes, while one that overwrites what is there succeeds.
//!
//! A clone is the same disk, so it survives the spool that used it.

use super::rng::Rng;
use mms::store::disk::{Disk, Patience, Progress};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

/// What a file's length is rounded up to.
const BLOCK: usize = 512;

/// What a crash does to unsynced data and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Only the process ended: the kernel keeps everything.
    ProcessOnly,
    /// Nothing unsynced is there.
    LoseAll,
    /// All of it is.
    KeepAll,
    /// Of each write nothing, all, a beginning or some sectors of 512 bytes; of the changes of
    /// names any.
    Torn,
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Once(io::ErrorKind),
    ForGood(io::ErrorKind),
}

#[derive(Clone, Default)]
struct FileState {
    /// What reads see.
    written: Vec<u8>,
    /// What is durable.
    synced: Vec<u8>,
    /// What was done to it since the last sync.
    unsynced: Vec<Done>,
}

#[derive(Clone)]
enum Done {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// A change of names: each is kept or lost as a whole.
#[derive(Clone)]
enum Change {
    Set(String, usize),
    Move(String, String, usize),
    Gone(String),
}

#[derive(Clone, Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    steps: u64,
    crash_at: Option<u64>,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    /// Whether a step of this life failed on demand.
    disturbed: bool,
    life: u32,
    syncs: u64,
    writes: u64,
    /// Steps so far that had an effect.
    effects: u64,
    /// Blocks that are free; `None` is as many as anybody wants.
    free: Option<usize>,
    /// Writes and new files that were refused for want of them.
    refused: u64,
    /// Decides how long a sync takes that was begun; none is a disk that does it at once.
    slow: Option<Rng>,
    /// The sync that was begun: of which file, and how much of what is unsynced there.
    begun: Option<(usize, usize)>,
    /// See [`SimDisk::give_back_when_opened`].
    fading: Option<String>,
}

/// The disk.
#[derive(Clone, Default)]
pub struct SimDisk(Rc<RefCell<State>>);

/// An open file of one life of the disk.
#[derive(Clone, Copy, Debug)]
pub struct SimFile {
    file: usize,
    life: u32,
}

/// What happens at a step.
enum Step {
    Goes,
    /// It takes effect, unsynced, and the caller does not live to see it.
    LastOne,
    Fails(io::ErrorKind),
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent copy as it is now.
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// Syncs of files and of the directory so far.
    pub fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }

    /// Steps so far that had an effect. Crashes between two of them leave the same disk.
    pub fn effects(&self) -> u64 {
        self.0.borrow().effects
    }

    /// Files made so far.
    pub fn made(&self) -> usize {
        self.0.borrow().files.len()
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// The power goes during step `n`, counted from the first of all.
    pub fn crash_at(&self, n: u64) {
        self.0.borrow_mut().crash_at = Some(n);
    }

    /// From now on syncs that are begun take their time, or no longer do.
    pub fn take_time(&self, by: Option<Rng>) {
        self.0.borrow_mut().slow = by;
    }

    /// Whether it is at a sync.
    pub fn is_syncing(&self) -> bool {
        self.0.borrow().begun.is_some()
    }

    /// So many bytes are free from now on: others have taken all else, or have gone.
    pub fn set_free(&self, bytes: Option<usize>) {
        self.0.borrow_mut().free = bytes.map(|bytes| bytes / BLOCK);
    }

    /// Bytes that are free, where they are counted.
    pub fn free(&self) -> Option<usize> {
        self.0.borrow().free.map(|blocks| blocks * BLOCK)
    }

    /// Whether there was ever no room.
    pub fn was_full(&self) -> bool {
        self.0.borrow().refused > 0
    }

    /// Whether the power is gone.
    pub fn crashed(&self) -> bool {
        self.0.borrow().crashed
    }

    /// Whether in this life something failed that was told to; a full disk is none of that.
    pub fn is_disturbed(&self) -> bool {
        self.0.borrow().disturbed
    }

    /// Step `n` fails, counted from the first of all.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.0.borrow_mut().fault = Some((n, fault));
    }

    /// The power comes back, or the process starts again; chosen faults are over.
    pub fn restart(&self, aftermath: Aftermath, rng: &mut Rng) {
        let state = &mut *self.0.borrow_mut();
        state.life += 1;
        (state.crashed, state.crash_at, state.fault) = (false, None, None);
        (state.disturbed, state.begun) = (false, None);
        if aftermath == Aftermath::ProcessOnly {
            return;
        }
        let before = state.blocks();
        for file in &mut state.files {
            for done in std::mem::take(&mut file.unsynced) {
                let keeps = aftermath == Aftermath::KeepAll;
                match done {
                    Done::Write(offset, bytes) => {
                        survive(&mut file.synced, offset, &bytes, aftermath, rng);
                    }
                    Done::Cut(to) if keeps || aftermath == Aftermath::Torn && rng.one_in(2) => {
                        file.synced.truncate(to);
                    }
                    Done::Cut(_) => {}
                }
            }
            file.written.clone_from(&file.synced);
        }
        for change in std::mem::take(&mut state.changes) {
            if aftermath == Aftermath::KeepAll || aftermath == Aftermath::Torn && rng.one_in(2) {
                change.apply(&mut state.synced_names);
            }
        }
        state.names = state.synced_names.clone();
        state.count_freed(before);
    }

    /// The names and contents as a reader sees them.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.borrow();
        let content =
            |(name, file): (&String, &usize)| (name.clone(), state.files[*file].written.clone());
        state.names.iter().map(content).collect()
    }

    /// Names of a file that has another one, too. Whoever is emptied under one is under both.
    pub fn twins(&self) -> Vec<String> {
        let names = &self.0.borrow().names;
        let has_other = |file| names.values().filter(|other| *other == file).count() > 1;
        names.iter().filter(|(_, file)| has_other(*file)).map(|(name, _)| name.clone()).collect()
    }

    /// Damages a file from outside: what is there then is durable.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.0.borrow_mut();
        let file = &mut state.files[state.names[name]];
        change(&mut file.written);
        file.synced.clone_from(&file.written);
        file.unsynced.clear();
    }

    /// Puts a file there from outside, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let state = &mut *self.0.borrow_mut();
        let (written, synced) = (bytes.to_vec(), bytes.to_vec());
        state.files.push(FileState { written, synced, unsynced: Vec::new() });
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    /// Whoever opens this file next finds what a server leaves that takes it away at that moment:
    /// zeros, and a name that is gone.
    pub fn give_back_when_opened(&self, name: &str) {
        self.0.borrow_mut().fading = Some(name.to_owned());
    }

    /// Takes a file away from outside, durably.
    pub fn take(&self, name: &str) {
        let state = &mut *self.0.borrow_mut();
        state.names.remove(name).expect("the file exists");
        state.synced_names.remove(name);
    }
}

/// What of one unsynced write is there after a crash.
fn survive(to: &mut Vec<u8>, offset: usize, bytes: &[u8], aftermath: Aftermath, rng: &mut Rng) {
    match (aftermath, rng.below(4)) {
        (Aftermath::LoseAll, _) | (Aftermath::Torn, 0) => {}
        (Aftermath::Torn, 1) => put(to, offset, &bytes[..rng.below(bytes.len() + 1)]),
        (Aftermath::Torn, 2) => {
            let end = offset + bytes.len();
            let mut at = offset;
            while at < end {
                let next = (at / 512 * 512 + 512).min(end);
                if rng.one_in(2) {
                    put(to, at, &bytes[at - offset..next - offset]);
                }
                at = next;
            }
        }
        _ => put(to, offset, bytes),
    }
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if to.len() < offset + bytes.len() {
        to.resize(offset + bytes.len(), 0);
    }
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Gone(name) => {
                names.remove(name);
            }
        }
    }
}

impl State {
    fn step(&mut self) -> Step {
        if self.crashed {
            return Step::Fails(io::ErrorKind::Other);
        }
        self.steps += 1;
        if self.crash_at == Some(self.steps) {
            (self.crashed, self.disturbed) = (true, true);
            return Step::LastOne;
        }
        let fails = match self.fault {
            Some((at, Fault::Once(kind))) if at == self.steps => kind,
            Some((at, Fault::ForGood(kind))) if at <= self.steps => kind,
            _ => return Step::Goes,
        };
        self.disturbed = true;
        self.refused += u64::from(fails == io::ErrorKind::StorageFull);
        Step::Fails(fails)
    }

    fn change(&mut self, change: Change) {
        let before = self.blocks();
        change.apply(&mut self.names);
        self.changes.push(change);
        self.count_freed(before);
    }

    /// Blocks of all files that have a name.
    fn blocks(&self) -> usize {
        let files: BTreeSet<usize> = self.names.values().copied().collect();
        files.iter().map(|file| self.files[*file].written.len().div_ceil(BLOCK)).sum()
    }

    /// What files give back is free. What comes back to life after a crash was not free.
    fn count_freed(&mut self, before: usize) {
        let now = self.blocks();
        if let Some(free) = &mut self.free {
            *free += before;
            *free = free.saturating_sub(now);
        }
    }

    /// Takes the blocks for a file to become so long. Tells how long it may become instead, if
    /// there are too few.
    fn take_room(&mut self, file: usize, length: usize) -> Result<(), usize> {
        let has = self.files[file].written.len().div_ceil(BLOCK);
        let wants = length.div_ceil(BLOCK).saturating_sub(has);
        let Some(free) = &mut self.free else { return Ok(()) };
        if wants <= *free {
            *free -= wants;
            return Ok(());
        }
        let most = (has + std::mem::take(free)) * BLOCK;
        self.refused += 1;
        Err(most)
    }

    /// Whether a sync of the file was begun.
    fn is_at(&self, file: &SimFile) -> bool {
        self.begun.is_some_and(|(which, _)| which == file.file)
    }

    /// Makes the first of what is unsynced durable.
    fn sync(&mut self, file: &SimFile, count: usize) -> io::Result<()> {
        self.syncs += 1;
        let step = self.step();
        let crashed = self.crashed;
        self.effects += 1;
        let file = self.file(file);
        match step {
            Step::Goes => {
                for done in file.unsynced.drain(..count) {
                    match done {
                        Done::Write(offset, bytes) => put(&mut file.synced, offset, &bytes),
                        Done::Cut(to) => file.synced.truncate(to),
                    }
                }
                Ok(())
            }
            Step::Fails(kind) if !crashed => {
                file.unsynced.drain(..count);
                Err(kind.into())
            }
            _ => Err(power_gone()),
        }
    }

    fn file(&mut self, file: &SimFile) -> &mut FileState {
        assert_eq!(file.life, self.life, "a handle does not survive a restart");
        &mut self.files[file.file]
    }
}

fn power_gone() -> io::Error {
    io::Error::other("the power is gone")
}

/// For steps without effect.
fn look(state: &mut State) -> io::Result<()> {
    match state.step() {
        Step::Goes => Ok(()),
        Step::LastOne => Err(power_gone()),
        Step::Fails(kind) => Err(kind.into()),
    }
}

/// For steps that change names.
fn rename(state: &mut State, change: Change) -> io::Result<()> {
    let step = state.step();
    if let Step::Fails(kind) = step {
        return Err(kind.into());
    }
    state.change(change);
    state.effects += 1;
    if matches!(step, Step::LastOne) { Err(power_gone()) } else { Ok(()) }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let state = &mut *self.0.borrow_mut();
        look(state)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&mut self, name: &str) -> io::Result<SimFile> {
        let state = &mut *self.0.borrow_mut();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.free == Some(0) && !state.crashed {
            look(state)?;
            state.refused += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = state.files.len();
        state.files.push(FileState::default());
        rename(state, Change::Set(name.to_owned(), file))?;
        Ok(SimFile { file, life: state.life })
    }

    fn open(&mut self, name: &str) -> io::Result<SimFile> {
        let state = &mut *self.0.borrow_mut();
        look(state)?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if state.fading.take_if(|fading| fading == name).is_some() {
            state.names.remove(name);
            state.files[file].written.fill(0);
        }
        Ok(SimFile { file, life: state.life })
    }

    fn len(&mut self, file: &SimFile) -> io::Result<u64> {
        let state = &mut *self.0.borrow_mut();
        look(state)?;
        Ok(state.file(file).written.len() as u64)
    }

    fn read_at(&mut self, file: &SimFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.0.borrow_mut();
        look(state)?;
        let bytes = &state.file(file).written;
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_all_at(&mut self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.writes += 1;
        assert!(!state.is_at(file), "a file is not written to while it is synced");
        let offset = offset as usize;
        let (mut length, mut outcome) = match state.step() {
            Step::Goes => (bytes.len(), Ok(())),
            Step::LastOne => (bytes.len(), Err(power_gone())),
            // A write that fails has often done a part.
            Step::Fails(_) if state.crashed => return Err(power_gone()),
            Step::Fails(kind) => (bytes.len() / 2, Err(kind.into())),
        };
        state.effects += 1;
        if let Err(most) = state.take_room(file.file, offset + length) {
            length = most.saturating_sub(offset);
            outcome = outcome.and_then(|()| Err(io::ErrorKind::StorageFull.into()));
        }
        let done = bytes[..length].to_vec();
        let file = state.file(file);
        put(&mut file.written, offset, &done);
        file.unsynced.push(Done::Write(offset, done));
        outcome
    }

    fn truncate(&mut self, file: &SimFile, bytes: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        assert!(!state.is_at(file), "a file is not cut while it is synced");
        let step = state.step();
        if let Step::Fails(kind) = step {
            return Err(kind.into());
        }
        let (before, to) = (state.blocks(), bytes as usize);
        let file = state.file(file);
        file.written.truncate(to);
        file.unsynced.push(Done::Cut(to));
        state.count_freed(before);
        state.effects += 1;
        if matches!(step, Step::LastOne) { Err(power_gone()) } else { Ok(()) }
    }

    fn sync_data(&mut self, file: &SimFile) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let all = state.file(file).unsynced.len();
        state.sync(file, all)
    }

    fn begin_sync(&mut self, file: &SimFile) -> io::Result<Progress> {
        let state = &mut *self.0.borrow_mut();
        assert_eq!(state.begun, None, "one sync at a time");
        if state.slow.is_none() || state.crashed {
            let all = state.file(file).unsynced.len();
            return state.sync(file, all).map(|()| Progress::Over);
        }
        state.begun = Some((file.file, state.file(file).unsynced.len()));
        Ok(Progress::UnderWay)
    }

    fn end_sync(&mut self, file: &SimFile, patience: Patience) -> io::Result<Progress> {
        let state = &mut *self.0.borrow_mut();
        let goes_on =
            patience == Patience::Look && state.slow.as_mut().is_some_and(|by| by.one_in(2));
        if goes_on && !state.crashed {
            return Ok(Progress::UnderWay);
        }
        let (which, count) = state.begun.take().expect("a sync was begun");
        assert_eq!(which, file.file, "the end is that of another file");
        state.sync(file, count).map(|()| Progress::Over)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.syncs += 1;
        look(state)?;
        state.effects += 1;
        state.changes.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        rename(state, Change::Move(from.to_owned(), to.to_owned(), file))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        rename(state, Change::Gone(name.to_owned()))
    }
}
