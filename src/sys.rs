//! System calls that no crate in use wraps. All `unsafe` of the program is in this file. A leaf: it
//! knows nothing of who calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null;

/// Bytes written to a TCP socket that its peer's kernel has not acknowledged (SIOCOUTQ, which
/// tcp(7) calls TIOCOUTQ). Our own FIN counts as one byte.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
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

/// A sync that the kernel does while its caller goes on: `IOCB_CMD_FDSYNC` of io_submit(2), one at
/// a time. It is what fdatasync(2) does, in a worker of the kernel; the process has no second
/// thread by it.
#[derive(Debug)]
pub(crate) struct BackgroundSync {
    context: libc::c_ulong,
    /// An eventfd(2) that counts the syncs that are over.
    bell: OwnedFd,
}

/// `struct iocb` of linux/aio_abi.h. Its halves that change places with the byte order are zero.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key_and_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    file: u32,
    buffer_bytes_offset: [u64; 3],
    reserved: u64,
    flags: u32,
    bell: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

/// `struct io_event` of the same.
#[repr(C)]
#[derive(Default)]
struct Outcome {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

const IOCB_CMD_FDSYNC: u16 = 3;
const IOCB_FLAG_RESFD: u32 = 1;

impl BackgroundSync {
    /// # Errors
    /// If the system has no such thing, or gives none away any more (`fs.aio-max-nr`).
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes numbers and touches no memory of ours.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        let bell = unsafe { OwnedFd::from_raw_fd(bell) };
        let mut context: libc::c_ulong = 0;
        let one: libc::c_ulong = 1;
        // SAFETY: io_setup writes the context's number, which is as long as a pointer, to the place
        // it is given.
        if unsafe { libc::syscall(libc::SYS_io_setup, one, &raw mut context) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { context, bell })
    }

    /// Becomes readable each time a sync is over. Nobody has to read it: an edge is enough.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Begins to sync what was written to the file by now.
    ///
    /// # Errors
    /// If it cannot be begun: nothing was synced, and nothing is lost by that.
    pub(crate) fn begin(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
        let request = Request {
            opcode: IOCB_CMD_FDSYNC,
            file: number(file),
            flags: IOCB_FLAG_RESFD,
            bell: number(self.bell.as_fd()),
            ..Request::default()
        };
        let requests = [&raw const request];
        let one: libc::c_long = 1;
        // SAFETY: io_submit reads one pointer and the request behind it, and keeps neither; the
        // kernel holds the file for itself.
        let begun =
            unsafe { libc::syscall(libc::SYS_io_submit, self.context, one, requests.as_ptr()) };
        if begun == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether the sync that was begun is over.
    ///
    /// # Errors
    /// If it failed, or the system does not tell.
    pub(crate) fn is_over(&mut self) -> io::Result<bool> {
        self.end(0, &libc::timespec { tv_sec: 0, tv_nsec: 0 })
    }

    /// Waits until the sync that was begun is over.
    ///
    /// # Errors
    /// If it failed, or the system does not tell.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.end(1, null()).map(|_| ())
    }

    /// Takes the outcome, if so many are there within that time.
    fn end(&mut self, least: libc::c_long, time: *const libc::timespec) -> io::Result<bool> {
        let mut outcome = Outcome::default();
        let most: libc::c_long = 1;
        loop {
            // SAFETY: io_getevents writes at most one event to the place it is given, and reads the
            // time, if there is one.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    least,
                    most,
                    &raw mut outcome,
                    time,
                )
            };
            match count {
                0 => return Ok(false),
                1.. => return result_of(outcome.result).map(|()| true),
                _ => {}
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }
}

/// What the kernel says of a sync: zero, or the number of an error below it.
fn result_of(result: i64) -> io::Result<()> {
    match result.checked_neg().and_then(|code| i32::try_from(code).ok()) {
        Some(0) => Ok(()),
        Some(code @ 1..) => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::other(format!("a sync ended with {result}"))),
    }
}

impl Drop for BackgroundSync {
    fn drop(&mut self) {
        // SAFETY: io_destroy takes a number. It waits for what is under way, which has no memory
        // of ours.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    /// None where the system has none to give.
    fn background() -> Option<BackgroundSync> {
        BackgroundSync::new().map_err(|e| println!("SKIP background sync: {e}")).ok()
    }

    #[test]
    fn a_sync_rings_when_it_is_over() {
        let Some(mut background) = background() else { return };
        let path = std::env::temp_dir().join(format!("mms-sys-{}", std::process::id()));
        let mut file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!background.is_over().unwrap(), "none was begun");
        for round in 1..=3 {
            file.write_all(b"to be durable").unwrap();
            background.begin(file.as_fd()).unwrap();
            if round == 2 {
                while !background.is_over().unwrap() {}
            } else {
                background.wait().unwrap();
            }
            assert!(!background.is_over().unwrap(), "it is told once");
        }
        let mut rung = [0; 8];
        File::from(background.bell.try_clone().unwrap()).read_exact(&mut rung).unwrap();
        assert_eq!(u64::from_ne_bytes(rung), 3);
    }

    #[test]
    fn what_cannot_be_synced_is_refused_at_once_and_nothing_is_under_way() {
        let Some(mut background) = background() else { return };
        let (_reader, writer) = io::pipe().unwrap();
        assert!(background.begin(writer.as_fd()).is_err());
        assert!(!background.is_over().unwrap());
    }

    #[test]
    fn a_result_below_zero_is_an_error_of_the_system() {
        assert!(result_of(0).is_ok());
        assert_eq!(result_of(-5).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(result_of(i64::MIN + 1).is_err() && result_of(7).is_err());
    }
}
