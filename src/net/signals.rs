//! Signals as events of the loop.

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use std::io;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGINT or SIGTERM.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals that the server listens to.
pub(super) struct Wishes(Signals);

impl Wishes {
    pub(super) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        registry.register(&mut signals, token, Interest::READABLE)?;
        Ok(Self(signals))
    }

    /// What has been asked for since the last call.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Wish> {
        self.0.pending().map(|signal| if signal == SIGHUP { Wish::Reload } else { Wish::Stop })
    }
}
