//! How a build tells its caller what it is doing. The crate itself prints nothing.

use std::time::Duration;

/// Receives the progress of a build; the binary prints it, tests ignore or record it.
pub trait Reporter: Send + Sync {
    /// A stage begins.
    fn started(&self, stage: &str);
    /// A stage ended well; `cached` when its result was there already.
    fn finished(&self, stage: &str, took: Duration, cached: bool);
    /// Something worth a line: a wait, a version chosen in place of another.
    fn note(&self, message: &str);
}

/// A reporter that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn started(&self, _stage: &str) {}
    fn finished(&self, _stage: &str, _took: Duration, _cached: bool) {}
    fn note(&self, _message: &str) {}
}
