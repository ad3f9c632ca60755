//! Bytes to values and back. Knows no state, no time, no sockets; nom lives here.

pub mod command;
pub mod line;
pub mod name;
pub mod plain;
pub mod reply;
pub mod telnet;
pub mod text;
