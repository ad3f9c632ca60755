//! In the place of the server's certificate, in a program that was built without TLS.

use super::{Code, Failure};
use crate::client::known::Fingerprint;
use crate::net::Certificate;
use crate::store::disk::FileDisk;
use std::path::Path;

/// See the module that this one stands for.
pub(super) const FILE: &str = "tls.pem";

/// The files of a certificate.
#[allow(dead_code)] // nobody reads them
pub(super) struct Source<'a> {
    pub(super) chain: &'a Path,
    pub(super) key: &'a Path,
}

pub(super) fn shown(certificate: &Certificate) -> Fingerprint {
    Fingerprint(certificate.fingerprint())
}

pub(super) fn warning(certificate: &Certificate, _file: &Path, _unix_ms: u64) -> Option<String> {
    certificate.validity().map(|_| String::new())
}

pub(super) fn is_possible() -> Result<(), Failure> {
    Err(absent())
}

pub(super) fn read(_source: &Source<'_>) -> Result<Certificate, Failure> {
    Err(absent())
}

pub(super) fn own(_disk: &mut FileDisk, _spool: &Path) -> Result<Certificate, Failure> {
    Err(absent())
}

fn absent() -> Failure {
    let message =
        "this mms was built without TLS; leave --tls out, or build it with the feature tls";
    Failure::new(Code::Usage, message)
}
