//! The server's end of a simulated connection: bytes become events of the real engine, and what
//! the engine says becomes bytes, as `net` does both.

use mms::core::event::{Conn, End, Event, Flow, Input, Saved};
use mms::engine::{Engine, Output, SavePassword};
use mms::proto::line::Framer;
use mms::proto::reply::Reply;
use mms::proto::telnet::Telnet;
use mms::proto::{coded, plain};
use mms::store::disk::Disk;
use mms::time::Now;

/// What the engine is to hear at the beginning of the next turn.
#[derive(Debug)]
pub enum News {
    Acknowledged(Conn, u32),
    Drained(Conn),
    Closed(Conn, End),
    Save(SavePassword),
}

impl News {
    /// `saves`: what the password file takes.
    pub fn event(self, saves: impl FnOnce(&SavePassword) -> Saved) -> Event<'static> {
        match self {
            Self::Acknowledged(conn, through) => {
                Event::Acknowledged { conn, through, input: Input::Taken }
            }
            Self::Drained(conn) => Event::Drained { conn },
            Self::Closed(conn, end) => Event::Closed { conn, end },
            Self::Save(save) => Event::PasswordSaved { change: save.change, saved: saves(&save) },
        }
    }
}

/// To whom something is said, if it is to a connection.
pub fn receiver(output: &Output<'_>) -> Option<Conn> {
    Some(match *output {
        Output::Say(conn, ..) | Output::Letter(conn, _) => conn,
        Output::Watch(conn) | Output::Look(conn) | Output::Free(conn) => conn,
        Output::Show { conn, .. } | Output::Close { conn, .. } | Output::Resume(conn) => conn,
        Output::SavePassword(_) => return None,
    })
}

pub struct Port {
    pub conn: Conn,
    framer: Framer,
    telnet: Option<Telnet>,
    /// Read, and not handed over yet.
    pub inbox: Vec<u8>,
    /// Said, and not taken by the network yet.
    pub out: Vec<u8>,
    pub said: u32,
    /// The last of them that was a letter.
    letter_said: u32,
    pub held: bool,
    /// The peer's machine acknowledges nothing.
    pub silent: bool,
    /// The peer closed its side.
    pub closed: bool,
    pub gone: bool,
    /// It has switched to the coded dialect.
    pub coded: bool,
}

impl Port {
    pub fn new(conn: Conn) -> Self {
        let (framer, telnet, inbox, out) = (Framer::default(), None, vec![], vec![]);
        let (said, letter_said) = (0, 0);
        let (held, silent, closed, gone, coded) = (false, false, false, false, false);
        Self {
            conn,
            framer,
            telnet,
            inbox,
            out,
            said,
            letter_said,
            held,
            silent,
            closed,
            gone,
            coded,
        }
    }

    /// Bytes came from the peer, as `Port::read` of the server takes them.
    pub fn take<D: Disk>(&mut self, bytes: &[u8], engine: &mut Engine<D>, now: Now) {
        let (mut bytes, conn, mut marked) = (bytes.to_vec(), self.conn, None);
        if self.telnet.is_some() || !Telnet::is_needless(&bytes) {
            let telnet = self.telnet.get_or_insert_default();
            let kept = telnet.filter(&mut bytes, &mut self.out);
            bytes.truncate(kept);
            marked = telnet.take_answered();
        }
        self.inbox.extend_from_slice(&bytes);
        if let Some(through) = marked {
            engine.handle(Event::Marked { conn, through }, now);
        }
        engine.handle(Event::Stirred { conn }, now);
        self.lines(engine, now);
    }

    /// What the network is to carry to the peer now.
    pub fn take_out(&mut self) -> Vec<u8> {
        if let Some(telnet) = self.telnet.as_mut().filter(|_| !self.gone) {
            telnet.ask_mark(self.letter_said, &mut self.out);
        }
        std::mem::take(&mut self.out)
    }

    /// Hands lines over until there is none or they are held.
    pub fn lines<D: Disk>(&mut self, engine: &mut Engine<D>, now: Now) {
        let conn = self.conn;
        while !self.held && !self.gone {
            let (used, frame) = self.framer.next(&self.inbox, engine.limits(conn));
            let Some(frame) = frame else {
                self.inbox.drain(..used);
                break;
            };
            let flow = engine.handle(Event::of_frame(conn, frame), now);
            self.inbox.drain(..used);
            self.held = flow == Flow::Hold;
        }
        if self.closed && !self.held && !self.gone {
            engine.handle(Event::Ended { conn }, now);
        }
    }

    /// What the server says to it, or wants of it. True: its lines may be handed over again.
    pub fn speak(&mut self, output: Output<'_>, news: &mut Vec<News>) -> bool {
        let conn = self.conn;
        match output {
            Output::Say(_, tag, reply) => {
                self.said += 1;
                self.coded |= matches!(reply, Reply::Switched(_));
                if self.coded {
                    coded::render(reply, tag, &mut self.out);
                } else {
                    plain::render(reply, &mut self.out);
                }
                if matches!(reply, Reply::LetterDamaged { .. }) && !self.silent {
                    news.push(News::Acknowledged(conn, self.said));
                }
            }
            Output::Letter(_, letter) => {
                self.said += 1;
                coded::letter(letter, &mut self.out);
            }
            Output::Show { from, body, showing, .. } => {
                self.said += 1;
                self.letter_said = self.said;
                plain::letter(from.as_str(), body, showing, &mut self.out);
                if !self.silent {
                    news.push(News::Acknowledged(conn, self.said));
                }
            }
            Output::SavePassword(_) | Output::Free(_) => {}
            Output::Watch(_) => news.push(News::Drained(conn)),
            Output::Look(_) if self.silent => {}
            Output::Look(_) => news.push(News::Acknowledged(conn, self.said)),
            Output::Resume(_) => {
                self.held = false;
                return true;
            }
            Output::Close { .. } => {
                self.gone = true;
                // A peer whose machine answers reads to the end and closes in its turn.
                let end = if self.silent { End::Broken } else { End::Orderly };
                news.push(News::Closed(conn, end));
            }
        }
        false
    }
}
