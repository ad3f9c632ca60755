//! Bytes to values and back. Knows no state, no time, no sockets; nom lives here.

pub mod name;
