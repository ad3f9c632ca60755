//! Bytes to values and back. Knows no state, no time, no sockets; nom lives here.

pub mod coded;
pub mod coded_client;
pub mod command;
pub mod foreign;
pub mod id;
mod letter_line;
pub mod line;
pub mod name;
pub mod password;
pub mod plain;
pub mod receipt;
pub mod reply;
pub mod telnet;
pub mod text;
