//! What touches the file system: the spool behind the [`disk::Disk`] seam, and the password file.

pub mod custody;
pub mod disk;
pub mod files;
pub mod foresight;
pub mod ledger;
pub mod losses;
pub mod pen;
pub mod ready;
pub mod record;
pub mod recovery;
pub mod spool;
pub mod survey;
pub mod users;
