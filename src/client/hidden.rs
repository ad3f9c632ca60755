//! Lines typed at a terminal that does not show them, between two lines of the prompt. However they
//! end, with Enter, Ctrl-C or Ctrl-D, the terminal is as before: Ctrl-C is a key here, no signal.

use super::link::Password;
use crate::limits::PASSWORD_BYTES;
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

/// The byte of Ctrl-C.
const INTERRUPT: u8 = 3;

/// A terminal that does not show what is typed. When this is dropped it is as it was before.
pub(super) struct Hidden {
    before: Termios,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone.
        _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

impl Hidden {
    /// From now on nothing is shown, between two questions neither.
    pub(super) fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags &= !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG);
        hidden.local_flags |= LocalFlags::ICANON;
        // Ends the line as Enter does.
        hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
        tcsetattr(io::stdin(), SetArg::TCSANOW, &hidden)?;
        Ok(Self { before })
    }

    /// Asks for a password. `None`: whoever was asked wants to leave it at that.
    pub(super) fn ask(&self, prompt: &str) -> io::Result<Option<Password>> {
        let mut out = io::stdout();
        out.write_all(prompt.as_bytes())?;
        out.flush()?;
        // Not through the buffer of stdin: what stands behind the line is for others.
        let typed = read(&mut File::from(io::stdin().as_fd().try_clone_to_owned()?));
        out.write_all(b"\n")?;
        typed
    }
}

/// A line without its end.
fn read(terminal: &mut File) -> io::Result<Option<Password>> {
    // Enough to notice that it is too long, without moving it as it grows.
    let mut line = Password(Vec::with_capacity(PASSWORD_BYTES + 1));
    loop {
        let mut byte = [0];
        match terminal.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == [INTERRUPT] => return Ok(None),
            Ok(_) if byte == *b"\n" => return Ok(Some(line)),
            Ok(_) if line.0.len() <= PASSWORD_BYTES => line.0.push(byte[0]),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
