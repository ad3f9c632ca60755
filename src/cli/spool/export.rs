//! `mms spool show|export`: the letters that wait or are held, for people and for programs.

use super::{escaped, io_failure, open, output_failed, rfc3339, survey};
use crate::cli::{Code, Failure};
use crate::client::shown::Json;
use crate::core::record::{Letter, LetterId, LetterKind, Location};
use crate::store::disk::FileDisk;
use crate::store::foresight::foresee;
use crate::store::survey::{MailboxSurvey, Survey, read_letter};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Why a letter is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Held,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
        }
    }

    fn letters(self, mailbox: &MailboxSurvey) -> &BTreeMap<LetterId, Location> {
        match self {
            Self::Waiting => &mailbox.waiting,
            Self::Held => &mailbox.held,
        }
    }
}

/// Shows the letters that wait, or are held, for one user or for all.
pub fn show(dir: &Path, user: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut disk, survey) = survey(dir)?;
    each_letter(&mut disk, &survey, user, out, one_line)
}

/// The same as a JSON object a line. What is damaged is left out and told.
pub fn export(dir: &Path, user: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut disk, survey) = survey(dir)?;
    let nobody = each_letter(&mut disk, &survey, user, out, json);
    let foreseen = foresee(&mut disk).map_err(|e| open(&e))?;
    if foreseen.lost_places > 0 {
        let lines = foreseen.lines.join("; ");
        let message = format!("the spool is damaged, and what is whole was exported: {lines}");
        return Err(Failure::new(Code::Data, message));
    }
    nobody
}

fn each_letter(
    disk: &mut FileDisk,
    survey: &Survey,
    user: Option<&str>,
    out: &mut dyn Write,
    line: fn(&Letter<'_>, &str, State) -> String,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(out);
    let wanted = user.map(str::to_ascii_lowercase);
    for (key, mailbox) in &survey.mailboxes {
        if wanted.as_ref().is_some_and(|wanted| wanted != key) {
            continue;
        }
        for state in [State::Held, State::Waiting] {
            for (id, at) in state.letters(mailbox) {
                let show = |letter: &Letter<'_>| line(letter, &mailbox.name, state);
                if let Some(line) = read(disk, key, state, *id, *at, show)? {
                    out.write_all(line.as_bytes()).map_err(|e| output_failed(&e))?;
                }
            }
        }
    }
    out.flush().map_err(|e| output_failed(&e))?;
    match wanted {
        Some(wanted) if !survey.mailboxes.contains_key(&wanted) => {
            let message = format!("nothing waits for {}", escaped(&wanted));
            Err(Failure::new(Code::NoUser, message))
        }
        _ => Ok(()),
    }
}

/// One letter; none if it was taken meanwhile.
fn read(
    disk: &mut FileDisk,
    key: &str,
    state: State,
    id: LetterId,
    mut at: Location,
    show: impl Fn(&Letter<'_>) -> String,
) -> Result<Option<String>, Failure> {
    loop {
        let fault = match read_letter(disk, at, &show) {
            Ok(line) => return Ok(Some(line)),
            Err(fault) => fault,
        };
        // A running server may have moved it since: then it stands somewhere else now.
        let moved = matches!(fault.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData);
        if !moved {
            return Err(io_failure(&fault));
        }
        let survey = Survey::take(disk).map_err(|e| open(&e))?;
        let mailbox = survey.mailboxes.get(key);
        match mailbox.and_then(|mailbox| state.letters(mailbox).get(&id)) {
            None => return Ok(None),
            Some(now) if *now == at => return Err(io_failure(&fault)),
            Some(now) => at = *now,
        }
    }
}

fn one_line(letter: &Letter<'_>, to: &str, state: State) -> String {
    let (id, from, state) = (letter.id, letter.from, state.name());
    let time = rfc3339(letter.unix_ms);
    format!("{id} {time} {state} from {from} to {to}: {}\n", escaped(letter.body))
}

fn json(letter: &Letter<'_>, to: &str, state: State) -> String {
    let (id, from) = (letter.id, Json(letter.from));
    let seconds = rfc3339(letter.unix_ms);
    let (seconds, ms) = (seconds.trim_end_matches('Z'), letter.unix_ms % 1000);
    let kind = match letter.kind {
        LetterKind::Direct => "direct",
        LetterKind::Broadcast => "broadcast",
    };
    let key = letter.key.map(|key| format!("\"key\":{},", Json(key.text))).unwrap_or_default();
    format!(
        "{{\"id\":\"{id}\",\"time\":\"{seconds}.{ms:03}Z\",\"kind\":\"{kind}\",\"from\":{from},\
         \"to\":{},\"state\":\"{}\",{key}\"text\":{}}}\n",
        Json(to),
        state.name(),
        Json(letter.body)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Key;

    #[test]
    fn a_letter_is_one_object_with_stable_keys() {
        let mut letter = Letter {
            id: LetterId { epoch: 5, seq: 7 },
            unix_ms: 1_753_000_000_009,
            kind: LetterKind::Broadcast,
            key: None,
            from: "tim",
            to: "+fred,ann",
            body: "a \"b\"\n\u{1b}c",
        };
        assert_eq!(
            json(&letter, "ann", State::Held),
            "{\"id\":\"5.7\",\"time\":\"2025-07-20T08:26:40.009Z\",\"kind\":\"broadcast\",\
             \"from\":\"tim\",\"to\":\"ann\",\"state\":\"held\",\
             \"text\":\"a \\\"b\\\"\\n\\u001bc\"}\n"
        );
        letter.kind = LetterKind::Direct;
        letter.key = Some(Key { text: "backup.7", hash: 1 });
        let line = json(&letter, "ann", State::Waiting);
        assert!(line.contains("\"kind\":\"direct\","), "{line}");
        assert!(line.contains("\"state\":\"waiting\",\"key\":\"backup.7\",\"text\":"), "{line}");
    }
}
