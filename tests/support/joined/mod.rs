//! The real companion joined to the real engine: desks of clients on one side, ports of the server
//! on the other, and between them a network that cuts, delays and loses. All disks are simulated,
//! the clock is virtual, and nothing waits.
//!
//! `world` is the server, the network and what goes wrong; `client` a companion, its machine and
//! its person; `ledger` what was typed and what became of it, with the words lost, doubled,
//! unexpected and reordered.

mod client;
mod ledger;
mod people;
mod world;

pub use client::{Client, Start};
pub use ledger::{Ledger, Message, Shown};
pub use world::{DEVICES, Loss, USERS, World};
