//! What a start would find and repair, found out without changing anything: the same recovery on a
//! disk that only pretends to write.

use super::disk::Disk;
use super::files::{Name, name_of};
use super::recovery::{Recovery, SpoolError, replay};
use std::io;

/// Takes every change for done and makes none.
struct Pretending<'a, D>(&'a mut D);

/// A file as the pretending disk knows it.
enum Pretended<F> {
    Real(F),
    /// It was never made.
    Made,
}

impl<D: Disk> Disk for Pretending<'_, D> {
    type File = Pretended<D::File>;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&mut self, _: &str) -> io::Result<Self::File> {
        Ok(Pretended::Made)
    }

    fn open(&mut self, name: &str) -> io::Result<Self::File> {
        self.0.open(name).map(Pretended::Real)
    }

    fn len(&mut self, file: &Self::File) -> io::Result<u64> {
        match file {
            Pretended::Real(file) => self.0.len(file),
            Pretended::Made => Ok(0),
        }
    }

    fn read_at(&mut self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match file {
            Pretended::Real(file) => self.0.read_at(file, offset, into),
            Pretended::Made => Ok(0),
        }
    }

    fn write_all_at(&mut self, _: &Self::File, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: &Self::File, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&mut self, _: &Self::File) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// How often a look is taken that a running server disturbs.
const LOOKS: u32 = 5;

/// What a start on this spool would find. [`Recovery::losses`] has only what earlier starts have
/// left untold, [`Recovery::quarantined`] names files that do not exist yet, and nothing is said of
/// repairs.
///
/// # Errors
/// If it cannot be read, or a later mms wrote it.
pub fn foresee<D: Disk>(disk: &mut D) -> Result<Recovery, SpoolError> {
    let mut left = LOOKS;
    loop {
        left -= 1;
        let before = segments(disk)?;
        match replay(&mut Pretending(disk), 0, &mut |_, _, _| {}) {
            // What a running server takes away it fills with zeros.
            Ok(found)
                if left > 0 && found.recovery.lost_places > 0 && segments(disk)? != before => {}
            Ok(found) => return Ok(Recovery { repairs: Vec::new(), ..found.recovery }),
            // A running server has dropped a segment meanwhile.
            Err(SpoolError::Io(e)) if left > 0 && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
}

fn segments<D: Disk>(disk: &mut D) -> io::Result<Vec<String>> {
    let mut files = disk.list()?;
    files.retain(|file| matches!(name_of(file), Name::Segment(_)));
    files.sort_unstable();
    Ok(files)
}
