//! MMS, a messaging server.

pub mod cli;
pub mod core;
pub mod limits;
pub mod proto;
pub mod store;
pub mod time;
