//! The rules: pure and deterministic. Time, entropy and hash cost are arguments.

pub mod accounts;
pub mod lockout;
pub mod password;
pub mod record;
