//! A look at a spool that changes nothing, also while a server runs there: what waits for whom,
//! and what is damaged. For people with a shell; the server itself never comes here.

use super::disk::Disk;
use super::files::{Gap, Name, gaps, name_of, read_whole, segment_file, used};
use super::record::{self, Entry, Header, Piece, Pieces};
use super::recovery::SpoolError;
use super::spool::{letter_of, location};
use crate::core::record::{Letter, LetterId, Location, Record, recipients};
use std::collections::BTreeMap;
use std::io;

/// What stands in a spool.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The spool's name, once a segment tells it.
    pub name: Option<u64>,
    /// The segments, oldest first.
    pub segments: Vec<SegmentSurvey>,
    /// The mailboxes with letters in them, by name in lower case.
    pub mailboxes: BTreeMap<String, MailboxSurvey>,
    /// Segments that are missing between others, or empty, and of which no start has told.
    pub missing: Vec<Gap>,
    /// Segments that are missing, as a start has told.
    pub told: Vec<Gap>,
    /// Segments whose end is missing: the next one goes on with a later batch.
    pub cut: Vec<u32>,
    /// Room that is ready for the journal, besides what its last segment has left, in bytes.
    pub ready_bytes: u64,
    /// Files that keep what was damaged earlier.
    pub quarantined: Vec<String>,
}

/// One segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSurvey {
    /// Its number.
    pub number: u32,
    /// Its size, without room that is not used yet.
    pub bytes: u64,
    /// The room behind that.
    pub unused_bytes: u64,
    /// Whole records.
    pub records: u64,
    /// Letters among them, taken or not.
    pub letters: u64,
    /// Bytes that are no whole record.
    pub damaged_bytes: u64,
}

/// What the journal says of all mailboxes, by name in lower case.
#[derive(Debug, Default)]
pub(super) struct Mailboxes(BTreeMap<String, MailboxSurvey>);

/// One user's letters.
#[derive(Clone, Debug, Default)]
pub struct MailboxSurvey {
    /// The name as last written.
    pub name: String,
    /// What waits.
    pub waiting: BTreeMap<LetterId, Location>,
    /// What is held for the operator.
    pub held: BTreeMap<LetterId, Location>,
    settled: LetterId,
    held_through: LetterId,
    purged: LetterId,
    offered: LetterId,
    /// The same of what is held.
    held_offered: LetterId,
}

/// How often a look is taken that a running server disturbs.
const LOOKS: u32 = 5;

impl Survey {
    /// Reads the whole spool. A server that runs there may drop a segment meanwhile, or be in
    /// the middle of a write: then it is read again.
    pub fn take<D: Disk>(disk: &mut D) -> Result<Self, SpoolError> {
        let mut left = LOOKS;
        loop {
            left -= 1;
            match Self::look(disk) {
                Ok(survey) if left == 0 || survey.is_settled(disk)? => return Ok(survey),
                Err(SpoolError::Io(e)) if left > 0 && e.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Bytes that are no whole record, in all segments.
    #[must_use]
    pub fn damaged_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.damaged_bytes).sum()
    }

    /// Whether no running server can be the reason for what looks damaged or empty: it writes to
    /// the last segment, and fills those with zeros that it has taken away.
    fn is_settled<D: Disk>(&self, disk: &mut D) -> io::Result<bool> {
        if self.segments.last().is_some_and(|last| last.damaged_bytes > 0) || !self.cut.is_empty() {
            return Ok(false);
        }
        let is_odd = |segment: &&SegmentSurvey| segment.damaged_bytes > 0 || segment.bytes == 0;
        let mut odd = self.segments.iter().filter(is_odd).peekable();
        if odd.peek().is_none() {
            return Ok(true);
        }
        let there = disk.list()?;
        Ok(odd.all(|segment| there.contains(&segment_file(segment.number))))
    }

    fn look<D: Disk>(disk: &mut D) -> Result<Self, SpoolError> {
        let mut survey = Self::default();
        let mut numbers = Vec::new();
        for file in disk.list()? {
            match name_of(&file) {
                Name::Segment(number) => numbers.push(number),
                Name::Quarantine => survey.quarantined.push(file),
                Name::Ready(_) => {
                    let file = disk.open(&file)?;
                    survey.ready_bytes += disk.len(&file)?;
                }
                Name::Recycled(_) | Name::Temporary | Name::Untold | Name::Ours | Name::Foreign => {
                }
            }
        }
        numbers.sort_unstable();
        survey.quarantined.sort_unstable();
        let mut mailboxes = Mailboxes::default();
        let mut last_batch = None;
        for number in &numbers {
            let all = read_whole(disk, &segment_file(*number))?;
            let bytes = &all[..used(&all)];
            // The newest is empty for a moment when it is made; no other ever is.
            if bytes.is_empty() && numbers.last() != Some(number) {
                survey.missing.push(Gap { first: *number, last: *number });
            }
            let first = record::decode(bytes).ok().map(|frame| frame.batch);
            if let Some((before, last)) = last_batch
                && *number == before + 1
                && first.is_some_and(|first| first > last + 1)
            {
                survey.cut.push(before);
            }
            let unused = (all.len() - bytes.len()) as u64;
            let last = survey.read_segment(*number, bytes, unused, &mut mailboxes)?;
            last_batch = last.map(|last| (*number, last));
        }
        let noted = std::mem::take(&mut survey.told);
        let (told, missing) = gaps(&numbers).partition::<Vec<_>, _>(|gap| gap.is_told(&noted));
        survey.missing.extend(missing);
        survey.told = told;
        let has_any = |mailbox: &MailboxSurvey| mailbox.waiting.len() + mailbox.held.len() > 0;
        mailboxes.0.retain(|_, mailbox| has_any(mailbox));
        survey.mailboxes = mailboxes.0;
        Ok(survey)
    }

    /// Takes in a segment and tells its last batch.
    fn read_segment(
        &mut self,
        number: u32,
        bytes: &[u8],
        unused_bytes: u64,
        mailboxes: &mut Mailboxes,
    ) -> Result<Option<u64>, SpoolError> {
        let mut last = None;
        let bytes_used = bytes.len() as u64;
        let mut segment =
            SegmentSurvey { number, bytes: bytes_used, unused_bytes, ..SegmentSurvey::default() };
        for piece in Pieces::new(bytes) {
            match piece {
                Piece::Damaged { bytes, .. } => segment.damaged_bytes += bytes as u64,
                Piece::Whole { offset, frame } => {
                    segment.records += 1;
                    last = last.max(Some(frame.batch));
                    match frame.entry {
                        Entry::Header(Header { format, .. }) if format > record::FORMAT => {
                            let file = segment_file(number);
                            return Err(SpoolError::NewerFormat { file, format });
                        }
                        Entry::Header(header) => self.name = Some(header.spool),
                        Entry::Record(record) => {
                            let mut at = Location::default();
                            if let Record::Letter(letter) = &record {
                                segment.letters += 1;
                                at = location(number, offset as u64, frame.bytes, letter);
                            }
                            mailboxes.take(&record, at);
                        }
                        Entry::Filler => {}
                        Entry::Told(gap) => self.told.push(gap),
                    }
                }
            }
        }
        self.segments.push(segment);
        Ok(last)
    }
}

impl Mailboxes {
    /// Takes in one record of the journal, in its order.
    pub(super) fn take(&mut self, record: &Record<'_>, at: Location) {
        match *record {
            Record::Letter(letter) => self.deliver(&letter, at),
            Record::Offered { user, through } => {
                let mailbox = self.mailbox(user);
                mailbox.offered = mailbox.offered.max(through);
            }
            Record::Settled { user, through } => self.mailbox(user).settle(through),
            Record::Held { user, through } | Record::Withheld { user, through } => {
                self.mailbox(user).hold(through);
            }
            Record::Purged { user, through } => self.mailbox(user).purge(through),
            _ => {}
        }
    }

    /// Takes out the user's mailbox, upper or lower case, if anything is known of it.
    pub(super) fn remove(&mut self, user: &str) -> Option<MailboxSurvey> {
        self.0.remove(&user.to_ascii_lowercase())
    }

    fn mailbox(&mut self, user: &str) -> &mut MailboxSurvey {
        let mailbox = self.0.entry(user.to_ascii_lowercase()).or_default();
        if mailbox.name != user {
            user.clone_into(&mut mailbox.name);
        }
        mailbox
    }

    fn deliver(&mut self, letter: &Letter<'_>, at: Location) {
        for one in recipients(letter.to) {
            let (id, mailbox) = (letter.id, self.mailbox(one.name));
            let held = id <= mailbox.held_through;
            if one.offered {
                let mark = if held { &mut mailbox.held_offered } else { &mut mailbox.offered };
                *mark = id.max(*mark);
            }
            // A letter shown behind the record that holds it is a copy, made because it is held;
            // what a later holder of the name has settled does not concern it.
            if held {
                if id > mailbox.purged {
                    mailbox.held.insert(id, at);
                }
            } else if id > mailbox.settled {
                mailbox.waiting.insert(id, at);
            }
        }
    }
}

impl MailboxSurvey {
    fn settle(&mut self, through: LetterId) {
        self.settled = self.settled.max(through);
        while self.take_first(through).is_some() {}
    }

    fn hold(&mut self, through: LetterId) {
        // When the mark is repeated later, more may have been offered, but nothing of this.
        if through > self.held_through {
            self.held_through = through;
            self.held_offered = self.held_offered.max(self.offered.min(through));
        }
        while let Some((id, at)) = self.take_first(through) {
            self.held.insert(id, at);
        }
    }

    fn purge(&mut self, through: LetterId) {
        self.purged = self.purged.max(through);
        while let Some(first) = self.held.first_entry().filter(|first| *first.key() <= through) {
            first.remove();
        }
    }

    /// The last letter that was ever offered to a reader, if one that was is still here.
    pub(super) fn offered(&self) -> Option<LetterId> {
        let offered = |letters: &BTreeMap<LetterId, Location>, mark: LetterId| {
            letters.keys().next().is_some_and(|first| *first <= mark).then_some(mark)
        };
        offered(&self.waiting, self.offered).max(offered(&self.held, self.held_offered))
    }

    /// Whether somebody may have been shown the letter, which is held.
    #[must_use]
    pub fn was_offered(&self, id: LetterId) -> bool {
        id <= self.held_offered
    }

    fn take_first(&mut self, through: LetterId) -> Option<(LetterId, Location)> {
        let first = self.waiting.first_entry().filter(|first| *first.key() <= through)?;
        Some(first.remove_entry())
    }

    /// Bytes of text that wait or are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let all = self.waiting.values().chain(self.held.values());
        all.map(|at| u64::from(at.body_bytes)).sum()
    }
}

/// Reads one letter that a survey found, and shows it.
pub fn read_letter<D: Disk, T>(
    disk: &mut D,
    at: Location,
    show: impl FnOnce(&Letter<'_>) -> T,
) -> io::Result<T> {
    let file = disk.open(&segment_file(at.segment))?;
    let mut bytes = vec![0; at.record_bytes as usize];
    let read = disk.read_at(&file, u64::from(at.offset), &mut bytes)?;
    let letter = letter_of(&bytes[..read], at)?;
    let mut lines = String::new();
    Ok(show(&Letter { body: record::restore(letter.body, &mut lines), ..letter }))
}
