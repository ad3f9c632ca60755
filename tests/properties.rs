//! What must hold of any bytes, tried with bytes that are made up here and with those that fuzzing
//! found worth keeping, in `fuzz/corpus`. Longer runs are those of `scripts/fuzz`.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::{Path, PathBuf};
use support::properties::{ALL, Property};

/// Cases of each property, unless `MMS_RUNS` says otherwise.
const CASES: u32 = 500;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files = files.map(|file| file.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn cases() -> u32 {
    std::env::var("MMS_RUNS").map_or(CASES, |runs| runs.parse().expect("MMS_RUNS is a number"))
}

/// Bytes that are not all refused at once: what the corpus has, with pieces of it put elsewhere,
/// and what the wire is made of between them.
fn bytes(of: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 14] = [
        b"\r\n",
        b"\n",
        b"\r\0",
        b" ",
        b"{3}",
        b"{0}\r\n",
        b"\xff\xfd\x06",
        b"\xff\xfa",
        b"@a ",
        b"send ",
        b"signin fred fred1\r\n",
        b"coded 1\r\n",
        b"=k ",
        "\u{202e}\u{1b}ż".as_bytes(),
    ];
    let words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).into();
    let whole = prop::sample::select(of.clone());
    let part =
        (prop::sample::select(of), any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(from, a, b)| {
                let (a, b) = (a.index(from.len() + 1), b.index(from.len() + 1));
                from[a.min(b)..a.max(b)].to_vec()
            });
    let noise = prop::collection::vec(any::<u8>(), 0..8);
    let piece = prop_oneof![
        3 => prop::sample::select(words),
        2 => noise,
        3 => part,
    ];
    let pieces = (whole, any::<prop::sample::Index>(), prop::collection::vec(piece, 0..8));
    pieces.prop_map(|(mut bytes, at, pieces)| {
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..at, pieces.concat());
        bytes
    })
}

fn hold((name, try_out): Property) {
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "fuzz/corpus/{name} is empty");
    for (path, seed) in &seeds {
        println!("{}", path.display());
        try_out(seed);
    }
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let made = bytes(seeds.into_iter().map(|(_, seed)| seed).collect());
    let run = TestRunner::new(config).run(&made, |bytes| {
        try_out(&bytes);
        Ok(())
    });
    run.unwrap_or_else(|fault| panic!("{name}: {fault}"));
}

fn property(name: &str) {
    hold(*ALL.iter().find(|(other, _)| *other == name).expect("there is such a property"));
}

macro_rules! hold_for_any_bytes {
    ($($(#[$when:meta])? $name:ident)*) => {
        $(
            $(#[$when])?
            #[test]
            fn $name() {
                property(stringify!($name));
            }
        )*

        #[test]
        fn none_is_left_out() {
            let all: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(all, [$($(#[$when])? stringify!($name)),*]);
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
            for name in all {
                let target = root.join(format!("fuzz/fuzz_targets/{name}.rs"));
                let text = std::fs::read_to_string(target).unwrap();
                assert!(text.contains(&format!("properties::{name}::try_out(data)")), "{text}");
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

hold_for_any_bytes!(
    lines commands coded telnet records users scram stream session
    #[cfg(feature = "tls")] tls
);

#[test]
fn the_corpus_is_kept_small() {
    let sizes = ALL.iter().flat_map(|(name, _)| corpus(name)).map(|(_, seed)| seed.len());
    let bytes: usize = sizes.sum();
    assert!(bytes < 200 << 10, "{bytes} bytes");
}
