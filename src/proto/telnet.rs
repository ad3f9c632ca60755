//! The telnet filter: takes IAC sequences (RFC 854) out of what a peer sends and says what to
//! answer. It allocates nothing and buffers nothing: a sequence may be cut at any byte.
//!
//! MMS asks a terminal for one thing only, to hide a password while it is typed (`WILL ECHO`,
//! which it undoes with `WONT ECHO`). It never offers SUPPRESS-GO-AHEAD, which would put telnet
//! into character mode. Every other option is refused once. `DO TIMING-MARK` is agreed to,
//! because telnet hides all output after Ctrl-C until it is. The other way round, a peer that
//! speaks telnet is asked for a mark behind letters: it answers when it has come so far (RFC 860).

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const ARE_YOU_THERE: u8 = 246;
const SE: u8 = 240;
const ECHO: u8 = 1;
const TIMING_MARK: u8 = 6;

/// Hides what the peer types: said with a password prompt.
pub const HIDE_TYPING: [u8; 3] = [IAC, WILL, ECHO];
/// Shows it again.
pub const SHOW_TYPING: [u8; 3] = [IAC, WONT, ECHO];

/// What is answered to "are you there".
const HERE: &[u8] = b">> MMS is here\r\n";

/// Bytes of a subnegotiation after which it is taken for garbage: none that a client sends us
/// unasked is that long.
const SUBNEGOTIATION_BYTES: u16 = 1024;

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Data,
    Command,
    Option(u8),
    Subnegotiation(u16),
    SubnegotiationCommand(u16),
}

/// What the filter remembers of one peer that has used IAC, or was sent it.
#[derive(Debug, Default)]
pub struct Telnet {
    state: State,
    /// What was read last has asked whether somebody is there, and was told.
    here_said: bool,
    /// The options refused so far, a bit each: those asked of us, those offered to us.
    refused: [[u64; 4]; 2],
    /// Which of the things said the last mark was asked for behind; zero if none was.
    marked: u32,
    /// The same, as long as the answer is awaited.
    awaited: Option<u32>,
    /// The same, once the answer has come.
    answered: Option<u32>,
}

impl Telnet {
    /// Whether `bytes` of a peer that never used IAC can skip the filter.
    #[must_use]
    pub fn is_needless(bytes: &[u8]) -> bool {
        memchr::memchr(IAC, bytes).is_none()
    }

    /// Moves the text of `bytes` to its front and returns its length; appends to `answer` what is
    /// to be sent.
    pub fn filter(&mut self, bytes: &mut [u8], answer: &mut Vec<u8>) -> usize {
        if matches!(self.state, State::Data) && Self::is_needless(bytes) {
            return bytes.len();
        }
        self.here_said = false;
        let mut kept = 0;
        for at in 0..bytes.len() {
            let byte = bytes[at];
            if self.is_text(byte, answer) {
                bytes[kept] = byte;
                kept += 1;
            }
        }
        kept
    }

    /// Asks in `out` for a mark behind the `said`-th thing, unless that was asked before or another
    /// answer is awaited still: marks carry no number, so there is one at a time.
    pub fn ask_mark(&mut self, said: u32, out: &mut Vec<u8>) {
        if self.may_ask_mark(said) {
            out.extend_from_slice(&[IAC, DO, TIMING_MARK]);
            self.marked = said;
            self.awaited = Some(said);
        }
    }

    /// Whether [`Telnet::ask_mark`] would ask.
    #[must_use]
    pub fn may_ask_mark(&self, said: u32) -> bool {
        said != self.marked && self.awaited.is_none()
    }

    /// Behind which of the things said the peer has answered a mark, once for each.
    pub fn take_answered(&mut self) -> Option<u32> {
        self.answered.take()
    }

    fn is_text(&mut self, byte: u8, answer: &mut Vec<u8>) -> bool {
        self.state = match (self.state, byte) {
            (State::Data, IAC) => State::Command,
            (State::Data, _) => return true,
            // Doubled, or in front of what is no command, such as the line end behind the last
            // letter of a text that is not UTF-8: that byte counts.
            (State::Command, IAC | 0..SE) => {
                self.state = State::Data;
                return true;
            }
            (State::Command, WILL..=DONT) => State::Option(byte),
            (State::Command, SB) => State::Subnegotiation(0),
            (State::Command, ARE_YOU_THERE) => {
                // Two bytes cost fifteen: a flood of them is answered once for each read.
                if !std::mem::replace(&mut self.here_said, true) {
                    answer.extend_from_slice(HERE);
                }
                State::Data
            }
            (State::Command, _) => State::Data,
            (State::Option(verb), option) => {
                self.negotiate(verb, option, answer);
                State::Data
            }
            (State::Subnegotiation(n), IAC) => State::SubnegotiationCommand(n),
            (State::SubnegotiationCommand(_), SE) => State::Data,
            (State::Subnegotiation(n) | State::SubnegotiationCommand(n), _) => {
                if n < SUBNEGOTIATION_BYTES { State::Subnegotiation(n + 1) } else { State::Data }
            }
        };
        false
    }

    fn negotiate(&mut self, verb: u8, option: u8, answer: &mut Vec<u8>) {
        match (verb, option) {
            (DO, TIMING_MARK) => answer.extend_from_slice(&[IAC, WILL, TIMING_MARK]),
            // Either is given when the mark is come to. Without a question it says nothing.
            (WILL | WONT, TIMING_MARK) => self.answered = self.awaited.take().or(self.answered),
            // The answer to what the prompt asked for.
            (DO | DONT, ECHO) => {}
            (DO, _) if self.is_new(0, option) => answer.extend_from_slice(&[IAC, WONT, option]),
            (WILL, _) if self.is_new(1, option) => answer.extend_from_slice(&[IAC, DONT, option]),
            _ => {}
        }
    }

    fn is_new(&mut self, side: usize, option: u8) -> bool {
        let word = &mut self.refused[side][usize::from(option / 64)];
        let bit = 1 << (option % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>) {
        let (mut telnet, mut text, mut answer) = (Telnet::default(), vec![], vec![]);
        for piece in pieces {
            let mut bytes = piece.to_vec();
            let kept = telnet.filter(&mut bytes, &mut answer);
            text.extend_from_slice(&bytes[..kept]);
        }
        (text, answer)
    }

    #[test]
    fn every_option_is_refused_once() {
        let asked = [IAC, DO, 3, IAC, WILL, 31, b'a', IAC, DO, 3, IAC, WILL, 31, IAC, DONT, 3];
        let (text, answer) = run([&asked[..]].into_iter());
        assert_eq!((&text[..], &answer[..]), (&b"a"[..], &[IAC, WONT, 3, IAC, DONT, 31][..]));
    }

    #[test]
    fn a_timing_mark_is_agreed_to_each_time() {
        let (text, answer) = run([&[IAC, DO, 6, b'x', IAC, DO, 6][..]].into_iter());
        assert_eq!((&text[..], &answer[..]), (&b"x"[..], &[IAC, WILL, 6, IAC, WILL, 6][..]));
    }

    #[test]
    fn a_mark_is_asked_for_once_and_answered_once() {
        let (mut telnet, mut out) = (Telnet::default(), vec![]);
        telnet.ask_mark(7, &mut out);
        telnet.ask_mark(7, &mut out);
        telnet.ask_mark(9, &mut out);
        assert_eq!(out, [IAC, DO, TIMING_MARK], "one at a time");
        for verb in [WILL, WONT] {
            assert_eq!(telnet.filter(&mut [IAC, verb], &mut vec![]), 0);
            assert_eq!(telnet.take_answered(), None, "it is cut in the middle");
            assert_eq!(telnet.filter(&mut [TIMING_MARK], &mut out), 0);
            let answered = telnet.take_answered();
            assert_eq!(answered, Some(if verb == WILL { 7 } else { 9 }));
            assert_eq!(telnet.take_answered(), None);
            telnet.filter(&mut [IAC, verb, TIMING_MARK], &mut out);
            assert_eq!(telnet.take_answered(), None, "nobody asked");
            telnet.ask_mark(9, &mut out);
        }
        assert_eq!(out, [IAC, DO, TIMING_MARK, IAC, DO, TIMING_MARK], "and no answer to answers");
    }

    #[test]
    fn a_flood_of_questions_is_answered_once_a_read() {
        let flood = [IAC, ARE_YOU_THERE].repeat(1000);
        let (text, answer) = run([&flood[..], b"a", &flood[..]].into_iter());
        assert_eq!((&text[..], answer), (&b"a"[..], HERE.repeat(2)));
    }

    #[test]
    fn what_is_no_command_stays() {
        let (text, _) = run([&[b'a', IAC, b'\n', b'b', IAC, IAC, IAC, 241, b'c'][..]].into_iter());
        assert_eq!(text, [b'a', b'\n', b'b', IAC, b'c']);
    }

    #[test]
    fn subnegotiations_vanish_and_cannot_hide_text_for_ever() {
        let (text, _) = run([&[b'a', IAC, SB, 24, 0, IAC, IAC, 1, IAC, SE, b'b'][..]].into_iter());
        assert_eq!(text, b"ab");
        let mut endless = vec![IAC, SB];
        endless.extend(std::iter::repeat_n(b'x', 5000));
        let (text, _) = run([&endless[..]].into_iter());
        assert!(text.len() > 3900);
    }

    proptest! {
        #[test]
        fn the_same_text_however_cut(
            bytes in proptest::collection::vec(
                prop_oneof![Just(IAC), 240u8..255, Just(6), any::<u8>()],
                0..100,
            ),
            size in 1usize..5,
        ) {
            // But for how often it is told that somebody is here.
            let all = |(text, answer): (Vec<u8>, Vec<u8>)| {
                let answer = String::from_utf8_lossy(&answer).replace(">> MMS is here\r\n", "");
                (text, answer)
            };
            let cut = all(run(bytes.chunks(size)));
            prop_assert_eq!(cut, all(run([&bytes[..]].into_iter())));
        }
    }
}
