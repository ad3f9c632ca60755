//! The client's side of a conversation. `link`, `model`, `marks`, `screen` and `shown` are pure;
//! `desk` and `inbox` reach for files by a [`Disk`](crate::store::disk::Disk) alone; `oneshot`,
//! `sender`, `stream`, `tls`, `run`, `prompt`, `hidden`, `keys` and `known` for sockets, the
//! terminal and files. Knows nothing of the server but its protocol.

pub mod desk;
mod hidden;
pub mod inbox;
pub mod keys;
pub mod known;
pub mod link;
mod marks;
pub mod model;
pub mod oneshot;
mod prompt;
pub mod run;
pub mod screen;
pub mod sender;
pub mod shown;
pub mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_absent.rs"]
mod tls;
pub mod trust;
