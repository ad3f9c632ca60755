//! What is kept between two runs of the companion: the inbox of a user on a server, and the keys
//! that messages are sent under.
//!
//! A letter is acknowledged only once it stands in the inbox. There it is first kept and then
//! marked as printed; one that was kept and not printed when the program ended is shown again.
//! Ids only grow, so the greatest one tells of all that were kept before.
//!
//! ```text
//! mms inbox 1
//! h 1790000000.6                          all up to here were printed
//! k 1790000000.7 1790000000123 - tim hi   kept; a line end in the text is \n, a backslash \\
//! p 1790000000.7                          printed, and all before it
//! k 1790000000.8 0 d tim                  kept, and its text was lost by the server
//! ```

use crate::fault::{Fault, is_planted};
use crate::proto::coded_client::{Condition, Letter};
use crate::proto::id::LetterId;
use crate::store::disk::Disk;
use std::io::{self, ErrorKind};

const HEAD: &str = "mms inbox 1\n";
/// A file that has grown beyond this is written anew at the next mark, in bytes: what was printed
/// is dropped.
const FILE_BYTES: u64 = 1 << 20;
/// The flag of a letter whose text the server has lost.
const DAMAGED: &str = "d";
/// Keys that are drawn from the file at a time.
const KEYS_AT_ONCE: u64 = 64;
/// The file that the counter of keys is in.
const COUNTER: &str = "installation";

/// Letters kept for one user on one server.
#[derive(Debug)]
pub struct Inbox<D: Disk> {
    disk: D,
    file: D::File,
    name: String,
    size: u64,
    /// The greatest id that was kept.
    kept: Option<LetterId>,
    /// Kept and not printed, oldest first.
    unprinted: Vec<Letter>,
    unsynced: bool,
    /// The name may not be durable.
    unnamed: bool,
}

impl<D: Disk> Inbox<D> {
    /// Opens the inbox of this user on the server with this spool; makes it if it is missing.
    /// Fails if another program has it open.
    pub fn open(mut disk: D, user: &str, spool: &str) -> io::Result<Self> {
        let plain = |word: &str| -> String {
            word.chars().filter(|&c| c.is_ascii_alphanumeric() || "._-".contains(c)).collect()
        };
        let name = format!("{}@{}.inbox", plain(user).to_lowercase(), plain(spool));
        let file = open_or_create(&mut disk, &name)?;
        let bytes = content(&mut disk, &file)?;
        // What was cut off in the middle of a line was not promised to anybody. Neither was what
        // stands behind a hole, which a power cut leaves of writes that were not flushed.
        let whole = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let end = bytes[..whole].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..end]);
        let begun = end == 0 && HEAD.as_bytes().starts_with(&bytes[..whole]);
        if !begun && !text.starts_with(HEAD) {
            return Err(io::Error::new(ErrorKind::InvalidData, "this is no inbox of mms"));
        }
        let mut inbox = Self {
            disk,
            file,
            name,
            size: end as u64,
            kept: None,
            unprinted: vec![],
            unsynced: false,
            unnamed: true,
        };
        for line in text.lines().skip(1) {
            inbox.read(line);
        }
        if begun || end < bytes.len() {
            inbox.rewrite()?;
        }
        inbox.sync()?;
        Ok(inbox)
    }

    /// Reads a line; what nobody can read is passed over.
    fn read(&mut self, line: &str) {
        let (Some(what), Some(rest)) = (line.get(..2), line.get(2..)) else { return };
        let id = || rest.parse::<LetterId>().ok();
        match what {
            "k " => {
                if let Ok(mut letter) = Letter::parse(rest) {
                    letter.text = unescaped(&letter.text);
                    if rest.split(' ').nth(2) == Some(DAMAGED) {
                        letter.condition = Condition::Damaged;
                    }
                    self.kept = self.kept.max(Some(letter.id));
                    self.unprinted.push(letter);
                }
            }
            "p " | "h " => {
                self.kept = self.kept.max(id());
                self.unprinted.retain(|letter| Some(letter.id) > id());
            }
            _ => {}
        }
    }

    /// Letters that were kept and perhaps not seen, oldest first.
    #[must_use]
    pub fn unprinted(&self) -> &[Letter] {
        &self.unprinted
    }

    /// Whether this letter is here already.
    #[must_use]
    pub fn has(&self, id: LetterId) -> bool {
        self.kept.is_some_and(|kept| id <= kept)
    }

    /// Keeps a letter; it is durable after [`Inbox::sync`].
    pub fn keep(&mut self, letter: &Letter) -> io::Result<()> {
        self.append(&line(letter))?;
        self.kept = self.kept.max(Some(letter.id));
        self.unprinted.push(letter.clone());
        Ok(())
    }

    /// Makes durable what was kept.
    pub fn sync(&mut self) -> io::Result<()> {
        if is_planted(Fault::AckBeforeInbox) {
            return Ok(());
        }
        if self.unsynced {
            self.disk.sync_data(&self.file)?;
            self.unsynced = false;
        }
        if self.unnamed {
            self.disk.sync_dir()?;
            self.unnamed = false;
        }
        Ok(())
    }

    /// Marks all letters up to this one as printed.
    pub fn printed(&mut self, id: LetterId) -> io::Result<()> {
        self.unprinted.retain(|letter| letter.id > id);
        self.append(&format!("p {id}\n"))?;
        if self.size > FILE_BYTES { self.rewrite() } else { Ok(()) }
    }

    /// Drops what was printed. The new file has its name for good after [`Inbox::sync`]; until
    /// then the old one would do as well.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = HEAD.to_owned();
        let first = self.unprinted.first().map(|letter| letter.id);
        if let Some(kept) = self.kept.filter(|_| first.is_none()) {
            text.push_str(&format!("h {kept}\n"));
        }
        self.unprinted.iter().for_each(|letter| text.push_str(&line(letter)));
        let new = format!("{}.new", self.name);
        match self.disk.remove(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = self.disk.create(&new)?;
        self.disk.write_all_at(&file, 0, text.as_bytes())?;
        self.disk.sync_data(&file)?;
        self.disk.rename(&new, &self.name)?;
        (self.file, self.size) = (file, text.len() as u64);
        (self.unsynced, self.unnamed) = (false, true);
        Ok(())
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        self.unsynced = true;
        // What of it is there after an error is overwritten by the next one.
        self.disk.write_all_at(&self.file, self.size, text.as_bytes())?;
        self.size += text.len() as u64;
        Ok(())
    }
}

fn open_or_create<D: Disk>(disk: &mut D, name: &str) -> io::Result<D::File> {
    match disk.open(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => disk.create(name),
        opened => opened,
    }
}

fn content<D: Disk>(disk: &mut D, file: &D::File) -> io::Result<Vec<u8>> {
    let length = disk.len(file)?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = disk.read_at(file, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn line(letter: &Letter) -> String {
    let Letter { id, unix_ms, from, .. } = letter;
    let flags = match (letter.condition, letter.broadcast) {
        (Condition::Damaged, _) => DAMAGED,
        (Condition::Whole, true) => "b",
        (Condition::Whole, false) => "-",
    };
    let text = letter.text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    // Only a server that is none of ours sends it; it would look like a hole.
    let text = text.replace('\0', "\\0");
    format!("k {id} {unix_ms} {flags} {from} {text}\n")
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('0')) => '\0',
            ('\\', Some(other)) => other,
            _ => c,
        });
    }
    plain
}

/// The names of messages: an installation and a counter that never goes back.
#[derive(Debug)]
pub struct Keys<D: Disk> {
    installation: String,
    next: u64,
    /// Those below it are drawn.
    drawn: u64,
    /// Where it is written; without it the installation is one of this run only.
    file: Option<(D, D::File)>,
    /// What an installation of this run only is named by.
    dice: u64,
}

impl<D: Disk> Keys<D> {
    /// Keys of this run only.
    #[must_use]
    pub fn of_this_run(dice: u64) -> Self {
        Self { installation: format!("{dice:016x}"), next: 1, drawn: u64::MAX, file: None, dice }
    }

    /// Keys that go on where the last run ended. Fails if another program uses them: a server
    /// remembers only those near the greatest, so two must not share them.
    pub fn open(mut disk: D, dice: u64) -> io::Result<Self> {
        let file = open_or_create(&mut disk, COUNTER)?;
        let text = String::from_utf8(content(&mut disk, &file)?).unwrap_or_default();
        let known = text.trim_end().split_once(' ').and_then(|(name, next)| {
            let plain = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
            Some((name.to_owned(), next.parse().ok()?)).filter(|_| plain)
        });
        // A damaged file is a new installation: no key of the old one is ever used again.
        let (installation, next) = known.unwrap_or_else(|| (format!("{dice:016x}"), 1));
        let mut keys = Self { installation, next, drawn: next, file: Some((disk, file)), dice };
        keys.draw()?;
        Ok(keys)
    }

    /// A key that was never used.
    pub fn take(&mut self) -> String {
        if self.next >= self.drawn && self.draw().is_err() {
            // Those that cannot be written down must not be used again, by another run in the same
            // trouble either.
            self.installation = format!("{:016x}-x", self.dice);
            (self.drawn, self.file) = (u64::MAX, None);
        }
        let key = format!("{}:{}", self.installation, self.next);
        self.next += 1;
        key
    }

    fn draw(&mut self) -> io::Result<()> {
        let Some((disk, file)) = &mut self.file else { return Ok(()) };
        let drawn = self.next.saturating_add(KEYS_AT_ONCE);
        // Of one length, so that a line is never half new.
        let line = format!("{} {drawn:020}\n", self.installation);
        disk.write_all_at(file, 0, line.as_bytes())?;
        disk.sync_data(file)?;
        self.drawn = drawn;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::FileDisk;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("mms-inbox-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            Self(path)
        }

        fn disk(&self) -> FileDisk {
            FileDisk::open_shared(&self.0).unwrap()
        }

        fn open(&self) -> Inbox<FileDisk> {
            Inbox::open(self.disk(), "Tim", "00aa").unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn letter(seq: u32, text: &str) -> Letter {
        let mut letter = Letter::parse(&format!("9.{seq} 5 - tim x")).unwrap();
        letter.text = text.into();
        letter
    }

    #[test]
    fn what_was_kept_and_not_printed_is_there_again() {
        let folder = Folder::new();
        let mut inbox = folder.open();
        let nasty = letter(2, "a\nb\\n\\\\c\r\0\\0");
        inbox.keep(&letter(1, "x")).unwrap();
        inbox.keep(&nasty).unwrap();
        inbox.sync().unwrap();
        inbox.printed(letter(1, "").id).unwrap();
        assert!(Inbox::open(folder.disk(), "tim", "00aa").is_err(), "one program at a time");
        drop(inbox);
        let path = folder.0.join("tim@00aa.inbox");
        let mut whole = fs::read(&path).unwrap();
        whole.extend(b"k 9.3 5 - tim torn");
        fs::write(&path, whole).unwrap();
        let mut inbox = folder.open();
        assert_eq!(inbox.unprinted(), [nasty]);
        assert!(inbox.has(letter(2, "").id) && !inbox.has(letter(3, "").id));
        inbox.printed(letter(2, "").id).unwrap();
        drop(inbox);
        assert_eq!(folder.open().unprinted(), []);
    }

    #[test]
    fn a_letter_that_is_lost_is_remembered_as_such() {
        let folder = Folder::new();
        let lost = Letter::parse_damaged("damaged 9.3 tim").unwrap();
        let mut inbox = folder.open();
        for kept in [letter(2, "d"), lost.clone()] {
            inbox.keep(&kept).unwrap();
        }
        drop(inbox);
        let inbox = folder.open();
        assert_eq!(inbox.unprinted(), [letter(2, "d"), lost]);
        for fields in ["damaged tim", "damaged 9.3", "damaged 9.3 tim x", "lost 9.3 tim"] {
            assert!(Letter::parse_damaged(fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn what_is_no_inbox_is_left_alone() {
        let folder = Folder::new();
        let path = folder.0.join("tim@00aa.inbox");
        drop(folder.open());
        for foreign in ["dear diary", "dear\ndiary\n", "mms inbox 2\nk", "\nmms inbox 1\n"] {
            fs::write(&path, foreign).unwrap();
            let refused = Inbox::open(folder.disk(), "tim", "00aa").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidData, "{foreign}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
        fs::write(&path, "mms in").unwrap();
        assert_eq!(folder.open().unprinted(), [], "that is how one of ours begins");
    }

    #[test]
    fn it_stays_small_and_forgets_no_id() {
        let folder = Folder::new();
        let mut inbox = folder.open();
        let text = "x".repeat(60_000);
        for seq in 1..=40 {
            inbox.keep(&letter(seq, &text)).unwrap();
            inbox.printed(letter(seq, "").id).unwrap();
        }
        assert!(inbox.size < 2 * FILE_BYTES);
        drop(inbox);
        let inbox = folder.open();
        assert!(inbox.has(letter(40, "").id) && !inbox.has(letter(41, "").id));
        assert_eq!(inbox.unprinted(), []);
    }

    #[test]
    fn no_key_is_used_twice() {
        let folder = Folder::new();
        let mut keys = Keys::open(folder.disk(), 7).unwrap();
        let mut used: Vec<_> = (0..100).map(|_| keys.take()).collect();
        assert_eq!(used[0], "0000000000000007:1");
        assert!(Keys::open(folder.disk(), 8).is_err());
        drop(keys);
        let mut keys = Keys::open(folder.disk(), 9).unwrap();
        used.extend((0..100).map(|_| keys.take()));
        assert!(used[199].starts_with("0000000000000007:"));
        used.sort();
        used.dedup();
        assert_eq!(used.len(), 200);
    }
}
