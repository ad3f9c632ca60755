//! Passwords typed between two lines of the prompt, at the prompt's own editor. It holds what was
//! typed ahead: read elsewhere, those lines would come to light at the next prompt, and be sent.
//! However it ends, with Enter, Ctrl-C or Ctrl-D, the terminal is as before.

use super::link::Password;
use super::prompt::Hints;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{ColorMode, Editor};
use std::collections::VecDeque;
use std::io;

/// An editor that shows nothing of what is typed. When this is dropped all is as it was before.
pub(super) struct Hidden<'a> {
    editor: &'a mut Editor<Hints, MemHistory>,
    /// Lines that were pasted together with an earlier one.
    ahead: VecDeque<Password>,
    colours: ColorMode,
    before: Termios,
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Some(hints) = self.editor.helper_mut() {
            hints.secret = false;
        }
        self.editor.set_color_mode(self.colours);
        // The terminal may be gone.
        _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

impl<'a> Hidden<'a> {
    /// From now on nothing is shown, between two questions neither. `ahead`: lines that answer the
    /// first questions.
    pub(super) fn begin(
        editor: &'a mut Editor<Hints, MemHistory>,
        ahead: &str,
    ) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        // The editor finds the terminal so and leaves it so; Ctrl-C between two lines is no signal.
        hidden.local_flags &= !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &hidden)?;
        let colours = editor.config_mut().color_mode();
        // Only where there are colours does the editor ask how the line is to be drawn.
        editor.set_color_mode(ColorMode::Forced);
        if let Some(hints) = editor.helper_mut() {
            hints.secret = true;
        }
        Ok(Self { editor, ahead: ahead.lines().map(kept).collect(), colours, before })
    }

    /// Asks for a password. `None`: whoever was asked wants to leave it at that.
    pub(super) fn ask(&mut self, prompt: &str) -> io::Result<Option<Password>> {
        if let Some(password) = self.ahead.pop_front() {
            return Ok(Some(password));
        }
        loop {
            return match self.editor.readline(prompt) {
                Ok(typed) => {
                    // What was pasted may have several lines, and a line end behind them.
                    let mut lines = typed.lines().map(kept);
                    let first = lines.next().unwrap_or_else(|| kept(""));
                    self.ahead.extend(lines);
                    Ok(Some(first))
                }
                Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(None),
                Err(ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Io(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            };
        }
    }
}

fn kept(line: &str) -> Password {
    Password(line.as_bytes().to_vec())
}
