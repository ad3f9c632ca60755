//! The properties that the tests try, for the programs that look for bytes which break them.
#![allow(dead_code, missing_docs, unreachable_pub)]

#[path = "../../tests/support/port.rs"]
mod port;
#[path = "../../tests/support/properties/mod.rs"]
pub mod properties;
#[path = "../../tests/support/rng.rs"]
mod rng;
#[path = "../../tests/support/sim_disk.rs"]
mod sim_disk;
