//! One run of a program here: a deadline, nothing of our environment, and no child left behind.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use super::refused;
use crate::ssh::read_all;

/// More is never read of what it says.
const SAID_BYTES: usize = 64 * 1024;
/// Where programs find others. What else our environment holds is none of theirs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments.
pub(super) struct Program {
    pub(super) argv: Vec<OsString>,
    pub(super) env: Vec<(&'static str, String)>,
    /// What a person does where there is no such program.
    pub(super) missing: String,
}

/// How it ended.
pub(super) struct Ended {
    /// None: by a signal.
    pub(super) exit: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Kills a program with all that it started, unless it ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Program {
    /// Runs it. A deadline that is over, and a call that nobody waits for any more, end it and all that it started.
    pub(super) async fn run(&self, deadline: Duration) -> Result<Ended, EffectError> {
        let name = self.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new(self.argv.first().cloned().unwrap_or_default());
        command
            .args(self.argv.iter().skip(1))
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => refused(format!("there is no {name} here: {}", self.missing)),
            _ => refused(format!("{name} cannot be run: {error}")),
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = Group(id.map(Pid::from_raw));
        let missing = || std::io::Error::other("a pipe is missing");
        let work = async {
            let stdout = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let (stdout, stderr) =
                tokio::try_join!(read_all(stdout, SAID_BYTES), read_all(stderr, SAID_BYTES))?;
            Ok::<_, std::io::Error>((stdout, stderr, child.wait().await?))
        };
        let unknown = |what: String| EffectError::new(EffectErrorKind::Unreachable, what);
        let (stdout, stderr, status) = match tokio::time::timeout(deadline, work).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(unknown(format!("{name}: {error}"))),
            Err(_) => {
                return Err(unknown(format!(
                    "{name} gave no answer within {} s, and was ended",
                    deadline.as_secs()
                )));
            }
        };
        group.0 = None;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended { exit: status.code(), stdout: text(stdout), stderr: text(stderr) })
    }
}
