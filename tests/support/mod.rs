//! What tests share: chance that can be repeated, a disk that can be crashed, the real server, and
//! a player of the sessions that PROTOCOL.md shows.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses a part of it
#![allow(clippy::disallowed_methods)] // clocks and threads are what the world outside is made of

pub mod player;
pub mod rng;
pub mod server;
pub mod sim_disk;
