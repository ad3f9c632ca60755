//! What tests share: chance that can be repeated, a disk that can be crashed, and a player of the
//! sessions that PROTOCOL.md shows.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses a part of it

pub mod player;
pub mod rng;
pub mod sim_disk;
