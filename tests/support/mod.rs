//! What tests share: chance that can be repeated, and a disk that can be crashed.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses a part of it

pub mod rng;
pub mod sim_disk;
