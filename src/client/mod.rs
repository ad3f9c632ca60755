//! The client's side of a conversation. `link` is pure: bytes in, events and bytes out; `oneshot`
//! and `keys` reach for sockets and files. Knows nothing of the server but its protocol.

pub mod inbox;
pub mod keys;
pub mod link;
pub mod oneshot;
pub mod screen;
pub mod shown;
