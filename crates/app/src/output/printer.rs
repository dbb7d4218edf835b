//! The one place that writes to the terminal: data to stdout, everything else to stderr.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex};

use crate::failure::{Exit, Failure, Result};

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// More, by level.
    Verbose(u8),
}

/// Writes lines so that a live progress display is not torn. Set while one is drawn.
type Around = Box<dyn Fn(&mut dyn FnMut()) + Send>;

/// Prints. Cheap to clone; all clones are one printer.
#[derive(Clone)]
pub(crate) struct Printer {
    verbosity: Verbosity,
    colored: bool,
    around: Arc<Mutex<Option<Around>>>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("verbosity", &self.verbosity).finish_non_exhaustive()
    }
}

impl Printer {
    /// A printer.
    pub(crate) fn new(verbosity: Verbosity, colored: bool) -> Self {
        Printer { verbosity, colored, around: Arc::default() }
    }

    /// How much is said.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Whether progress and notes are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    /// Whether colour is used.
    pub(crate) fn is_colored(&self) -> bool {
        self.colored
    }

    /// Sets (or ends) what is done around each line, for a live display.
    pub(crate) fn set_around(&self, around: Option<Around>) {
        if let Ok(mut slot) = self.around.lock() {
            *slot = around;
        }
    }

    /// Writes data to stdout. A reader that went away (`| head`) ends the command quietly and well.
    pub(crate) fn data(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Exit> {
        let mut write = Some(write);
        let mut outcome = Ok(());
        self.suspended(&mut || {
            if let Some(write) = write.take() {
                let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
                outcome = write(&mut out).and_then(|()| out.flush());
            }
        });
        match outcome {
            Ok(()) => Ok(Exit::Success),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Success),
            Err(error) => Err(Failure::from(error).because_of("cannot write to stdout")),
        }
    }

    /// Writes one piece of text to stdout, with a newline.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<Exit> {
        self.data(|out| writeln!(out, "{}", text.as_ref()))
    }

    /// Says something to a person, on stderr.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.is_quiet() {
            self.stderr(text.as_ref());
        }
    }

    /// Says something that the person should act on.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        if !self.is_quiet() {
            self.stderr(&format!("{} {}", self.paint("33", "warning:"), text.as_ref()));
        }
    }

    /// Says why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut text = String::new();
        for (index, message) in failure.chain.iter().enumerate() {
            let label = if index == 0 { self.paint("31", "error:") } else { "  caused by:".to_owned() };
            // The second line on of a long message stands under the first.
            let message = message.trim_end().replace('\n', "\n    ");
            text.push_str(&format!("{label} {message}\n"));
        }
        for hint in &failure.hints {
            text.push_str(&format!("{} {}\n", self.paint("36", "hint:"), hint.replace('\n', "\n    ")));
        }
        self.stderr(text.trim_end());
    }

    /// Bold, where colour is used.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Writes a line to stderr whatever the verbosity.
    pub(crate) fn stderr(&self, text: &str) {
        self.suspended(&mut || {
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    fn suspended(&self, write: &mut dyn FnMut()) {
        match self.around.lock() {
            Ok(slot) => match slot.as_ref() {
                Some(around) => around(write),
                None => write(),
            },
            Err(_) => write(),
        }
    }
}
