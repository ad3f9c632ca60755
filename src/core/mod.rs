//! The rules: pure and deterministic. Time, entropy and hash cost are arguments.

pub mod accounts;
pub mod deadlines;
pub mod event;
pub mod hints;
pub mod hub;
mod keys;
pub mod lockout;
pub mod mailbox;
pub mod password;
pub mod record;
pub mod session;
