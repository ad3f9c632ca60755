//! Parse, run, one line on error, exit code.
fn main() {}
