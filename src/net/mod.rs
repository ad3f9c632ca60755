//! The shell around the rules: waits, reads the clocks, owns the sockets. mio and slab live here;
//! the file system does not.

mod clock;
mod guard;
mod listen;
mod network;
mod pool;
mod ports;
mod saves;
mod server;
mod signals;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_absent.rs"]
mod tls;
mod validity;

pub use crate::sys::{keep_memory_private, raise_descriptor_limit};
pub use clock::Clock;
pub use listen::{listen, would_listen};
pub use mio::net::TcpListener as Listener;
pub use network::{Network, NotANetwork};
pub use server::{Inspect, Outside, Reload, Renew, Save, Server, Settings};
#[cfg(feature = "tls")]
pub use tls::{Brought, Session, Shaken};
pub use tls::{Certificate, CertificateFault};
pub use validity::{Standing, Validity};
