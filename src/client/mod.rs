//! The client's side of a conversation. `link`, `model`, `screen` and `shown` are pure; `oneshot`,
//! `run`, `prompt`, `hidden`, `inbox` and `keys` reach for sockets, the terminal and files. Knows
//! nothing of the server but its protocol.

mod hidden;
pub mod inbox;
pub mod keys;
pub mod link;
pub mod model;
pub mod oneshot;
mod prompt;
pub mod run;
pub mod screen;
pub mod shown;
