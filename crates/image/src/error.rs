//! What can go wrong while an image is made, always with the stage, the cause and what to do.

use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be built, listed, inspected or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that the stage needs is not installed.
    #[error("{stage}: the program `{program}` is not installed; {hint}")]
    MissingProgram {
        /// Stage that needs it.
        stage: String,
        /// Name looked up on `PATH`.
        program: String,
        /// How to get it.
        hint: String,
    },
    /// A program ended with a failure.
    #[error("{stage}: `{program}` failed ({status}); its last lines were:\n{tail}")]
    Program {
        /// Stage that ran it.
        stage: String,
        /// Program and first arguments.
        program: String,
        /// Exit status in words.
        status: String,
        /// Last lines of its output.
        tail: String,
    },
    /// A program did not end within its deadline and was killed.
    #[error(
        "{stage}: `{program}` was stopped after {deadline_s} s; its last lines were:\n{tail}\n\
         run the build again: finished stages are kept"
    )]
    Deadline {
        /// Stage that ran it.
        stage: String,
        /// Program and first arguments.
        program: String,
        /// Deadline in seconds.
        deadline_s: u64,
        /// Last lines of its output.
        tail: String,
    },
    /// The build was asked to stop.
    #[error("{stage}: stopped on request; run the build again: finished stages are kept")]
    Cancelled {
        /// Stage that was running.
        stage: String,
    },
    /// A file operation failed.
    #[error("{stage}: cannot {action} {}", path.display())]
    Io {
        /// Stage that was running.
        stage: String,
        /// Verb phrase, such as `write`.
        action: &'static str,
        /// File concerned.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something that was read is not what it should be.
    #[error("{stage}: {what}")]
    Invalid {
        /// Stage that was running.
        stage: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Something could not be had from a server.
    #[error("{stage}: cannot fetch {url}: {cause}; {next}")]
    Fetch {
        /// Stage that was running.
        stage: String,
        /// The address asked for.
        url: String,
        /// What came instead.
        cause: String,
        /// What to do.
        next: String,
        /// The server is there, and what was asked for is not.
        is_missing: bool,
    },
    /// No source of Kubernetes can be used.
    #[error(
        "Kubernetes {version} can be had from nowhere. Its release: {release}; name mirrors with `--release-url URL`, \
         `--registry URL` and their like. Go modules: {modules}"
    )]
    NoSource {
        /// Version asked for.
        version: String,
        /// Why not from its release.
        release: String,
        /// Why not from Go modules, and what to do.
        modules: String,
    },
    /// Downloaded or stored content does not have its digest.
    #[error("{stage}: {subject} is {actual}, and should be {expected}; {hint}")]
    Digest {
        /// Stage that was running.
        stage: String,
        /// File or address.
        subject: String,
        /// What was announced: algorithm and digest.
        expected: String,
        /// What was found.
        actual: String,
        /// What to do.
        hint: String,
    },
    /// An image is there, and is not what it should be.
    #[error("image {name} is damaged: {cause}; `ashlar image remove {name}`, then build it again")]
    Damaged {
        /// Its directory's name.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No image of that name.
    #[error("no image `{name}` under {}; `ashlar image list` shows those there are", cache.display())]
    NotFound {
        /// Name asked for.
        name: String,
        /// Cache looked in.
        cache: PathBuf,
    },
}

impl Error {
    /// True when a server answered that it does not have what was asked for.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Fetch { is_missing: true, .. })
    }

    pub(crate) fn io(
        stage: &str,
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let (stage, path) = (stage.to_owned(), path.into());
        move |source| Self::Io { stage, action, path, source }
    }

    pub(crate) fn invalid(stage: &str, what: impl Into<String>) -> Self {
        Self::Invalid { stage: stage.to_owned(), what: what.into() }
    }
}
