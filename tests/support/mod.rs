//! What tests share: chance that can be repeated, a disk that can be crashed, the real server,
//! model clients, and a player of the sessions that PROTOCOL.md shows.
// Each test binary uses a part of it.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods)] // clocks and threads are what the world outside is made of

pub mod hostile;
pub mod joined;
pub mod letters;
pub mod model;
pub mod player;
pub mod port;
pub mod properties;
pub mod rng;
pub mod server;
pub mod sim_disk;
pub mod sim_world;
