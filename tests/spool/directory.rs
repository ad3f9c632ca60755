//! The directory: one server at a time, nobody else looks in, and what an operator is shown.

use super::{Server, TestDir, config, seqs};
use mms::cli::{Code, Failure, spool};
use mms::core::record::{Journal as _, Record};
use mms::store::disk::{Disk as _, FileDisk, OpenError};
use mms::store::files::segment_file;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_directory_has_one_server_and_nobody_else_looks_in() {
    let dir = TestDir::new("lock");
    let spool = dir.0.join("deep/spool");
    let mut server = Server::open(FileDisk::open(&spool).unwrap(), config(1 << 20)).unwrap();
    server.send(&["fred"], "hello");
    server.spool.commit().unwrap();
    let refused = FileDisk::open(&spool).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)));
    let path = spool.display();
    assert_eq!(
        refused.to_string(),
        format!(
            "spool directory {path} is in use by another mms server (it holds {path}/lock); stop \
             that one or use another --spool"
        )
    );
    assert_eq!(mode(&spool), 0o700);
    for name in ["lock", "secret", "journal-0000000001.log"] {
        assert_eq!(mode(&spool.join(name)), 0o600, "{name}");
    }
    let mut looker = FileDisk::open_read_only(&spool).unwrap();
    let file = looker.open("journal-0000000001.log").unwrap();
    assert!(looker.len(&file).unwrap() > 100);
    for refused in [
        looker.write_all_at(&file, 0, b"x").unwrap_err(),
        looker.create("x").unwrap_err(),
        looker.remove("secret").unwrap_err(),
        looker.rename("secret", "public").unwrap_err(),
    ] {
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    drop(server);
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::open(FileDisk::open(&spool).unwrap(), config(1 << 20)).unwrap();
    assert_eq!((mode(&spool), seqs(&server.hub)), (0o700, vec![1]));
}

#[test]
fn what_cannot_be_a_spool_says_why() {
    let dir = TestDir::new("no-spool");
    std::fs::create_dir(&dir.0).unwrap();
    std::fs::write(dir.0.join("file"), "").unwrap();
    for path in ["file", "file/below"] {
        let refused = FileDisk::open(&dir.0.join(path)).unwrap_err();
        assert!(matches!(refused, OpenError::CannotCreate(_)), "{refused}");
    }
    // Nobody else could look into it any more.
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let shared = FileDisk::open(&dir.0).unwrap_err();
    assert!(matches!(shared, OpenError::CannotCreate(_)), "{shared}");
    assert!(shared.to_string().contains("holds other files"), "{shared}");
    assert_eq!((mode(&dir.0), dir.0.join("lock").exists()), (0o755, false));
    let missing = FileDisk::open_read_only(&dir.0.join("none")).unwrap_err();
    assert!(missing.to_string().contains("none: No such file"), "{missing}");
}

fn printed(command: impl FnOnce(&mut dyn io::Write) -> Result<(), Failure>) -> String {
    let mut out = Vec::new();
    command(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_operator_looks_into_a_running_servers_spool() {
    let dir = TestDir::new("look");
    let mut server = Server::open(FileDisk::open(&dir.0).unwrap(), config(300)).unwrap();
    let epoch = server.spool.epoch();
    let first = server.send(&["ann"], "to be held");
    server.spool.append(&Record::Held { user: "ann", through: first });
    server.spool.commit().unwrap();
    let second = server.send(&["ann", "fred"], "line\nbreak \u{1b}[2J and more text to fill it up");
    server.settle("fred", second);
    server.spool.commit().unwrap();
    server.send(&["ann"], "last");
    server.spool.commit().unwrap();

    let listing = printed(|out| spool::ls(&dir.0, out));
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines[0], "spool 0707070707070707");
    assert!(lines[1].starts_with("journal-0000000001.log  "), "{listing}");
    assert_eq!(lines.len(), 4, "{listing}");
    assert_eq!(lines[3], format!("{:<32}  2 waiting, 1 held, 57 bytes of text", "ann"));
    let shown = printed(|out| spool::show(&dir.0, Some("ANN"), out));
    assert_eq!(
        shown,
        format!(
            "{epoch}.1 2025-07-20T08:26:40Z held from bob to ann: to be held\n\
             {epoch}.2 2025-07-20T08:26:40Z waiting from bob to ann: \
             line\\nbreak \\u{{1b}}[2J and more text to fill it up\n\
             {epoch}.3 2025-07-20T08:26:40Z waiting from bob to ann: last\n"
        )
    );
    assert_eq!(printed(|out| spool::show(&dir.0, None, out)), shown);
    let nobody = spool::show(&dir.0, Some("fred"), &mut Vec::new()).unwrap_err();
    assert_eq!((nobody.code, nobody.message.as_str()), (Code::NoUser, "nothing waits for fred"));
    let checked = printed(|out| spool::check(&dir.0, out));
    assert!(checked.ends_with("0 bytes damaged, 0 segments missing, 0 files in quarantine\n"));
    assert!(checked.contains("2 letters waiting, 1 held"), "{checked}");

    let path = dir.0.join(segment_file(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let damage = spool::check(&dir.0, &mut Vec::new()).unwrap_err();
    assert_eq!(damage.code, Code::Data);
    assert!(damage.message.contains("journal-0000000001.log ("), "{damage}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was repaired");
    let missing = spool::ls(&dir.0.join("none"), &mut Vec::new()).unwrap_err();
    assert_eq!(missing.code, Code::NoInput);
}
