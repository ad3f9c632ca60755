//! MMS, a messaging server.

pub mod cli;
pub mod core;
pub mod engine;
pub mod limits;
pub mod logging;
pub mod net;
pub mod proto;
pub mod store;
pub mod time;
