//! The server's certificate, and by what a client knows it.

use super::{Peer, start, tls_port};
use crate::support::server::{Folder, PASSWORD, Server, mms, run, users_file};
use std::fs;
use std::process::{Command, Output, Stdio};

pub(super) fn ping(server: &Server, at: &str) -> Command {
    let mut command = mms(&server.folder);
    command.args(["ping", "--server", at]).env("HOME", server.folder.path("home"));
    command
}

pub(super) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_certificate_is_made_once_and_kept() {
    let mut server = start(&["fred"]);
    let fingerprint = server.tls.clone().unwrap().1;
    assert_eq!(server.folder.mode("spool/tls.pem"), 0o600);
    let pem = server.folder.read("spool/tls.pem");
    assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("BEGIN PRIVATE KEY"), "{pem}");
    assert!(server.log().contains(&fingerprint));
    for _ in 0..2 {
        server.kill9();
        server.restart();
        assert_eq!(server.tls.as_ref().unwrap().1, fingerprint);
    }
    let check = |arguments: &[&str]| run(mms(&server.folder).arg("spool").args(arguments));
    for arguments in [&["check"][..], &["ls"], &["export"]] {
        let output = check(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &told(&output);
        assert!(output.status.success() && !text.contains("tls.pem"), "{arguments:?} {text}");
    }
}

#[test]
fn a_server_that_shows_another_certificate_is_refused_loudly() {
    let mut server = start(&["fred", "tim"]);
    let (at, first) = server.tls.clone().unwrap();
    let at = at.to_string();
    assert!(run(ping(&server, &at).arg("--tls")).status.success());
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    assert!(run(ping(&server, &at).args(["--ca", "spool/tls.pem"])).status.success());
    fs::copy(server.folder.path("spool/tls.pem"), server.folder.path("old.pem")).unwrap();
    fs::remove_file(server.folder.path("spool/tls.pem")).unwrap();
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    let (now, second) = server.tls.clone().unwrap();
    let now = now.to_string();
    assert_ne!(first, second);
    let hosts = server.folder.read("home/.local/share/mms/known_hosts");
    server.folder.write("home/.local/share/mms/known_hosts", &hosts.replace(&at, &now));
    let lines = server.log().lines().count();
    for arguments in [&["ping"][..], &["who"], &["send", "tim", "a secret"], &["recv"], &["login"]]
    {
        server.folder.write("password", PASSWORD);
        let mut command = mms(&server.folder);
        command.args(arguments).env("HOME", server.folder.path("home")).env("MMS_SERVER", &now);
        command.env("MMS_TLS", "1").env("MMS_USER", "fred").env("MMS_PASSWORD_FILE", "password");
        let output = run(&mut command);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(76), "{arguments:?} {text}");
        for part in ["THE SERVER'S CERTIFICATE HAS CHANGED", &first, &second, "known_hosts"] {
            assert!(text.contains(part), "{arguments:?} {text}");
        }
    }
    let port = now.rsplit_once(':').unwrap().1;
    let mut companion = mms(&server.folder);
    companion.args(["client", "--tls", "-u", "fred", "--password-file", "password"]);
    let output = run(companion.args(["127.0.0.1", port]).env("HOME", server.folder.path("home")));
    assert_eq!(output.status.code(), Some(76));
    assert!(told(&output).contains("HAS CHANGED"), "{output:?}");
    for (option, value) in [("--tls-fingerprint", &*first), ("--ca", "old.pem")] {
        let output = run(ping(&server, &now).args([option, value]));
        assert_eq!(output.status.code(), Some(76), "{output:?}");
        assert!(told(&output).contains("nothing was sent"), "{output:?}");
    }
    // Not even a name was told to it.
    let log = server.log();
    assert!(!log.lines().skip(lines).any(|line| line.contains("sign")), "{log}");
    assert!(run(ping(&server, &now).args(["--tls-fingerprint", &second])).status.success());
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let server = start(&["fred"]);
    let port = tls_port(&server).port();
    // It is for localhost, 127.0.0.1 and ::1.
    let output = run(ping(&server, &format!("127.0.0.2:{port}")).args(["--ca", "spool/tls.pem"]));
    assert_eq!(output.status.code(), Some(76), "{output:?}");
    assert!(told(&output).contains("not valid for name"), "{output:?}");
    for (text, code) in [("", 78), ("x", 78)] {
        server.folder.write("ca.pem", text);
        let at = format!("127.0.0.1:{port}");
        let output = run(ping(&server, &at).args(["--ca", "ca.pem"]));
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn many_who_meet_a_server_at_once_agree_on_it() {
    let server = start(&["fred"]);
    let (at, fingerprint) = server.tls.clone().unwrap();
    let children: Vec<_> = (0..40)
        .map(|_| {
            let mut command = ping(&server, &at.to_string());
            command.args(["--tls", "--timeout", "19"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut first = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        first += usize::from(told(&output).contains("for the first time"));
    }
    assert_eq!(first, 1);
    let known = server.folder.read("home/.local/share/mms/known_hosts");
    assert_eq!(known, format!("{at} {fingerprint}\n"));
}

#[test]
fn nobody_is_trusted_where_nothing_can_be_kept() {
    let server = start(&["fred"]);
    let at = tls_port(&server).to_string();
    let output = run(mms(&server.folder).args(["ping", "--tls", "--server", &at]));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    server.folder.write("home", "a file");
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    fs::remove_file(server.folder.path("home")).unwrap();
    fs::create_dir_all(server.folder.path("home/.local/share/mms")).unwrap();
    server.folder.write("home/.local/share/mms/known_hosts", &format!("{at} SHA256:12\n"));
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(told(&output).contains("known_hosts"), "{output:?}");
    let known = server.folder.path("home/.local/share/mms/known_hosts");
    fs::remove_file(&known).unwrap();
    assert!(run(Command::new("mkfifo").arg(&known)).status.success());
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "a pipe: {output:?}");
}

#[test]
fn sighup_reads_the_certificate_again_and_keeps_the_old_one_if_that_is_bad() {
    let other = start(&["fred"]);
    let server = start(&["fred", "tim"]);
    let (at, first) = server.tls.clone().unwrap();
    let at = at.to_string();
    let mut fred = Peer::signed_in(&server, "fred");
    for bad in ["", "nonsense"] {
        server.folder.write("spool/tls.pem", bad);
        server.signal("HUP");
        server.logs("certificate not read again, the old one is kept");
        assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    }
    // Whoever opened a pipe would wait for its other end, and everybody for him.
    let pem = server.folder.path("spool/tls.pem");
    fs::remove_file(&pem).unwrap();
    assert!(run(Command::new("mkfifo").arg(&pem)).status.success());
    server.signal("HUP");
    server.logs("it is no regular file");
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    fs::remove_file(&pem).unwrap();
    let (_, second) = other.tls.clone().unwrap();
    server.folder.write("spool/tls.pem", &other.folder.read("spool/tls.pem"));
    server.signal("HUP");
    server.logs(&format!("certificate read again: {second}"));
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &second])).status.success());
    assert_eq!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.code(), Some(76));
    // Who is there already stays.
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online");
}

/// Tries to start a server with these options; its exit code and its line on stderr.
fn refused(folder: &Folder, options: &[&str]) -> (i32, String) {
    let output = run(mms(folder).args(["server", "0", "users"]).args(options));
    assert_eq!(output.stdout, b"");
    (output.status.code().unwrap(), told(&output))
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_before_anything_is_done() {
    let donor = start(&["fred"]);
    let pem = donor.folder.read("spool/tls.pem");
    let key_at = pem.find("-----BEGIN PRIVATE").unwrap();
    let stranger = start(&["fred"]).folder.read("spool/tls.pem");
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    folder.write("chain", &pem[..key_at]);
    folder.write("key", &pem[key_at..]);
    folder.write("another", &stranger[stranger.find("-----BEGIN PRIVATE").unwrap()..]);
    folder.write("empty", "");
    folder.write("loose", &pem[key_at..]);
    folder.chmod("loose", 0o644);
    for (options, code, words) in [
        (["--cert", "missing", "--key", "key"], 66, "missing"),
        (["--cert", "chain", "--key", "missing"], 66, "missing"),
        (["--cert", "empty", "--key", "key"], 78, "BEGIN CERTIFICATE"),
        (["--cert", "key", "--key", "key"], 78, "BEGIN CERTIFICATE"),
        (["--cert", "chain", "--key", "chain"], 78, "BEGIN PRIVATE KEY"),
        (["--cert", "chain", "--key", "another"], 78, "will not do"),
        (["--cert", "chain", "--key", "loose"], 78, "chmod 640 loose"),
    ] {
        let all = [&["--tls", "0"][..], &options].concat();
        let (ended, text) = refused(&folder, &all);
        assert_eq!(ended, code, "{options:?}: {text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{options:?}: {text}");
        assert!(!folder.path("spool").exists());
    }
    for options in [
        &["--cert", "chain", "--key", "key"][..],
        &["--tls", "0", "--cert", "chain"],
        &["--tls", "0", "--key", "key"],
        &["--tls", "70000"],
        &["--tls", "0", "--tls-bind", "localhost"],
    ] {
        assert_eq!(refused(&folder, options).0, 64, "{options:?}");
    }
    let server = Server::start_in(folder, &["--tls", "0", "--cert", "chain", "--key", "key"]);
    assert_eq!(server.tls.as_ref().unwrap().1, donor.tls.as_ref().unwrap().1);
    assert!(!server.folder.path("spool/tls.pem").exists(), "it needs none of its own");
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder.path("."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    openssl("genrsa -traditional -out pkcs1 2048");
    openssl("ecparam -genkey -name prime256v1 -noout -out sec1");
    openssl("genpkey -algorithm ed25519 -out pkcs8");
    for (key, form) in
        [("pkcs1", "RSA PRIVATE"), ("sec1", "EC PRIVATE"), ("pkcs8", "BEGIN PRIVATE")]
    {
        assert!(folder.read(key).contains(form));
        folder.chmod(key, 0o600);
        let name = format!("cert-{key}");
        openssl(&format!("req -new -x509 -days 2 -subj /CN=localhost -key {key} -out {name}"));
        let shown = openssl(&format!("x509 -noout -fingerprint -sha256 -in {name}"));
        let shown = shown.trim_end().split_once('=').unwrap().1.to_owned();
        let inner = Folder::new();
        inner.write("users", &users_file(&["fred"]));
        let (chain, path) = (folder.path(&name), folder.path(key));
        let files = ["--cert", chain.to_str().unwrap(), "--key", path.to_str().unwrap()];
        let server = Server::start_in(inner, &[&["--tls", "0"][..], &files].concat());
        let at = tls_port(&server).to_string();
        // As openssl shows it, with colons and in capitals.
        let output = run(ping(&server, &at).args(["--tls-fingerprint", &shown]));
        assert!(output.status.success(), "{key}: {output:?}");
    }
}

/// A certificate for localhost that is valid from one year to another, and its key.
fn valid(from: i32, to: i32) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 2);
    params.not_after = rcgen::date_time_ymd(to, 3, 4);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_certificate_whose_time_is_not_now_is_told_of_and_used() {
    const LATE: &str = "has expired, on 2021-03-04 00:00:00 UTC";
    const EARLY: &str = "is not valid before 2090-01-02 00:00:00 UTC";
    let ((old, old_key), (new, new_key)) = (valid(2020, 2021), valid(2090, 2091));
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    folder.write("chain", &old);
    folder.write("key", &old_key);
    let options = ["--tls", "0", "--cert", "chain", "--key", "key"];
    let output = run(mms(&folder).args(["server", "0", "users", "--check"]).args(options));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let note = format!("note  tls: the certificate chain {LATE}: ");
    assert!(output.status.success() && text.contains(&note), "{output:?}");
    let server = Server::start_in(folder, &options);
    server.logs(&format!("the certificate chain {LATE}: "));
    let (at, fingerprint) = server.tls.clone().unwrap();
    let localhost = format!("localhost:{}", at.port());
    for arguments in [&["--tls"][..], &["--tls-fingerprint", &fingerprint]] {
        let output = run(ping(&server, &localhost).args(arguments));
        assert!(output.status.success(), "{output:?}");
    }
    let refuses = |words: &str| {
        let output = run(ping(&server, &localhost).args(["--ca", "chain"]));
        let text = told(&output);
        assert_eq!(output.status.code(), Some(76), "{text}");
        assert!(text.contains(words) && text.contains("nothing was sent"), "{text}");
    };
    refuses(&format!("it {LATE}; whoever runs the server"));
    server.folder.write("chain", &new);
    server.folder.write("key", &new_key);
    server.signal("HUP");
    server.logs(&format!("the certificate chain {EARLY}: "));
    refuses(&format!("it {EARLY}; see whether the clock"));
    // One that is in its time is nothing to warn of, and the server's own is.
    let warned = |server: &Server| server.log().matches("with --ca, refuse it").count();
    assert_eq!(warned(&server), 2, "{}", server.log());
    assert_eq!(warned(&start(&["fred"])), 0);
}

#[test]
fn why_an_authority_does_not_help_is_said_in_words() {
    let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    folder.write("chain", &params.self_signed(&key).unwrap().pem());
    folder.write("key", &key.serialize_pem());
    let server = Server::start_in(folder, &["--tls", "0", "--cert", "chain", "--key", "key"]);
    let another = start(&["fred"]);
    another.folder.write("other", &valid(2020, 2090).0);
    for (server, ca, words) in [
        (&server, "chain", "it is made for an authority, and a server must not use it; know the"),
        (&another, "other", "no certificate in the file of --ca vouches for it; give that of the"),
    ] {
        let port = tls_port(server).port();
        let output = run(ping(server, &format!("localhost:{port}")).args(["--ca", ca]));
        assert_eq!(output.status.code(), Some(76), "{output:?}");
        assert!(told(&output).contains(words), "{output:?}");
        assert!(told(&output).contains("--tls-fingerprint"), "{output:?}");
        // It may be anybody's browser that does not trust it.
        server.logs("no TLS with 127.0.0.1: received fatal alert");
        assert!(!server.log().contains("[security]"), "{}", server.log());
    }
}

#[test]
fn an_argument_goes_before_the_environment_and_an_empty_variable_is_none() {
    let server = start(&["fred"]);
    let (at, right) = server.tls.clone().unwrap();
    let at = at.to_string();
    let wrong = right.replace(&right[7..], &"0".repeat(64));
    let (pem, nobody) = ("spool/tls.pem", "no-such-file");
    let ended = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = ping(&server, &at);
        let output = run(command.args(arguments).envs(variables.iter().copied()));
        (output.status.code().unwrap(), told(&output))
    };
    for (arguments, variables, code) in [
        (&["--tls-fingerprint", &*right][..], &[("MMS_CA", nobody)][..], 0),
        (&["--ca", pem], &[("MMS_TLS_FINGERPRINT", &*wrong)], 0),
        (&["--ca", pem], &[("MMS_TLS_FINGERPRINT", "none at all")], 0),
        (&[], &[("MMS_TLS_FINGERPRINT", "none at all")], 64),
        (&["--tls-fingerprint", &right], &[("MMS_TLS_FINGERPRINT", &wrong)], 0),
        (&["--tls-fingerprint", &wrong], &[("MMS_CA", pem)], 76),
        (&[], &[("MMS_CA", pem)], 0),
        (&[], &[("MMS_CA", ""), ("MMS_TLS_FINGERPRINT", &right)], 0),
        (&[], &[("MMS_CA", pem), ("MMS_TLS_FINGERPRINT", "")], 0),
        (&["--tls"], &[("MMS_CA", ""), ("MMS_TLS_FINGERPRINT", "")], 0),
        (&[], &[("MMS_CA", pem), ("MMS_TLS_FINGERPRINT", &right)], 64),
        (&["--ca", pem, "--tls-fingerprint", &right], &[], 64),
        (&["--tls-fingerprint", ""], &[], 64),
        (&["--ca", ""], &[("MMS_TLS_FINGERPRINT", &right)], 64),
    ] {
        let (ended, text) = ended(arguments, variables);
        assert_eq!(ended, code, "{arguments:?} {variables:?} {text}");
        assert!(code != 64 || text.contains("--ca") || text.contains("fingerprint"), "{text}");
    }
}

#[test]
fn known_hosts_may_be_a_link_and_is_not_waited_for_without_end() {
    let server = start(&["fred"]);
    let (at, fingerprint) = server.tls.clone().unwrap();
    let at = at.to_string();
    let kept = "home/.local/share/mms";
    for folder in [kept, "dotfiles"] {
        fs::create_dir_all(server.folder.path(folder)).unwrap();
    }
    let known = server.folder.path(kept).join("known_hosts");
    std::os::unix::fs::symlink(server.folder.path("dotfiles/servers"), &known).unwrap();
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(told(&output).contains("link to a file that is not there"), "{output:?}");
    server.folder.write("dotfiles/servers", "# mine\n");
    let lock = fs::File::create(server.folder.path("dotfiles/servers.lock")).unwrap();
    lock.lock().unwrap();
    let output = run(ping(&server, &at).args(["--tls", "--timeout", "60"]));
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let why = "servers.lock: another program has had it locked for 10 s";
    assert!(told(&output).contains(why), "{output:?}");
    assert_eq!(server.folder.read("dotfiles/servers"), "# mine\n");
    drop(lock);
    assert!(run(ping(&server, &at).arg("--tls")).status.success());
    assert_eq!(server.folder.read("dotfiles/servers"), format!("# mine\n{at} {fingerprint}\n"));
    assert!(fs::symlink_metadata(&known).unwrap().is_symlink(), "the link stays");
}

#[test]
fn known_hosts_is_not_waited_for_longer_than_a_command_has_time() {
    let server = start(&["fred", "tim"]);
    let at = tls_port(&server).to_string();
    server.folder.write("password", PASSWORD);
    let kept = server.folder.path("home/.local/share/mms");
    fs::create_dir_all(&kept).unwrap();
    let lock = fs::File::create(kept.join("known_hosts.lock")).unwrap();
    lock.lock().unwrap();
    let commands = [&["ping"][..], &["send", "tim", "hi"], &["broadcast", "hi"], &["recv", "-n1"]];
    let children = commands.map(|arguments| {
        let mut command = mms(&server.folder);
        command.args(arguments).args(["--timeout", "5", "--tls", "--server", &at]);
        command.env("HOME", server.folder.path("home")).env("MMS_USER", "fred");
        command.env("MMS_PASSWORD_FILE", "password");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        let why = "known_hosts.lock: another program has had it locked until the time was up";
        assert!(told(&output).contains(why), "{output:?}");
    }
    assert!(!kept.join("known_hosts").exists(), "nobody was trusted");
}
