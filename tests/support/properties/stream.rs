//! From the wire to commands: what telnet's filter, the framing and the grammar make of a stream
//! does not depend on where it was cut, through the switch to the coded dialect and back.

use super::telnet::without_presence;
use super::{Input, pieces};
use mms::limits::{COUNTED_BYTES, LINE_BYTES, LINE_BYTES_BEFORE_SIGNIN};
use mms::proto::coded::{self, Request};
use mms::proto::command::{Command, CommandFault, parse};
use mms::proto::foreign;
use mms::proto::line::{Frame, Framer, Limits};
use mms::proto::telnet::Telnet;

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let cuts = input.cuts();
    let whole = understood([input.0].into_iter());
    assert_eq!(understood(pieces(input.0, &cuts).into_iter()), whole, "{cuts:?}");
    assert_eq!(understood(input.0.chunks(1)), whole, "a byte at a time");
}

/// What a connection is taken to say, as its state grows with it.
#[derive(Default)]
struct Reader {
    telnet: Telnet,
    framer: Framer,
    kept: Vec<u8>,
    answer: Vec<u8>,
    coded: bool,
    signed_in: bool,
    understood: Vec<String>,
}

fn understood<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
    let mut reader = Reader::default();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let text = reader.telnet.filter(&mut bytes, &mut reader.answer);
        reader.kept.extend_from_slice(&bytes[..text]);
        while reader.next() {}
    }
    // How often somebody was told that we are here depends on it, see there.
    (reader.understood, without_presence(&reader.answer).0)
}

impl Reader {
    fn limits(&self) -> Limits {
        let line = if self.signed_in { LINE_BYTES } else { LINE_BYTES_BEFORE_SIGNIN };
        Limits { line, counted: self.coded.then_some(COUNTED_BYTES) }
    }

    fn next(&mut self) -> bool {
        let kept = std::mem::take(&mut self.kept);
        let (used, frame) = self.framer.next(&kept, self.limits());
        let more = frame.is_some();
        match frame {
            None => {}
            Some(Frame::Line(line)) => self.line(line, None),
            Some(Frame::Counted(line, body)) => self.line(line, Some(body)),
            Some(other) => self.understood.push(format!("{other:?}")),
        }
        self.kept = kept;
        self.kept.drain(..used);
        more
    }

    fn line(&mut self, line: &[u8], body: Option<&[u8]>) {
        let first = self.understood.is_empty().then(|| foreign::by_line(line)).flatten();
        let told = if self.coded {
            let call = coded::parse(line, body);
            self.signed_in |= matches!(call.request, Ok(Request::SignIn { .. }));
            let request = call.request.map(|request| shown(&request));
            format!("{:?} {request:?}", call.tag)
        } else {
            let command = parse(line);
            self.signed_in |= matches!(command, Ok(Command::SignIn { .. }));
            self.coded |= matches!(command, Err(CommandFault::Switch));
            command.map_or_else(|fault| format!("{fault:?}"), |command| plain(&command))
        };
        self.understood.push(format!("{first:?} {told}"));
    }
}

/// With its arguments, which its `Debug` keeps to itself.
fn plain(command: &Command<'_>) -> String {
    super::commands::typed(command)
}

fn shown(request: &Request<'_>) -> String {
    match request {
        Request::Command(command) => plain(command),
        Request::Send { key, to, text } => format!("send {key:?} {to:?} {text:?}"),
        Request::Broadcast { key, text } => format!("broadcast {key:?} {text:?}"),
        Request::SignIn { user, kind, .. } => format!("signin {user:?} {kind:?}"),
        Request::Passwd(_) => "passwd".into(),
        Request::Auth(last) => format!("auth {last:?}"),
        Request::Ping => "ping".into(),
        Request::Pong => "pong".into(),
        Request::Ack(id) => format!("ack {id}"),
        Request::Receipts(switch) => format!("receipts {switch:?}"),
    }
}
