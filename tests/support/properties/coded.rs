//! The coded dialect, both ends: any bytes are a call, a line of a server or a fault, however they
//! are cut; what one end writes the other reads as it was meant; nothing of it drives a terminal.

use super::commands::typed;
use super::{Input, assert_harmless, pieces};
use mms::client::shown::{Json, Shown, ShownLines};
use mms::limits::{COUNTED_BYTES, LINE_BYTES};
use mms::proto::coded::{
    LetterLine, NewPassword, Proof, Request, Tag, legible, letter, parse, render,
};
use mms::proto::coded_client::{Answer, Ask, Letter, LineFault, Reader, Said, ServerLine, encode};
use mms::proto::command::{CommandFault, Recipients, Switch, names};
use mms::proto::line::{Frame, Framer, Limits};
use mms::proto::name::UserName;
use mms::proto::reply::{Refusal, Reply};
use mms::proto::text;

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 4 {
        0 => call(input.line(), None),
        1 => call(input.line(), Some(input.0)),
        2 => said_by_a_server(input),
        _ => said_by_ours(input),
    }
}

const LIMITS: Limits = Limits { line: LINE_BYTES, counted: Some(COUNTED_BYTES) };

// ---- what programs ask -------------------------------------------------------------------------

fn call(line: &[u8], body: Option<&[u8]>) {
    // A line that counts a text is handed over with it.
    if body.is_none() && Framer::default().next(&[line, b"\n"].concat(), LIMITS).1.is_none() {
        return;
    }
    let call = parse(line, body);
    if call.request.is_ok() {
        let texts = [Some(line), body].into_iter().flatten().map(String::from_utf8_lossy);
        texts.for_each(|text| text.split('\n').for_each(assert_harmless));
    }
    if let Some(tag) = call.tag {
        assert_eq!(legible(line), Some(tag), "what cannot be read keeps its tag");
    }
    match call.request {
        Ok(request) => asked(&request, call.tag),
        Err(CommandFault::Text(_)) => {
            let lines = body.is_none_or(|body| text::check_lines(body).is_ok());
            assert!(text::check(line).is_err() || !lines);
        }
        Err(_) => {}
    }
}

/// A request that was understood, written as our own client writes it, is the same.
fn asked(request: &Request<'_>, tag: Option<Tag>) {
    let tag = tag.map(|tag| format!("{tag:?}")[1..].to_owned());
    let mut bytes = vec![];
    let word = |word: &str| !word.is_empty() && !word.contains([' ', '\t']);
    let mut ours = |ask: &Ask<'_>| encode(ask, tag.as_deref(), &mut bytes);
    match *request {
        Request::Send { key: Some(key), to: Recipients::One(to), text } => {
            ours(&Ask::Send { key, to: &[to.to_owned()], text });
        }
        Request::Send { key: Some(key), to: Recipients::List(list), text } => {
            let to: Vec<String> = names(list).map(str::to_owned).collect();
            // One name alone is not written as a list.
            if to.len() == 1 {
                return;
            }
            ours(&Ask::Send { key, to: &to, text });
        }
        Request::Broadcast { key: Some(key), text } => ours(&Ask::Broadcast { key, text }),
        Request::SignIn { user, kind, proof: Proof::Scram(first) } if word(user) => {
            ours(&Ask::SignIn { user, kind, first });
        }
        Request::Passwd(NewPassword::Scram { first, verifier }) if word(first) => {
            ours(&Ask::Passwd { first, verifier });
        }
        Request::Auth(last) => ours(&Ask::Auth(last)),
        Request::Ping => ours(&Ask::Ping),
        Request::Pong => ours(&Ask::Pong),
        Request::Ack(id) => ours(&Ask::Ack(id)),
        Request::Receipts(Switch::On) => ours(&Ask::Receipts),
        Request::Command(command) => ours(&Ask::Typed(&typed(&command))),
        // Our client always has a key, sends no passwords, and never takes that back.
        Request::Send { key: None, .. }
        | Request::Broadcast { key: None, .. }
        | Request::SignIn { .. }
        | Request::Passwd(_)
        | Request::Receipts(Switch::Off) => return,
    }
    let (used, frame) = Framer::default().next(&bytes, LIMITS);
    let (line, body) = match frame {
        Some(Frame::Line(line)) => (line, None),
        Some(Frame::Counted(line, body)) => (line, Some(body)),
        // More than any connection would have handed over.
        Some(Frame::TooLong | Frame::TooMany(..)) => return,
        other => panic!("{other:?} of {bytes:?}"),
    };
    let again = parse(line, body);
    assert_eq!(again.tag.map(|tag| format!("{tag:?}")[1..].to_owned()), tag);
    let same = match (*request, again.request) {
        (
            Request::Send { key, to: Recipients::List(list), text },
            Ok(Request::Send { key: its_key, to: Recipients::List(its), text: its_text }),
        ) => (key, text) == (its_key, its_text) && names(list).eq(names(its)),
        (one, Ok(other)) => one == other,
        _ => false,
    };
    assert!(same, "{line:?} {body:?}");
    assert_eq!(used, bytes.len(), "it is one call and nothing else");
}

// ---- what servers say --------------------------------------------------------------------------

fn said_by_a_server(mut input: Input<'_>) {
    let cuts = input.cuts();
    let (whole, fault) = read([input.0].into_iter());
    assert_eq!(read(pieces(input.0, &cuts).into_iter()), (whole.clone(), fault), "{cuts:?}");
    for said in &whole {
        match said {
            Said::Plain(text) => shown(text),
            Said::Coded(line) => understood(line),
        }
    }
    if let Some(fault) = fault {
        assert_harmless(&fault.to_string());
    }
}

/// What comes out of these pieces, up to the first fault.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Said>, Option<LineFault>) {
    let (mut reader, mut out) = (Reader::default(), vec![]);
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next_said() {
                Ok(Some(said)) => out.push(said),
                Ok(None) => break,
                Err(fault) => return (out, Some(fault)),
            }
        }
        assert!(reader.rest().len() <= LINE_BYTES + COUNTED_BYTES + 100);
    }
    (out, None)
}

/// Whatever a server says is shown without harm.
fn shown(text: &str) {
    assert_harmless(&Shown(text).to_string());
    ShownLines(text).to_string().split('\n').for_each(assert_harmless);
    let json = Json(text).to_string();
    assert_harmless(&json);
    assert!(json.starts_with('"') && json.ends_with('"') && json.len() >= text.len() + 2);
}

fn understood(line: &ServerLine) {
    assert!((100..600).contains(&line.code) && line.is_event() == (line.code < 200));
    assert!(line.tag().is_none_or(|tag| !line.is_event() && !tag.contains(' ')));
    shown(line.fields());
    if let Ok(Answer::Refused(refused)) = Answer::parse(line) {
        assert_harmless(&refused.to_string());
    }
    _ = Letter::parse_damaged(line.fields());
    let Ok(letter) = Letter::parse(line.fields()) else { return };
    if UserName::new(&letter.from).is_ok() {
        reads_back(&letter);
    }
}

/// A letter that was read, written as our own server writes it, is the same.
fn reads_back(of: &Letter) {
    let Letter { id, unix_ms, again, broadcast, ref from, text: ref body, .. } = *of;
    let mut out = vec![];
    let mut stamp = vec![];
    id.push_with_time(unix_ms, &mut stamp);
    let line_ends = u32::try_from(body.matches('\n').count()).expect("a line is short");
    let (stamp, body) = (&stamp[..], body.as_bytes());
    letter(&LetterLine { id, stamp, again, broadcast, from, body, line_ends }, &mut out);
    let (said, fault) = read(out.chunks(7));
    assert_eq!(fault, None);
    let [Said::Coded(line)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((line.code, Letter::parse(line.fields()).as_ref()), (100, Ok(of)));
}

/// A reply of ours, whatever stands in it, reads back with its tag, and alone.
fn said_by_ours(mut input: Input<'_>) {
    let tag = Tag::new(&String::from_utf8_lossy(input.line()));
    let Ok(body) = text::check_lines(input.0) else { return };
    if body.len() > COUNTED_BYTES - 100 {
        return;
    }
    let from = UserName::new("fred").expect("a name");
    let word: Box<str> = body.into();
    for (reply, code, fields) in [
        (Reply::Away(body.into()), 262, format!("away {body}")),
        (Reply::AutoReply { from, text: body.into() }, 101, format!("fred {body}")),
        (
            Reply::Refused(Refusal::Unknown { word, hint: None }),
            500,
            format!("unknown-command {body}").trim_end().into(),
        ),
    ] {
        // What happens unasked has no tag.
        let tag = tag.filter(|_| code >= 200);
        let mut out = vec![];
        render(&reply, tag, &mut out);
        render(&Reply::Pong, None, &mut out);
        let (said, fault) = read(out.chunks(9));
        assert_eq!((said.len(), fault), (2, None));
        let Said::Coded(line) = &said[0] else { panic!("{said:?}") };
        assert_eq!((line.code, line.fields()), (code, &fields[..]));
        let tag = tag.map(|tag| format!("{tag:?}")[1..].to_owned());
        assert_eq!(line.tag(), tag.as_deref());
        assert!(matches!(&said[1], Said::Coded(pong) if pong.code == 264));
    }
}
