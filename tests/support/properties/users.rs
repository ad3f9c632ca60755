//! The password file: a text is read as a whole or refused in one harmless line that tells no
//! secret; what is read is written as it was; an edit changes one user's line and nothing else.

use super::{Input, assert_harmless};
use mms::core::password::Verifier;
use mms::proto::name::UserName;
use mms::store::users::{self, Change};
use std::fs;
use std::path::{Path, PathBuf};

/// Stands in a text wherever `~` stood. No name could hold it.
const SECRET: &str = "s3/cr3t";

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let edits = input.byte();
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    let text = text.replace('~', SECRET);
    for word in text.split([' ', ':', '\n']) {
        verifier(word);
    }
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(':') {
            verifier(rest);
        }
    }
    let path = Path::new("users");
    let entries = match users::parse(path, &text) {
        Ok(entries) => entries,
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("users: ") && !told.contains(SECRET), "{told}");
            return assert_harmless(&told);
        }
    };
    assert!(!format!("{entries:?}").contains(SECRET));
    let written: String =
        entries.iter().map(|(name, verifier)| format!("{name}:{verifier}\n")).collect();
    assert_eq!(users::parse(path, &written).unwrap(), entries);
    for (name, verifier) in &entries {
        // Blanks around a verifier are all that may stand there besides.
        let is_theirs = |line: &str| {
            let rest = line.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(':'));
            rest.is_some_and(|rest| rest.trim() == verifier.to_string())
        };
        assert!(text.lines().any(is_theirs), "{name}");
    }
    if edits % 4 == 0 {
        edit(&text, &entries, edits / 4);
    }
}

fn verifier(text: &str) {
    if let Ok(verifier) = Verifier::parse(text) {
        assert_eq!(verifier.to_string(), text, "it has one spelling");
        assert!(!format!("{verifier:?}").contains(text));
    }
}

/// A file with this text is edited.
fn edit(text: &str, entries: &[(UserName, Verifier)], choice: u8) {
    let file = TextFile::new(text);
    let fresh = Verifier::derive(b"new", b"saltsalt", 1);
    // As it would be read back; the rounds of `fresh` would not be.
    let fresh = fresh.to_string().replace("$1:", "$4096:");
    let fresh = Verifier::parse(&fresh).expect("a verifier");
    let newcomer = UserName::new("Newcomer").expect("a name");
    let known = entries.iter().any(|(name, _)| name.key() == newcomer.key());
    let added = users::edit(&file.0, &Change::Add(newcomer.clone(), fresh.clone()));
    assert_eq!(added.is_err(), known);
    let mut before = text.to_owned();
    if !known {
        if !before.is_empty() && !before.ends_with('\n') {
            before.push('\n');
        }
        assert_eq!(file.text(), format!("{before}{newcomer}:{fresh}\n"));
        users::edit(&file.0, &Change::Remove(newcomer)).expect("it is there");
        assert_eq!(file.text(), before);
    }
    let Some((name, old)) = entries.get(usize::from(choice) % entries.len().max(1)) else {
        return;
    };
    users::edit(&file.0, &Change::SetPassword(name.clone(), fresh.clone())).expect("it is there");
    let changed = file.text();
    let its_line = |line: &str| {
        let rest = line.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(|rest| rest.trim() == old.to_string())
    };
    let new_line = |line: &str| {
        let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
        if its_line(line) { format!("{name}:{fresh}{end}") } else { line.to_owned() }
    };
    assert_eq!(changed, before.split_inclusive('\n').map(new_line).collect::<String>());
    let wanted: Vec<_> = entries
        .iter()
        .map(|(other, old)| {
            (other.clone(), if other == name { fresh.clone() } else { old.clone() })
        })
        .collect();
    assert_eq!(users::parse(&file.0, &changed).unwrap(), wanted);
}

/// A password file, in memory if the system has a place for that.
struct TextFile(PathBuf);

impl TextFile {
    fn new(text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        // A directory of its own, for an edit locks that.
        let folder = folder.join(format!("mms-users-{}-{thread}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("users");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        Self(path)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("it is there")
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        _ = self.0.parent().map(fs::remove_dir_all);
    }
}
