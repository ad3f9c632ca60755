//! In the place of TLS, in a program that was built without it: a certificate cannot be had, and so
//! no connection ever has a session of TLS.

use super::validity::Validity;
use crate::scram::Binding;
use std::fmt;
use std::io::Read;

/// A certificate, of which there is none.
#[derive(Clone, Debug)]
pub enum Certificate {}

/// Why there is no certificate.
#[derive(Debug)]
pub struct CertificateFault;

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this mms was built without TLS")
    }
}

impl Certificate {
    /// None.
    ///
    /// # Errors
    /// Always.
    pub fn from_pem(_chain: &[u8], _key: &[u8]) -> Result<Self, CertificateFault> {
        Err(CertificateFault)
    }

    /// Of none.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        match *self {}
    }

    /// Of none.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        match *self {}
    }

    pub(super) fn session(&self) -> Box<Session> {
        match *self {}
    }
}

/// One connection's TLS, of which there is none.
pub(super) enum Session {}

/// How far a handshake has come; see the module that this one stands for.
#[allow(dead_code)] // nobody makes one
pub(super) enum Shaken {
    Waiting,
    Done(Binding),
    Gone,
    Disagreed(String),
    Failed(String),
}

/// What a read has brought; see the module that this one stands for.
#[allow(dead_code)] // nobody makes one
#[derive(PartialEq, Eq)]
pub(super) enum Brought {
    Some,
    All,
    Goodbye,
    Broken,
}

impl Session {
    pub(super) fn shake(&mut self, _socket: &mut impl Read) -> Shaken {
        match *self {}
    }

    pub(super) fn read(&mut self, _socket: &mut impl Read, _buffer: &mut [u8]) -> (usize, Brought) {
        match *self {}
    }

    pub(super) fn seal(&mut self, _text: &mut Vec<u8>) -> bool {
        match *self {}
    }

    pub(super) fn say_goodbye(&mut self) {
        match *self {}
    }

    pub(super) fn sealed(&self) -> &[u8] {
        match *self {}
    }

    pub(super) fn sent(&mut self, _count: usize) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn weight(&self) -> usize {
        match *self {}
    }

    pub(super) fn forget(&mut self) -> Vec<u8> {
        match *self {}
    }
}
