//! Whole files of a spool that are zeroed, empty, missing, of somebody else or no files at all.
//! The server starts, shows what is left and tells what is not; or it refuses and says why.

use crate::campaign::{Skip, Tally};
use crate::support::rng::Rng;
use crate::support::server::{Folder, Server, eventually, mms, run};
use crate::surgery::{End, put_down, read_by_absent, spool};
use mms::store::files::segment_file;
use mms::store::record;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Letters 1 to 4 stand in the segments 2 to 5.
const SEGMENTS: std::ops::RangeInclusive<u32> = 1..=5;

/// What must come of it.
enum Wanted {
    /// These letters, and a warning that contains this.
    Warns(&'static [u32], &'static str),
    /// These letters, and no word: it looks like something that happens in good order.
    Silent(&'static [u32]),
    /// No start: the exit code, and words on stderr.
    Refuses(i32, &'static str),
}
use Wanted::{Refuses, Silent, Warns};

/// A case: what happened, how it is made, what must come of it.
type Case = (&'static str, fn(&Path), Wanted);

fn file(spool: &Path, segment: u32) -> std::path::PathBuf {
    spool.join(segment_file(segment))
}

fn zero(spool: &Path, segment: u32) {
    let length = fs::metadata(file(spool, segment)).unwrap().len() as usize;
    fs::write(file(spool, segment), vec![0; length]).unwrap();
}

fn empty(spool: &Path, segment: u32) {
    fs::write(file(spool, segment), "").unwrap();
}

fn gone(spool: &Path, segment: u32) {
    fs::remove_file(file(spool, segment)).unwrap();
}

fn newer_format(spool: &Path) {
    let mut bytes = vec![];
    let header = record::Header { spool: 1, segment: 6, format: record::FORMAT + 1 };
    record::encode_header(&mut bytes, 99, &header);
    fs::write(file(spool, 6), bytes).unwrap();
}

fn noise(spool: &Path) {
    let mut bytes = vec![0; 5000];
    Rng::new(3).fill(&mut bytes);
    fs::write(file(spool, 6), bytes).unwrap();
}

fn pipe(spool: &Path) {
    let made = Command::new("mkfifo").arg(file(spool, 6)).status();
    assert!(made.unwrap().success());
}

fn notes(spool: &Path) {
    fs::write(spool.join("notes.txt"), "mine").unwrap();
    fs::write(spool.join("journal-5.log"), "not ours either").unwrap();
    fs::create_dir(spool.join("folder")).unwrap();
}

/// Half-made files, as a crash leaves them.
fn leftovers(spool: &Path) {
    fs::write(spool.join("journal-0000000003.tmp"), "half a repair").unwrap();
    fs::write(spool.join("secret.tmp"), "half").unwrap();
    fs::write(spool.join("quarantine-0000000002-00000000.log"), "an old one").unwrap();
}

/// The spool is a file.
fn no_folder(spool: &Path) {
    fs::remove_dir_all(spool).unwrap();
    fs::write(spool, "").unwrap();
}

const ALL: &[u32] = &[1, 2, 3, 4];

fn cases() -> Vec<Case> {
    let file_6 = "journal-0000000006.log";
    vec![
        ("the first segment zeroed", |s| zero(s, 2), Warns(&[2, 3, 4], "lost")),
        ("a middle segment zeroed", |s| zero(s, 3), Warns(&[1, 3, 4], "lost")),
        ("the newest segment zeroed", |s| zero(s, 5), Warns(&[1, 2, 3], "may have been")),
        ("the first segment empty", |s| empty(s, 2), Warns(&[2, 3, 4], "lost")),
        ("a middle segment empty", |s| empty(s, 3), Warns(&[1, 3, 4], "lost")),
        // So does a crash leave it that comes before the first write.
        ("the newest segment empty", |s| empty(s, 5), Silent(&[1, 2, 3])),
        ("a middle segment missing", |s| gone(s, 3), Warns(&[1, 3, 4], "is missing")),
        // So do they look that were read by everybody, or never made.
        ("the first segment missing", |s| gone(s, 1), Silent(ALL)),
        ("the newest segment missing", |s| gone(s, 5), Silent(&[1, 2, 3])),
        ("all segments zeroed", |s| SEGMENTS.for_each(|n| zero(s, n)), Warns(&[], "lost")),
        ("all segments empty", |s| SEGMENTS.for_each(|n| empty(s, n)), Warns(&[], "lost")),
        ("all segments missing", |s| SEGMENTS.for_each(|n| gone(s, n)), Warns(&[], "no journal")),
        ("no folder at all", |s| fs::remove_dir_all(s).unwrap(), Silent(&[])),
        ("the folder is a file", no_folder, Refuses(73, "spool")),
        ("the secret missing", |s| fs::remove_file(s.join("secret")).unwrap(), Silent(ALL)),
        ("the secret empty", |s| fs::write(s.join("secret"), "").unwrap(), Warns(ALL, "secret")),
        ("the secret cut", |s| fs::write(s.join("secret"), "ab").unwrap(), Warns(ALL, "secret")),
        ("a lock of words", |s| fs::write(s.join("lock"), "999").unwrap(), Silent(ALL)),
        ("files of others", notes, Warns(ALL, "files of others")),
        ("leftovers of a crash", leftovers, Silent(ALL)),
        ("a segment of noise behind all others", noise, Warns(ALL, file_6)),
        ("a segment of a newer format", newer_format, Refuses(78, file_6)),
        (
            "a segment twice",
            |s| _ = fs::copy(file(s, 2), file(s, 6)).unwrap(),
            Warns(ALL, "says it is segment 2"),
        ),
        (
            "a folder in a segment's place",
            |s| fs::create_dir(file(s, 6)).unwrap(),
            Refuses(74, file_6),
        ),
        // These hold no byte, like the newest segment of above.
        ("a pipe in a segment's place", pipe, Silent(ALL)),
        ("a link to nowhere", |s| symlink("nowhere", file(s, 6)).unwrap(), Refuses(74, file_6)),
        ("a link to a device", |s| symlink("/dev/zero", file(s, 6)).unwrap(), Silent(ALL)),
    ]
}

/// Each case once; a number of cycles is no matter.
pub fn files(_count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let disk = spool(4, 0, 60, End::Stopped);
    for (what, make, wanted) in cases() {
        tally.cycles += 1;
        let folder = put_down(&disk);
        make(&folder.path("spool"));
        match wanted {
            Refuses(code, words) => refuses(&folder, what, code, words, tally),
            Warns(letters, words) => starts(folder, what, letters, Some(words), tally),
            Silent(letters) => starts(folder, what, letters, None, tally),
        }
    }
    Ok(())
}

fn refuses(folder: &Folder, what: &str, code: i32, words: &str, tally: &mut Tally) {
    let output = run(mms(folder).args(["server", "0", "users"]));
    let said = String::from_utf8_lossy(&output.stderr);
    let good = output.status.code() == Some(code) && said.contains(words);
    tally.holds(good, || format!("{what}: {} {said}", output.status));
}

fn starts(folder: Folder, what: &str, letters: &[u32], words: Option<&str>, tally: &mut Tally) {
    tally.confirmed += letters.len();
    let mut server = Server::start_in(folder, &[]);
    let shown = read_by_absent(&server).letters;
    tally.delivered += shown.len();
    tally.holds(shown == letters, || format!("{what}: {shown:?} instead of {letters:?}"));
    let log = server.log();
    let warnings: String = log.lines().filter(|line| line.contains("[WARN ] spool: ")).collect();
    let good = match words {
        Some(words) => warnings.contains(words),
        None => warnings.is_empty(),
    };
    tally.holds(good, || format!("{what}: the log says {warnings:?}"));
    // A child that another thread begins has our end of the connection, too, until it is a program.
    eventually("the end of his connection", || (server.waiting("absent") == 0).then_some(()));
    // The next start finds it mended.
    server.kill9();
    server.restart();
    let shown = read_by_absent(&server).letters;
    tally.holds(shown.is_empty(), || format!("{what}: {shown:?} came twice"));
}
