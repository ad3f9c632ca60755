//! `--lines` of `mms send` and `mms broadcast`: each line of stdin is a message, and all travel
//! over one connection.

use super::account::{failure, tell};
use super::report::Report;
use super::send::{check_length, text, unreadable};
use super::{Code, Failure};
use crate::client::oneshot::{Trouble, entropy};
use crate::client::sender::{Message, SPAN_MOST, Sender, To, Wait};
use crate::limits::RECEIPTS;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, Write};

/// Most bytes of a line; the server's own limit is lower.
const LINE_BYTES: usize = 1 << 20;
/// Lines of one command that have a key by themselves, as a single message has. The server keeps
/// few of those for a user, so the lines behind them count under one name; and it keeps fewer names
/// still, so that short inputs take none.
const LINES_UNCOUNTED: u64 = 100;
/// What the server may be told to await at a time, with some room.
const AWAITED_MOST: usize = RECEIPTS / 5 * 4;

/// Messages made of lines, on their way.
pub(super) struct Lines<'a> {
    sender: Sender<'a>,
    keys: LineKeys,
    wait: Wait,
    /// From the oldest of which more is to be learned on.
    queue: VecDeque<Message>,
    /// How many may be in the queue.
    span: usize,
}

impl<'a> Lines<'a> {
    /// None read yet. `id`: the user's own name for all of them.
    pub(super) fn new(sender: Sender<'a>, to: &To, id: Option<String>, wait: Wait) -> Self {
        let readers = match to {
            To::Users(names) => names.len(),
            // How many they will be nobody knows; the server says what is too much.
            To::Everyone => 1,
        };
        let (keys, queue) = (LineKeys::new(id), VecDeque::new());
        Self { sender, keys, wait, queue, span: span(readers) }
    }

    /// Sends what lines there are, then waits for more.
    pub(super) fn send_all(
        mut self,
        report: &mut Report<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let (mut stdin, mut rest) = (io::stdin().lock(), Vec::new());
        loop {
            let bytes = stdin.fill_buf().map_err(|error| unreadable(&error))?;
            let ended = bytes.is_empty();
            rest.extend_from_slice(bytes);
            let length = bytes.len();
            stdin.consume(length);
            let end = rest.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
            let end = if ended { rest.len() } else { end };
            if rest.len() - end > LINE_BYTES {
                return Err(Failure::new(Code::Data, "stdin: a line is too long"));
            }
            let (mut messages, mut bad) = (Vec::new(), None);
            for line in rest.drain(..end).collect::<Vec<u8>>().split(|&b| b == b'\n') {
                match text(line.to_vec()).and_then(|text| check_length(&text).map(|()| text)) {
                    Ok(text) if text.trim().is_empty() => {}
                    Ok(text) => messages.push(text),
                    Err(failure) => {
                        // What came before it is sent, however stdin was cut.
                        bad = Some(failure);
                        break;
                    }
                }
            }
            if self.batch(messages, report, out)? == Next::End {
                return Ok(());
            }
            if let Some(bad) = bad {
                return self.finish(report, out).and(Err(bad));
            }
            if ended {
                return self.finish(report, out);
            }
        }
    }

    /// Sends some messages, no more at a time than may be in the queue.
    fn batch(
        &mut self,
        texts: Vec<String>,
        report: &mut Report<'_>,
        out: &mut dyn Write,
    ) -> Result<Next, Failure> {
        for some in texts.chunks((self.span / 2).max(1)) {
            for text in some {
                let keys = self.keys.next();
                let (key, spare) = keys.map_err(|trouble| failure(report.address(), &trouble))?;
                let mut message = Message::new(key, text.clone());
                message.spare = spare;
                self.queue.push_back(message);
            }
            let sent = self.sender.send(self.queue.make_contiguous(), Wait::Stored, false);
            if self.sender.spared {
                self.keys.count_no_more();
            }
            if sent.is_err() {
                report.tell(self.queue.iter(), sent, out)?;
                return Ok(Next::End);
            }
            self.tell_done(report, out)?;
            if self.queue.len() > self.span / 2 {
                self.wait_for_all(report, out)?;
            }
        }
        Ok(Next::More)
    }

    /// Waits until all in the queue are delivered. If that is too long, nothing is waited for any
    /// more: the exit code is the same whatever comes.
    fn wait_for_all(
        &mut self,
        report: &mut Report<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let sent = self.sender.send(self.queue.make_contiguous(), Wait::Delivered, false);
        if sent.is_err() {
            self.sender.give_up_receipts();
            tell("not delivered in time: the lines to come are stored and not waited for");
        }
        report.tell(self.queue.iter(), sent, out)?;
        self.queue.clear();
        Ok(())
    }

    /// Tells of those at the front of which no more is to be learned.
    fn tell_done(&mut self, report: &mut Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
        let done = self.queue.iter().take_while(|message| message.is_done()).count();
        report.tell(self.queue.iter().take(done), Ok(()), out)?;
        self.queue.drain(..done);
        Ok(())
    }

    fn finish(mut self, report: &mut Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
        if self.wait == Wait::Delivered && !self.queue.is_empty() {
            let sent = self.sender.send(self.queue.make_contiguous(), Wait::Delivered, false);
            report.tell(self.queue.iter(), sent, out)?;
        }
        self.sender.close();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    End,
}

/// How many messages to so many readers may be on their way.
fn span(readers: usize) -> usize {
    SPAN_MOST.min(AWAITED_MOST / readers.max(1))
}

/// The keys of lines.
struct LineKeys {
    /// The user's own name for them.
    own: Option<String>,
    line: u64,
    counting: Counting,
}

/// Whether keys count.
enum Counting {
    /// Not for these lines yet.
    NotYet,
    /// Under this name; so many did.
    Under(String, u64),
    /// The server has no room for one more name.
    NoMore,
}

impl LineKeys {
    fn new(own: Option<String>) -> Self {
        Self { own, line: 0, counting: Counting::NotYet }
    }

    /// The key of the next line, and one to use where the server has no room for the first.
    fn next(&mut self) -> Result<(String, Option<String>), Trouble> {
        self.line += 1;
        if let Some(own) = &self.own {
            return Ok((format!("{own}.{}", self.line), None));
        }
        let random = random_key()?;
        if self.line > LINES_UNCOUNTED && matches!(self.counting, Counting::NotYet) {
            self.counting = Counting::Under(random_key()?, 0);
        }
        Ok(match &mut self.counting {
            Counting::Under(name, count) => {
                *count += 1;
                (format!("{name}:{count}"), Some(random))
            }
            Counting::NotYet | Counting::NoMore => (random, None),
        })
    }

    fn count_no_more(&mut self) {
        self.counting = Counting::NoMore;
    }
}

/// A key that nobody else draws.
pub(super) fn random_key() -> Result<String, Trouble> {
    let mut key = String::new();
    for byte in entropy::<16>()? {
        _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KEY_INSTALLATION_BYTES, KEY_WINDOW, LIST_RECIPIENTS};

    #[test]
    fn no_more_is_on_its_way_than_the_server_remembers_and_awaits() {
        for readers in 1..=LIST_RECIPIENTS {
            let span = span(readers);
            assert!((20..KEY_WINDOW).contains(&span) && span * readers < RECEIPTS, "{readers}");
        }
    }

    #[test]
    fn lines_behind_the_first_hundred_count_under_one_name() {
        let mut keys = LineKeys::new(None);
        for _ in 0..LINES_UNCOUNTED {
            let (key, spare) = keys.next().unwrap();
            assert!(!key.contains(':') && spare.is_none(), "{key}");
        }
        let (first, spare) = keys.next().unwrap();
        let (name, number) = first.split_once(':').unwrap();
        assert_eq!((number, name.len() <= KEY_INSTALLATION_BYTES), ("1", true));
        assert!(spare.is_some_and(|spare| !spare.contains(':')));
        assert_eq!(keys.next().unwrap().0, format!("{name}:2"));
        keys.count_no_more();
        assert!(!keys.next().unwrap().0.contains(':'));
        let mut own = LineKeys::new(Some("k".into()));
        assert_eq!(own.next().unwrap(), ("k.1".into(), None));
    }
}
