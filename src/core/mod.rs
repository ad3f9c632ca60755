//! The rules: pure and deterministic. Time, entropy and hash cost are arguments.

pub mod record;
