//! A user's command.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_api::HostFencing;
use tempfile::TempDir;

/// A shell script, in which `$LOG` is a file.
pub(crate) struct Script {
    directory: TempDir,
}

impl Script {
    pub(crate) fn new(text: &str) -> Self {
        let script = Script { directory: TempDir::new().unwrap() };
        let text = format!("#!/bin/sh\nLOG={}\n{text}\n", script.path("log").display());
        write(&script.path("fence"), &text, 0o700);
        script
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A host's fencing by it, with these arguments.
    pub(crate) fn fencing(&self, arguments: &[&str]) -> HostFencing {
        // The shell reads it. Executing it itself fails with ETXTBSY now and then: another test's
        // thread may have forked while the file was open to be written, and not have executed yet.
        let program = ["/bin/sh".to_owned(), self.path("fence").display().to_string()];
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        HostFencing { ipmi: None, command: program.into_iter().chain(arguments).collect(), after_s: None }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn without_place(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "[PLACE]")
    }
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
