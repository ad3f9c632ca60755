//! The server's certificate: read from the files that the operator names, or made at the first
//! start and kept in the spool, certificate and key in one file, so that they always fit.

use super::{Code, Failure};
use crate::client::known::Fingerprint;
use crate::limits::CERTIFICATE_FILE_BYTES;
use crate::net::{Certificate, Standing};
use crate::store::disk::{Disk as _, FileDisk};
use crate::time::Moment;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The file in the spool that has the certificate that was made here, and its key.
pub(super) const FILE: &str = "tls.pem";
/// The same while it is being made.
const HALF_MADE: &str = "tls.pem.tmp";
/// Whoever else may read the key, or change it, may be this server.
const LOOSE: u32 = 0o027;

/// The files of a certificate, which may be one.
pub(super) struct Source<'a> {
    pub(super) chain: &'a Path,
    pub(super) key: &'a Path,
}

/// How the certificate is told: what clients compare.
pub(super) fn shown(certificate: &Certificate) -> Fingerprint {
    Fingerprint(certificate.fingerprint())
}

/// What its operator should know of a certificate that clock and calendar speak against.
pub(super) fn warning(certificate: &Certificate, file: &Path, unix_ms: u64) -> Option<String> {
    let file = file.display();
    let advice = "clients that look at it, such as those with --ca, refuse it; those that know its \
                  fingerprint do not";
    match certificate.validity()?.standing(Moment::of_unix(unix_ms / 1000)) {
        Standing::Valid => None,
        Standing::Expired(to) => Some(format!(
            "the certificate {file} has expired, on {to}: {advice}. Put a new one there, with its \
             key, and send SIGHUP"
        )),
        Standing::NotYet(from) => Some(format!(
            "the certificate {file} is not valid before {from}: {advice}. See whether the clock of \
             this machine is right, or put another one there, with its key, and send SIGHUP"
        )),
    }
}

/// This program has TLS.
#[allow(clippy::unnecessary_wraps)] // one without it has the same function
pub(super) fn is_possible() -> Result<(), Failure> {
    Ok(())
}

/// Reads a certificate and its key.
pub(super) fn read(source: &Source<'_>) -> Result<Certificate, Failure> {
    let (chain, key) = (source.chain.display(), source.key.display());
    let mode = regular(source.key).map_err(|e| unread(source.key, &e))?.permissions().mode();
    if mode & LOOSE != 0 {
        let message = format!(
            "the private key {key} can be read or changed by others; run: chmod 640 {key}, then \
             make a new one if they may have"
        );
        return Err(Failure::new(Code::Config, message));
    }
    let chain_text = regular(source.chain).and_then(|_| fs::read(source.chain));
    let chain_text = chain_text.map_err(|e| unread(source.chain, &e))?;
    let mut key_text = fs::read(source.key).map_err(|e| unread(source.key, &e))?;
    let made = Certificate::from_pem(&chain_text, &key_text);
    crate::crypto::wipe(&mut key_text);
    made.map_err(|fault| {
        use crate::net::CertificateFault as Fault;
        let message = match fault {
            Fault::NoCertificate => format!("{chain}: {fault}"),
            Fault::NoKey => format!("{key}: {fault}"),
            Fault::Unusable(_) => format!("{chain}, {key}: {fault}"),
        };
        Failure::new(Code::Config, message)
    })
}

/// What is known of a file that can be read without waiting, and is not too long to be one of ours:
/// a server that runs reads it between two turns.
fn regular(path: &Path) -> io::Result<Metadata> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    if found.len() > CERTIFICATE_FILE_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidInput, "that is too long for a certificate"));
    }
    Ok(found)
}

fn unread(path: &Path, e: &io::Error) -> Failure {
    let path = path.display();
    Failure::new(Code::NoInput, format!("cannot read {path}: {e}; --cert and --key name PEM files"))
}

/// The certificate of this spool, which is made if there is none.
pub(super) fn own(disk: &mut FileDisk, spool: &Path) -> Result<Certificate, Failure> {
    let path = spool.join(FILE);
    match fs::metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => make(disk).map_err(|e| {
            let message = format!(
                "cannot make a certificate in the spool: {e}; mend that, or name one by --cert and \
                 --key"
            );
            Failure::new(Code::CannotCreate, message)
        })?,
        _ => {}
    }
    read(&Source { chain: &path, key: &path })
}

/// Makes a certificate that vouches for itself, durably and as a whole.
fn make(disk: &mut FileDisk) -> io::Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "MMS");
    let made = params.self_signed(&key).map_err(io::Error::other)?;
    let mut text = (made.pem() + &key.serialize_pem()).into_bytes();
    match disk.remove(HALF_MADE) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = disk.create(HALF_MADE)?;
    let written = disk.write_all_at(&file, 0, &text).and_then(|()| disk.sync_data(&file));
    crate::crypto::wipe(&mut text);
    written?;
    disk.rename(HALF_MADE, FILE)?;
    disk.sync_dir()
}
