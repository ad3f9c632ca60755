//! What a person sees and types at: the prompt of a terminal, and the paper that lines are shown
//! on. While somebody types, a line goes to the prompt, which puts it above what is being typed;
//! before and after that, and without a prompt, it goes straight out.

use super::hidden::Hidden;
use super::link::Password;
use super::model::QUEUE_MOST;
use super::run::{News, Wire};
use super::screen::{self, Line, Look, Tone};
use crate::proto::command::{self, Command};
use crate::proto::password::acceptable_bytes;
use crate::proto::reply::{Refusal, Reply};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use signal_hook::consts::{SIGHUP, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Narrower terminals are told so.
const COLUMNS_LEAST: u16 = 30;
/// Bytes handed to the prompt at a time.
const BATCH_BYTES: usize = 8 << 10;
/// Lines of a pipe on their way; the rest waits in the pipe.
pub(super) const PIPE_LINES: usize = QUEUE_MOST / 4;

/// Starts a thread.
#[allow(clippy::disallowed_methods)] // a client waits for its server and its person at once
pub(super) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(run)
}

/// What is behind a lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has said so; what is behind the lock are plain values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads lines without a prompt, up to the last one.
pub(super) fn plain_lines(wire: &Sender<Wire>, slots: &SyncSender<()>, person: bool) {
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock();
    loop {
        bytes.clear();
        // Longer ones are refused as too long, in pieces.
        let most = 2 * crate::limits::COUNTED_BYTES as u64;
        let read = (&mut input).take(most).read_until(b'\n', &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim_end_matches(['\n', '\r']);
        let ends = matches!(read, Ok(0) | Err(_)) || is_sign_out(line);
        if ends || (!person && slots.send(()).is_err()) {
            // The driver may have ended by itself.
            _ = wire.send(Wire::Leave);
            return;
        }
        if wire.send(Wire::Typed(line.into())).is_err() {
            return;
        }
    }
}

fn is_sign_out(line: &str) -> bool {
    matches!(command::parse(line.as_bytes()), Ok(Command::SignOut))
}

/// The first of several lines that were pasted together, and the others.
fn pasted(line: &str) -> (&str, &str) {
    line.split_once('\n').unwrap_or((line, ""))
}

fn is_passwd(line: &str) -> bool {
    matches!(command::parse(pasted(line).0.as_bytes()), Ok(Command::Passwd(_)))
}

/// The passwords of the line, or those that are asked for; or why there are none.
fn passwords(
    line: &str,
    editor: &mut Editor<Hints, MemHistory>,
) -> Result<(Password, Password), String> {
    let (head, ahead) = pasted(line);
    if let Ok(Command::Passwd(Some((current, new)))) = command::parse(head.as_bytes()) {
        let kept = |word: &str| Password(word.as_bytes().to_vec());
        return Ok((kept(current), kept(new)));
    }
    let failed = |error| format!("no password: {error}");
    let mut hidden = Hidden::begin(editor, ahead).map_err(failed)?;
    let mut ask = |prompt| hidden.ask(prompt).map_err(failed);
    let kept = || screen::words(&Reply::PasswordKept);
    let refused = |refusal| screen::words(&Reply::Refused(refusal));
    let current = ask("Current password: ")?.filter(|it| !it.0.is_empty()).ok_or_else(kept)?;
    let new = ask("New password: ")?.ok_or_else(kept)?;
    acceptable_bytes(&new.0).map_err(|fault| refused(Refusal::BadPassword(fault)))?;
    let again = ask("New password again: ")?.ok_or_else(kept)?;
    if new.0 == again.0 { Ok((current, new)) } else { Err(refused(Refusal::PasswordsDiffer)) }
}

/// What is shown and was not shown yet.
pub(super) struct Paper {
    pub(super) state: Mutex<Sheet>,
    turn: Condvar,
    wire: Sender<Wire>,
}

#[derive(Default)]
pub(super) struct Sheet {
    queue: VecDeque<(String, Option<u64>)>,
    /// Given to the prompt; it was shown once the prompt has drawn itself again.
    handed: Option<(String, Option<u64>)>,
    /// The prompt is being typed at.
    at_prompt: bool,
    /// There is a prompt.
    pub(super) prompted: bool,
    /// The number of the last letter that was shown.
    pub(super) shown: u64,
    /// Nobody reads stdout any more.
    pub(super) deaf: bool,
}

impl Paper {
    pub(super) fn new(wire: Sender<Wire>) -> Self {
        Self { state: Mutex::default(), turn: Condvar::new(), wire }
    }

    /// Shows a line, now or soon.
    pub(super) fn put(&self, text: String, number: Option<u64>) {
        let mut sheet = lock(&self.state);
        sheet.queue.push_back((text, number));
        if sheet.prompted {
            self.turn.notify_all();
        } else {
            sheet.write_all();
        }
    }

    /// The prompt has drawn itself: whatever it was given stands above it.
    fn drawn(&self) {
        let mut sheet = lock(&self.state);
        sheet.at_prompt = true;
        if let Some((_, number)) = sheet.handed.take() {
            sheet.shown = sheet.shown.max(number.unwrap_or_default());
            // The driver may have ended.
            _ = self.wire.send(Wire::Read);
        }
        self.turn.notify_all();
    }

    /// The prompt begins or rests.
    fn prompt(&self, at_prompt: bool) {
        let mut sheet = lock(&self.state);
        sheet.prompted = true;
        sheet.at_prompt &= at_prompt;
    }

    /// There is no prompt any more: all goes straight out.
    pub(super) fn let_go(&self) {
        let mut sheet = lock(&self.state);
        (sheet.prompted, sheet.at_prompt) = (false, false);
        if let Some(handed) = sheet.handed.take() {
            sheet.queue.push_front(handed);
        }
        sheet.write_all();
        // The driver may have ended.
        _ = self.wire.send(Wire::Read);
    }

    /// Hands to the prompt whatever there is, for good.
    fn print(&self, mut printer: impl ExternalPrinter) {
        loop {
            let mut sheet = lock(&self.state);
            while !sheet.at_prompt || sheet.handed.is_some() || sheet.queue.is_empty() {
                sheet = self.turn.wait(sheet).unwrap_or_else(PoisonError::into_inner);
            }
            let (mut text, mut last) = (String::new(), None);
            while text.len() < BATCH_BYTES
                && let Some((line, number)) = sheet.queue.pop_front()
            {
                text.push_str(&line);
                last = last.max(number);
            }
            sheet.handed = Some((text.clone(), last));
            drop(sheet);
            if printer.print(text).is_err() {
                // It stays with the paper, which shows it when the prompt ends.
                return;
            }
        }
    }
}

impl Sheet {
    fn write_all(&mut self) {
        let mut out = io::stdout().lock();
        while let Some((text, number)) = self.queue.pop_front() {
            self.deaf |= out.write_all(text.as_bytes()).is_err();
            if !self.deaf {
                self.shown = self.shown.max(number.unwrap_or_default());
            }
        }
        self.deaf |= out.flush().is_err();
    }
}

/// The prompt and what it knows.
pub(super) struct Prompt {
    editor: Editor<Hints, MemHistory>,
    sign: Sign,
}

impl Prompt {
    /// `None` where a terminal cannot do it.
    pub(super) fn new(
        paper: &Arc<Paper>,
        names: &Arc<Mutex<Vec<String>>>,
        look: Look,
    ) -> Option<Self> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .color_mode(if look.colour { ColorMode::Enabled } else { ColorMode::Disabled })
            .auto_add_history(false)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).ok()?;
        let printer = editor.create_external_printer().ok()?;
        restore_at_signals();
        if let Some((columns, _)) = editor.dimensions()
            && columns < COLUMNS_LEAST
        {
            let words = format!("this terminal is narrow, {columns} columns; long lines will wrap");
            paper.put(look.paint(&Line::new(Tone::Trouble, words)), None);
        }
        let typed = RefCell::default();
        editor.set_helper(Some(Hints { names: Arc::clone(names), typed, secret: false }));
        let shared = Arc::clone(paper);
        // Ends with the process: it may wait for a prompt that never comes.
        drop(spawn(move || shared.print(printer)));
        Some(Self { editor, sign: Sign(Arc::clone(paper)) })
    }

    /// Reads lines; true if the person wants to leave.
    pub(super) fn lines(
        &mut self,
        wire: &Sender<Wire>,
        paper: &Paper,
        told: &Receiver<News>,
    ) -> bool {
        let mut asked = false;
        loop {
            if let Some(hints) = self.editor.helper() {
                hints.typed.borrow_mut().clear();
            }
            paper.prompt(true);
            let read = self.editor.readline(&self.sign);
            paper.prompt(false);
            if told.try_iter().any(|news| matches!(news, News::Ended)) {
                return false;
            }
            match read {
                Ok(line) if asked && line.trim().eq_ignore_ascii_case("y") => return true,
                Ok(line) if is_sign_out(&line) => return true,
                Ok(line) if is_passwd(&line) => {
                    asked = false;
                    let sent = match passwords(&line, &mut self.editor) {
                        Ok((current, new)) => wire.send(Wire::Passwd(current, new)),
                        Err(words) => {
                            paper.put(format!("{words}\n"), None);
                            Ok(())
                        }
                    };
                    if sent.is_err() {
                        return false;
                    }
                }
                Ok(line) => {
                    asked = false;
                    // It may be full of memory only; then the line counts all the same.
                    _ = self.editor.add_history_entry(&*line);
                    if wire.send(Wire::Typed(line)).is_err() {
                        return false;
                    }
                }
                Err(ReadlineError::Interrupted) => {
                    let hints = self.editor.helper();
                    let empty = hints.is_none_or(|hints| hints.typed.borrow().is_empty());
                    if empty && asked {
                        return true;
                    }
                    asked = empty;
                    if asked {
                        let line = "Leave? Ctrl-C again, or y and Enter; anything else stays\n";
                        paper.put(line.into(), None);
                    }
                }
                Err(ReadlineError::Signal(_)) => {}
                // Ctrl-D, or the terminal is gone.
                Err(_) => return true,
            }
        }
    }
}

/// Whoever ends the companion from outside finds the terminal as it was.
fn restore_at_signals() {
    let Ok(before) = tcgetattr(io::stdin()) else { return };
    let Ok(mut signals) = Signals::new([SIGTERM, SIGHUP, SIGQUIT]) else { return };
    let before = Mutex::new(before);
    // Ends with the process.
    drop(spawn(move || {
        for signal in signals.forever() {
            // The terminal may be gone; the process goes in any case.
            _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &lock(&before));
            _ = io::stdout().write_all(b"\x1b[?2004l\r\n");
            _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }));
}

/// What stands before the line. Asked for whenever the prompt draws itself.
struct Sign(Arc<Paper>);

impl rustyline::Prompt for Sign {
    fn raw(&self) -> &str {
        self.0.drawn();
        "> "
    }
}

/// Completion, and the line as it is being typed.
pub(super) struct Hints {
    names: Arc<Mutex<Vec<String>>>,
    typed: RefCell<String>,
    /// What is typed is a password.
    pub(super) secret: bool,
}

impl Completer for Hints {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        if self.secret {
            return Ok((at, Vec::new()));
        }
        Ok(screen::complete(line.get(..at).unwrap_or(line), &lock(&self.names)))
    }
}

impl Hinter for Hints {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        if !self.secret {
            line.clone_into(&mut self.typed.borrow_mut());
        }
        None
    }
}

impl Highlighter for Hints {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.secret { Cow::Owned(" ".repeat(line.chars().count())) } else { Cow::Borrowed(line) }
    }

    /// Whether the line is to be drawn as above, rather than what was typed alone as it is.
    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.secret && kind != CmdKind::MoveCursor
    }
}

impl Validator for Hints {}
impl Helper for Hints {}
