//! The house keeps its order: who may name whom, how long a file, a function and a line may be,
//! where a clock may be read and where `unsafe` may stand. Comments and texts are free.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders or files of `src`, and the words that no program text in them may have. A word is one
/// identifier, or a path of them.
const ARROWS: [(&str, &[&str]); 18] = [
    (
        "core",
        &[
            "crate::client",
            "crate::bench",
            "mio",
            "slab",
            "nom",
            "log",
            "simplelog",
            "socket2",
            "clap",
            "libc",
            "crate::store",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::logging",
            "std::io",
            "std::fs",
            "std::time",
            "std::sync",
            "std::thread",
            "std::env",
            "std::process",
            "std::path",
        ],
    ),
    (
        "proto",
        &[
            "crate::client",
            "crate::bench",
            "mio",
            "slab",
            "log",
            "simplelog",
            "socket2",
            "clap",
            "libc",
            "crate::core",
            "crate::store",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::logging",
            "std::fs",
            "std::time",
            "std::sync",
            "std::thread",
            "std::env",
        ],
    ),
    (
        "net",
        &[
            "crate::client",
            "crate::bench",
            "nom",
            "simplelog",
            "clap",
            "std::fs",
            "crate::cli",
            "crate::logging",
            "std::env",
        ],
    ),
    (
        "store",
        &[
            "crate::client",
            "crate::bench",
            "nom",
            "mio",
            "slab",
            "log",
            "simplelog",
            "socket2",
            "clap",
            "libc",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::logging",
            "std::net",
        ],
    ),
    ("cli", &["mio", "slab", "nom", "socket2", "libc", "simplelog", "std::time"]),
    (
        "client",
        &[
            "crate::bench",
            "nom",
            "mio",
            "slab",
            "log",
            "simplelog",
            "socket2",
            "clap",
            "libc",
            "crate::core",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::logging",
            "std::env",
        ],
    ),
    (
        "bench",
        &[
            "slab",
            "nom",
            "log",
            "simplelog",
            "socket2",
            "clap",
            "libc",
            "crate::core",
            "crate::store",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "engine.rs",
        &[
            "crate::client",
            "crate::bench",
            "mio",
            "slab",
            "nom",
            "crate::net",
            "crate::cli",
            "std::fs",
            "std::net",
        ],
    ),
    ("logging.rs", &["crate::core", "crate::store", "crate::net", "crate::engine", "crate::cli"]),
    ("limits.rs", &["crate", "std"]),
    ("sys.rs", &["crate", "std::fs", "std::time", "std::net"]),
    ("time.rs", &["crate", "std::io", "std::fs", "std::time", "std::net"]),
    ("digits.rs", &["crate", "std::io", "std::fs", "std::time", "std::net"]),
    ("crypto.rs", &["crate", "std::io", "std::fs", "std::time", "std::net", "getrandom"]),
    (
        "scram.rs",
        &[
            "crate::core",
            "crate::store",
            "crate::net",
            "crate::engine",
            "crate::cli",
            "crate::proto",
            "crate::logging",
            "std::io",
            "std::fs",
            "std::time",
            "std::net",
            "getrandom",
        ],
    ),
    ("main.rs", &["mio", "slab", "nom", "log", "mms::core", "mms::net", "mms::store"]),
    ("lib.rs", &["std"]),
    ("", &["unwrap", "todo", "unimplemented", "dbg"]),
];

/// Of a module that a folder may not name as a whole, what it may name after all.
const EXCEPTIONS: [(&str, &str, &[&str]); 6] = [
    // Addresses are values.
    ("core", "std::net", &["IpAddr", "Ipv4Addr", "Ipv6Addr"]),
    ("proto", "std::net", &["IpAddr"]),
    // Writing into a Vec.
    ("proto", "std::io", &["Write"]),
    // The bound of a type, nothing that could be called.
    ("net", "crate::store", &["disk::Disk"]),
    // The companion keeps letters, too: what can crash a spool is tried at an inbox.
    ("client", "crate::store", &["disk::Disk"]),
    // What a name or a text may be is said once.
    ("store", "crate::proto", &["name", "text"]),
];

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;
const COLUMNS: usize = 100;

struct Source {
    /// Below `src`.
    path: String,
    text: String,
    /// Program text without comments, strings and tests; its lines are those of the file.
    code: String,
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    rust_files(&root, &mut files);
    files.sort();
    assert!(files.len() > 30, "{files:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let is_test = path.ends_with("/tests.rs");
        let code = if is_test { String::new() } else { without_tests(&without_prose(&text)) };
        Source { path, text, code }
    };
    files.into_iter().map(read).collect()
}

/// Whether it is a file of this folder or, without one, of any.
fn is_in(path: &str, place: &str) -> bool {
    place.is_empty() || path == place || path.starts_with(&format!("{place}/"))
}

/// Blanks out comments, strings and characters.
fn without_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = prose_end(text, at);
        if end > at {
            // Line ends stay where they are.
            out.extend(text[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            let c = text[at..].chars().next().unwrap();
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// Where the comment, string or character that begins here ends; `at` if none begins.
fn prose_end(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let to = |length: Option<usize>| at + length.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return to(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return to(rest.find("*/").map(|end| end + 2));
    }
    let in_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_word || text[..at].ends_with('b')) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            return to(rest[body..].find(&close).map(|end| body + end + close.len()));
        }
    }
    let quoted = |quote: char| {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|&(_, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        to(end.map(|(end, _)| end + 1))
    };
    if rest.starts_with('"') {
        return quoted('"');
    }
    // A quote that is not a lifetime's.
    let mut after = rest.chars().skip(1);
    if rest.starts_with('\'') {
        match (after.next(), after.next()) {
            (Some('\\'), _) | (Some(_), Some('\'')) => return quoted('\''),
            _ => {}
        }
    }
    at
}

/// Blanks out what stands behind `#[cfg(test)]`, up to the brace that closes it.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(begin) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..begin]);
        let item = &rest[begin..];
        let open = item.find(['{', ';']).unwrap();
        let end = if item[open..].starts_with(';') { open } else { closing_brace(item, open) };
        out.extend(item[..=end].chars().filter(|&c| c == '\n'));
        rest = &item[end + 1..];
    }
    out + rest
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    panic!("a brace is not closed");
}

fn line_of(code: &str, at: usize) -> usize {
    1 + code[..at].matches('\n').count()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `path`, such as `std::fs` or `mio`, is named: as such, or within `std::{…}`.
fn named<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (module, item) = path.split_once("::").unwrap_or(("", path));
    code.match_indices(item).map(|(at, _)| at).filter(move |&at| {
        let (before, after) = (&code[..at], &code[at + item.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) {
            return false;
        }
        if module.is_empty() {
            // A field, a method or a local of that name is not the crate: the crate has a path
            // behind it or an import before it. A macro ends with `!`.
            let imported = before.trim_end().ends_with("use") || before.ends_with("extern crate ");
            let is_path = after.starts_with("::") && !before.ends_with("::");
            let called = before.ends_with('.') && after.starts_with('(');
            return imported || is_path || called || after.starts_with('!');
        }
        match before.strip_suffix("::") {
            Some(before) => before.ends_with(module),
            None => is_in_group_of(before, module),
        }
    })
}

/// Whether what follows `before` stands in a `use module::{ … }`, at its first level.
fn is_in_group_of(before: &str, module: &str) -> bool {
    let mut depth = 0;
    for (at, c) in before.char_indices().rev() {
        match c {
            '}' => depth += 1,
            '{' if depth == 0 => {
                let group = before[..at].trim_end().strip_suffix("::");
                let first = before[at + 1..].trim_end().ends_with(',') || {
                    before[at + 1..].trim().is_empty()
                };
                return first && group.is_some_and(|group| group.ends_with(module));
            }
            '{' => depth -= 1,
            ';' => return false,
            _ => {}
        }
    }
    false
}

fn tell(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn nobody_names_whom_he_must_not_know() {
    let mut faults = vec![];
    for source in sources() {
        for (place, words) in ARROWS.iter().filter(|(place, _)| is_in(&source.path, place)) {
            for word in *words {
                for at in named(&source.code, word) {
                    let line = line_of(&source.code, at);
                    faults.push(format!("src/{}:{line}: {place} names {word}", source.path));
                }
            }
        }
        for (place, module, allowed) in EXCEPTIONS {
            for at in named(&source.code, module).filter(|_| is_in(&source.path, place)) {
                let line = line_of(&source.code, at);
                let (_, item) = module.split_once("::").unwrap();
                let rest = source.code[at + item.len()..].trim_start_matches("::");
                let fits = |one: &str| {
                    rest.strip_prefix(one).is_some_and(|after| !after.starts_with(is_word))
                };
                let group = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let good = match group {
                    Some((group, _)) => group.split(',').all(|one| allowed.contains(&one.trim())),
                    None => allowed.iter().any(|one| fits(one)),
                };
                if !good {
                    faults.push(format!("src/{}:{line}: of {module} {allowed:?}", source.path));
                }
            }
        }
    }
    tell(faults);
}

#[test]
fn clocks_and_unsafe_have_one_place_each() {
    let mut faults = vec![];
    for source in sources() {
        for (word, place) in [
            ("Instant", "net/clock.rs"),
            ("SystemTime", "net/clock.rs"),
            ("unsafe", "sys.rs"),
            ("nom", "proto"),
            ("simplelog", "logging.rs"),
            ("mio", "net"),
            ("slab", "net"),
            ("socket2", "net"),
            ("libc", "net sys.rs"),
            ("clap", "cli"),
            ("sha2", "crypto.rs"),
            ("hmac", "crypto.rs"),
            ("crc32fast", "store"),
            ("rustls", "net/tls.rs client/tls.rs"),
            ("rcgen", "cli/certificate.rs"),
        ] {
            // The bench is a program of its own, with a clock and a loop.
            let second = match word {
                "Instant" => "bench/clock.rs",
                "mio" => "bench",
                "clap" => "main.rs",
                _ => place,
            };
            let allowed = place.split(' ').chain([second]).any(|place| is_in(&source.path, place));
            for (at, _) in source.code.match_indices(word).filter(|_| !allowed) {
                let (before, after) = (&source.code[..at], &source.code[at + word.len()..]);
                if !before.ends_with(is_word) && !after.starts_with(is_word) {
                    let line = line_of(&source.code, at);
                    faults.push(format!("src/{}:{line}: {word}", source.path));
                }
            }
        }
    }
    tell(faults);
}

/// The lines of each function: where it begins, and how many there are up to its last brace.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = vec![];
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        // A type such as `fn(u8)` has no name, and a trait's function may have no body.
        let Some(open) = code[at..].find(['{', ';']).map(|open| at + open) else { continue };
        if code[open..].starts_with('{') {
            let end = closing_brace(code, open);
            found.push((line_of(code, at), 1 + code[at..end].matches('\n').count()));
        }
    }
    found
}

#[test]
fn functions_fit_a_screen_and_files_a_head() {
    let mut faults = vec![];
    for source in sources() {
        for (line, lines) in functions(&source.code).into_iter().filter(|f| f.1 > FUNCTION_LINES) {
            faults.push(format!("src/{}:{line}: a function of {lines} lines", source.path));
        }
        // What is left of a test module are line ends.
        let lines = source.code.trim_end().lines().count();
        if lines > FILE_LINES {
            faults.push(format!("src/{}: {lines} lines without tests", source.path));
        }
    }
    tell(faults);
}

#[test]
fn lines_end_before_the_margin_and_files_say_what_they_are_for() {
    let mut faults = vec![];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    rust_files(&root.join("src"), &mut files);
    rust_files(&root.join("tests"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root).unwrap().display();
        if !text.starts_with("//! ") {
            faults.push(format!("{shown}: begins without //!"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > COLUMNS {
                faults.push(format!("{shown}:{number}: {} columns", line.chars().count()));
            }
            if line.ends_with(' ') {
                faults.push(format!("{shown}:{number}: a blank at the end"));
            }
        }
    }
    tell(faults);
}

#[test]
fn every_file_is_on_the_tour() {
    let sources = sources();
    let map = &sources.iter().find(|source| source.path == "lib.rs").unwrap().text;
    let rows: Vec<Vec<&str>> = map.lines().filter_map(stops).collect();
    assert!(rows.len() > 50, "{} rows", rows.len());
    let mut faults = vec![];
    for source in sources.iter().filter(|source| source.path != "lib.rs") {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let (parent, name) = path.rsplit_once("::").unwrap_or(("", &path));
        // The command line has one file a subcommand, and says so; tests are no part of the tour.
        if parent == "cli" || name == "tests" {
            continue;
        }
        let is_stop = |row: &Vec<&str>| {
            let first = row[0];
            let beside = first == parent || first.rsplit_once("::").is_some_and(|f| f.0 == parent);
            row.contains(&&*path) || (beside && row.contains(&name))
        };
        if !rows.iter().any(is_stop) {
            faults.push(format!("src/{}: no line in the tour", source.path));
        }
    }
    tell(faults);
}

/// What a row of the tour names.
fn stops<'a>(line: &'a str) -> Option<Vec<&'a str>> {
    let row = line.strip_prefix("//! | ")?;
    let named = row.split('`').skip(1).step_by(2);
    let plain = |name: &'a str| name.trim_start_matches("mod@").trim_end_matches(".rs");
    let stops: Vec<&str> = named.map(plain).collect();
    (!stops.is_empty()).then_some(stops)
}

#[test]
fn every_limit_says_why() {
    let sources = sources();
    let limits = sources.iter().find(|source| source.path == "limits.rs").unwrap();
    let mut before = "";
    let mut count = 0;
    for line in limits.text.lines() {
        if line.starts_with("pub const") {
            assert!(before.starts_with("/// "), "no reason: {line}");
            count += 1;
        }
        before = line;
    }
    assert!(count > 40, "{count}");
}

#[test]
fn the_search_finds_what_it_should() {
    let code = without_prose(
        "// std::fs\nuse std::{fmt, fs::{self, File}};\nlet a = \"std::fs \\\" mio::x\"; \
         let b = 'x'; fn f<'a>(x: &'a str) { r#\"mio\"# } use mio::Poll; self.log.len(); log!()",
    );
    assert_eq!(named(&code, "std::fs").map(|at| line_of(&code, at)).collect::<Vec<_>>(), [2]);
    assert_eq!(named(&code, "mio").count(), 1);
    assert_eq!(named(&code, "log").count(), 1, "the macro, not the field");
    assert_eq!(named(&code, "std::net").count(), 0);
    let tests = "fn a() {}\n#[cfg(test)]\nmod tests {\n  use std::fs;\n}\nfn b() {\n\n}\n";
    let code = without_tests(tests);
    assert_eq!(named(&code, "std::fs").count(), 0);
    assert_eq!(functions(&code), [(1, 1), (6, 3)]);
}
