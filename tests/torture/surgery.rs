//! Files of a spool that were cut, flipped, zeroed, emptied, mixed up or lost. A server starts on
//! them, loses what was hit and nothing else, and says so; or it refuses and says why.

use crate::campaign::{Skip, Tally};
use crate::support::letters::{is_gone, letter, people, waiting};
use crate::support::rng::Rng;
use crate::support::server::{Folder, PASSWORD, Server, mms, run, users_file};
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::core::record::{
    Journal as _, Letter, LetterId, LetterKind, Recipient, Record, push_recipient, recipients,
};
use mms::store::files::segment_file;
use mms::store::record::{Entry, Piece, Pieces};
use mms::store::recovery::Recovery;
use mms::store::spool::{Config, Spool};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;

const UNIX_MS: u64 = 1_753_000_000_000;
/// Of so many cases one is shown to the real program, too.
const CASES_A_SERVER: usize = 1024;
/// What can be done to a byte: the file ends before it, or one of its bits is turned.
const WAYS: usize = 9;

fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    bytes.fill(7);
    Ok(())
}

/// How a life of a server ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Stopped,
    Killed,
}

/// A spool on a disk in memory, whose newest segment has at least so many bytes; all segments but
/// the last are of about `segment_bytes`. Letter n is `sender0: letter n …` for `absent`.
pub fn spool(letters: usize, least_bytes: usize, segment_bytes: u32, end: End) -> SimDisk {
    let disk = SimDisk::new();
    let config = Config { segment_bytes, spares: 0, ..Config::default() };
    let opened = Spool::open(disk.clone(), config, UNIX_MS, &mut entropy, &mut |_, _, _| {});
    let (mut spool, _) = opened.unwrap();
    let mut rng = Rng::new(9);
    for n in 1.. {
        if n > letters && disk.contents()[&segment_file(1)].len() >= least_bytes {
            break;
        }
        let mut to = String::new();
        push_recipient(&mut to, Recipient { name: "absent", offered: false });
        let seq = u32::try_from(n).unwrap();
        let id = LetterId { epoch: spool.epoch(), seq };
        let body = format!("letter {n} {}", "ab=L\n0\n".repeat(rng.below(9)));
        let (kind, from) = (LetterKind::Direct, "sender0");
        let letter = Letter { id, unix_ms: UNIX_MS, kind, key: None, from, to: &to, body: &body };
        spool.make_way();
        spool.append(&Record::Letter(letter));
        // Several letters share a sync.
        if rng.one_in(2) || segment_bytes < 1000 {
            spool.commit().unwrap();
        }
    }
    spool.commit().unwrap();
    if end == End::Stopped {
        spool.stop(UNIX_MS).unwrap();
    }
    disk.restart(Aftermath::ProcessOnly, &mut rng);
    disk
}

/// What a start finds.
struct Found {
    letters: BTreeMap<u32, String>,
    recovery: Recovery,
}

fn open(disk: &SimDisk) -> Result<Found, String> {
    let mut places = BTreeMap::new();
    let config = Config { segment_bytes: 1 << 24, spares: 0, ..Config::default() };
    let mut visit = |record: &Record<'_>, at, _: &mut _| {
        if let Record::Letter(letter) = record {
            assert!(recipients(letter.to).all(|one| one.name == "absent"));
            places.insert(letter.id.seq, at);
        }
    };
    let opened = Spool::open(disk.clone(), config, UNIX_MS, &mut entropy, &mut visit);
    let (mut spool, recovery) = opened.map_err(|e| e.to_string())?;
    let mut letters = BTreeMap::new();
    for (seq, at) in places {
        let body = spool.body(at).map_err(|e| format!("letter {seq}: {e}"))?;
        letters.insert(seq, String::from_utf8(body.to_vec()).map_err(|e| e.to_string())?);
    }
    Ok(Found { letters, recovery })
}

/// A spool of one segment, as it was before the surgery.
struct Patient {
    disk: SimDisk,
    bytes: Vec<u8>,
    /// Each record, with its letter's number.
    records: Vec<(Range<usize>, Option<u32>)>,
    letters: BTreeMap<u32, String>,
}

impl Patient {
    fn new(least_bytes: usize, end: End) -> Self {
        let disk = spool(0, least_bytes, 1 << 24, end);
        let bytes = disk.contents()[&segment_file(1)].clone();
        let records = Pieces::new(&bytes).map(|piece| match piece {
            Piece::Whole { offset, frame } => {
                let letter = match frame.entry {
                    Entry::Record(Record::Letter(letter)) => Some(letter.id.seq),
                    _ => None,
                };
                (offset..offset + frame.bytes, letter)
            }
            Piece::Damaged { .. } => panic!("it was whole"),
        });
        let records = records.collect();
        let letters = open(&disk.fork()).unwrap_or_else(|e| panic!("{e}")).letters;
        Self { disk, bytes, records, letters }
    }

    /// Does one thing to one byte, and looks whether only what was hit is gone, and told.
    fn operate(&self, byte: usize, way: usize) -> Result<SimDisk, String> {
        let disk = self.disk.fork();
        disk.damage(&segment_file(1), |bytes| match way.checked_sub(1) {
            None => bytes.truncate(byte),
            Some(bit) => bytes[byte] ^= 1 << bit,
        });
        let damaged = disk.fork();
        let found = open(&disk)?;
        let (left, silent) = self.expected(byte, way);
        if found.letters != left {
            let gone: Vec<_> = left.keys().filter(|n| !found.letters.contains_key(n)).collect();
            return Err(format!("letters {gone:?} are missing or others there"));
        }
        if found.recovery.lines.is_empty() != silent {
            return Err(format!("it said {:?}", found.recovery.lines));
        }
        disk.restart(Aftermath::LoseAll, &mut Rng::new(0));
        let again = open(&disk)?;
        if again.letters != left || !again.recovery.lines.is_empty() {
            return Err(format!("the repair did not last: {:?}", again.recovery.lines));
        }
        Ok(damaged)
    }

    /// The letters that must be left, and whether nothing need be said: a file that ends between
    /// two records looks like that of a server that was killed earlier.
    fn expected(&self, byte: usize, way: usize) -> (BTreeMap<u32, String>, bool) {
        let cut = way == 0;
        let hit = |range: &Range<usize>| if cut { range.end > byte } else { range.contains(&byte) };
        let hit = self.records.iter().filter(|(range, _)| hit(range));
        let gone: BTreeSet<u32> = hit.filter_map(|(_, letter)| *letter).collect();
        let between = byte > 0 && self.records.iter().any(|(range, _)| range.start == byte);
        let left = self.letters.iter().filter(|(n, _)| !gone.contains(n));
        (left.map(|(n, body)| (*n, body.clone())).collect(), cut && between)
    }
}

/// The file is cut at every byte, and every bit of it is turned.
pub fn bits(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut server = 0;
    for end in [End::Stopped, End::Killed] {
        let patient = Patient::new(count / 2 / WAYS, end);
        for case in 0..count / 2 {
            let (byte, way) = (case / WAYS, case % WAYS);
            tally.cycles += 1;
            tally.confirmed += patient.letters.len();
            let what = || format!("{end:?}, byte {byte}, way {way}");
            match patient.operate(byte, way) {
                Ok(damaged) if tally.cycles.is_multiple_of(CASES_A_SERVER) => {
                    server += 1;
                    let (left, silent) = patient.expected(byte, way);
                    tally.delivered += left.len();
                    shown_by_a_server(&damaged, &left, silent, &what(), tally);
                }
                Ok(_) => tally.delivered += patient.expected(byte, way).0.len(),
                Err(why) => tally.unexpected(format!("{}: {why}", what())),
            }
        }
        let size = patient.bytes.len();
        tally.notes.push(format!("{size} bytes, {end:?}").to_lowercase());
    }
    tally.notes.push(format!("{server} of the cases by the real program too"));
    Ok(())
}

/// A spool in a real folder, and a user to read it.
pub fn put_down(disk: &SimDisk) -> Folder {
    let folder = Folder::new();
    folder.write("users", &users_file(&people(1, &["absent"])));
    fs::DirBuilder::new().mode(0o700).create(folder.path("spool")).unwrap();
    for (name, bytes) in disk.contents() {
        fs::write(folder.path("spool").join(name), bytes).unwrap();
    }
    folder
}

/// What somebody was shown who signed in.
pub struct Shown {
    /// The numbers of the letters, in their order.
    pub letters: Vec<u32>,
    /// How many messages of the server itself told him what is lost.
    pub notices: usize,
}

/// What `absent` is shown.
pub fn read_by_absent(server: &Server) -> Shown {
    let mut client = server.greeted();
    let waiting = waiting(&client.sign_in("absent", PASSWORD));
    let mut shown = Shown { letters: vec![], notices: 0 };
    while shown.letters.len() + shown.notices < waiting {
        let line = client.line();
        // What stands behind a bar belongs to the letter before it.
        match letter(&line) {
            Some((_, (_, number))) => shown.letters.push(u32::try_from(number).unwrap()),
            None => shown.notices += usize::from(line.contains(" mms: ")),
        }
    }
    client.sign_out();
    is_gone(server);
    shown
}

fn shown_by_a_server(
    disk: &SimDisk,
    left: &BTreeMap<u32, String>,
    silent: bool,
    what: &str,
    tally: &mut Tally,
) {
    let folder = put_down(disk);
    let check = run(mms(&folder).args(["spool", "check"]));
    let code = check.status.code();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    // Of damage at the end nobody can tell whether it had been confirmed: then it is 0, too.
    let good = code == Some(0) || (code == Some(65) && !silent);
    let good = good && text.contains("a start would say: ") != silent;
    tally.holds(good, || format!("{what}: mms spool check ended with {code:?} and said {text}"));
    let server = Server::start_in(folder, &[]);
    let shown = read_by_absent(&server);
    let wanted: Vec<u32> = left.keys().copied().collect();
    let Shown { letters, notices } = shown;
    tally.holds(letters == wanted, || format!("{what}: {letters:?} instead of {wanted:?}"));
    tally.holds(notices == 0 || (notices == 1 && !silent), || format!("{what}: {notices} notices"));
    let told = server.log().contains("[WARN ] spool: ");
    tally.holds(told != silent, || format!("{what}: the log says {}", server.log()));
}
