//! In the place of TLS at the client's end, in a program that was built without it.

use super::oneshot::Trouble;
use super::trust::{Distrust, Route, Trust};
use crate::scram::Binding;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

/// One connection's TLS, of which there is none.
pub(super) enum Session {}

impl Session {
    pub(super) fn begin(
        _route: &Route,
        _trust: &Trust,
        _socket: &TcpStream,
        _left: &dyn Fn() -> Duration,
    ) -> Result<(Self, Binding), Trouble> {
        Err(Trouble::Tls(Distrust::Absent))
    }

    pub(super) fn feed(&mut self, _sealed: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn open(&mut self, _text: &mut [u8]) -> Option<usize> {
        match *self {}
    }

    pub(super) fn seal(&mut self, _text: &[u8]) -> io::Result<Vec<u8>> {
        match *self {}
    }

    pub(super) fn goodbye(&mut self) -> Vec<u8> {
        match *self {}
    }
}
