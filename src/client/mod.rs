//! The client's side of a conversation. `link`, `model`, `marks`, `screen` and `shown` are pure;
//! `desk` and `inbox` reach for files by a [`Disk`](crate::store::disk::Disk) alone; `oneshot`,
//! `sender`, `run`, `prompt`, `hidden` and `keys` for sockets, the terminal and files. Knows
//! nothing of the server but its protocol.

pub mod desk;
mod hidden;
pub mod inbox;
pub mod keys;
pub mod link;
mod marks;
pub mod model;
pub mod oneshot;
mod prompt;
pub mod run;
pub mod screen;
pub mod sender;
pub mod shown;
