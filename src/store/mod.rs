//! What touches the file system: the spool behind the [`disk::Disk`] seam, and the password file.
