//! How a command ends when it does not end well: exit code, what went wrong, and what to do next.

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

/// Exit codes, the same for every command (documented in `ashlar --help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// The user's input or the environment.
    Failure,
    /// A bug in Ashlar.
    Internal,
    /// What was waited for did not come in time.
    Timeout,
    /// Ctrl-C.
    Interrupted,
    /// The exit code of a program that was run for the user.
    Program(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Internal => 2,
            Exit::Timeout => 3,
            Exit::Interrupted => 130,
            Exit::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command failed: outermost message first, then its causes, then what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Message and causes.
    pub(crate) chain: Vec<String>,
    /// What to do next.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// The user's input or the environment is at fault.
    pub(crate) fn new(message: impl Display) -> Self {
        Failure { exit: Exit::Failure, chain: vec![message.to_string()], hints: Vec::new() }
    }

    /// Ashlar is at fault.
    pub(crate) fn internal(message: impl Display) -> Self {
        Failure { exit: Exit::Internal, ..Failure::new(message) }.hint(
            "this is a bug in Ashlar: please report it with the command and its output (ashlar version --verbose)",
        )
    }

    /// Something did not happen in time.
    pub(crate) fn timeout(message: impl Display) -> Self {
        Failure { exit: Exit::Timeout, ..Failure::new(message) }
    }

    /// Adds a next step.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Puts a message in front of the chain.
    pub(crate) fn because_of(mut self, message: impl Display) -> Self {
        self.chain.insert(0, message.to_string());
        self
    }
}

impl<E: Error + 'static> From<E> for Failure {
    /// An error of a library is the environment's fault, unless whoever calls says otherwise.
    fn from(error: E) -> Self {
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their source in their own message.
            if !chain.iter().any(|earlier| earlier.contains(&text)) {
                chain.push(text);
            }
            source = cause.source();
        }
        Failure { exit: Exit::Failure, chain, hints: Vec::new() }
    }
}

/// What commands return.
pub(crate) type Result<T = Exit, E = Failure> = std::result::Result<T, E>;

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Puts a message in front of the causes.
    fn context(self, message: impl Display) -> Result<T>;
    /// Adds a next step.
    fn hint(self, hint: impl Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Display) -> Result<T> {
        self.map_err(|error| error.into().because_of(message))
    }

    fn hint(self, hint: impl Display) -> Result<T> {
        self.map_err(|error| error.into().hint(hint))
    }
}
