//! What the hot paths of the rules cost, as figures to look at: nothing here can fail. Run with
//! `cargo test --release --test cost -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::disallowed_methods)] // it is about time

use mms::core::accounts::Accounts;
use mms::core::password::{Check, Guise, Verifier};
use mms::proto::name::{NameKey, UserName};
use std::hint::black_box;
use std::time::Instant;

fn nobody(rounds: u32) -> Verifier {
    let key = NameKey::of("nobody").unwrap();
    Verifier::decoy(&key, &[0; 32], Guise { rounds, ..Guise::NEW })
}

#[test]
#[ignore = "a measurement"]
fn a_round_of_pbkdf2() {
    let rounds = 6_000_000;
    let mut check = Check::new(b"pencil", &nobody(rounds));
    let start = Instant::now();
    black_box(check.step(rounds));
    println!("{:.1} ns a round", start.elapsed().as_nanos() as f64 / f64::from(rounds));
}

#[test]
#[ignore = "a measurement"]
fn finding_one_of_a_thousand_users() {
    let names: Vec<_> = (0..1000).map(|n| format!("User-{n:04}")).collect();
    let entry = |name: &String| (UserName::new(name).unwrap(), nobody(4096));
    let accounts = Accounts::new(names.iter().map(entry).collect());
    let start = Instant::now();
    for _ in 0..10_000 {
        for name in &names {
            assert!(accounts.find(black_box(name)).is_some());
        }
    }
    println!("{} ns a user", start.elapsed().as_nanos() / 10_000_000);
}
