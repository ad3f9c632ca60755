//! System calls that no crate in use wraps. All `unsafe` of the program is in this file.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes written to a TCP socket that its peer's kernel has not acknowledged (SIOCOUTQ, which
/// tcp(7) calls TIOCOUTQ). Our own FIN counts as one byte.
pub(super) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the borrow lives, and TIOCOUTQ writes one int to
    // the place it is given.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Raises the soft limit on open descriptors to the hard one and tells it.
///
/// # Errors
/// If the limit cannot be read.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: setrlimit reads the struct it is given.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } < 0 {
        return Ok(limit.rlim_cur);
    }
    Ok(raised.rlim_cur)
}

/// Keeps what is in memory to this process: passwords pass through it. No core is written when it
/// crashes, and nobody but root may look into it while it runs.
///
/// # Errors
/// If the system refuses either.
pub fn keep_memory_private() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit reads the struct it is given.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // A core that is piped to a program heeds no limit, but this.
    let nothing: libc::c_ulong = 0;
    // SAFETY: PR_SET_DUMPABLE takes numbers and touches no memory of ours.
    let outcome = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, nothing, nothing, nothing, nothing) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
