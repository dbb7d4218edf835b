//! Commands on hosts.

use std::process::Stdio;
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostTarget};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::hosts::Hosts;
use crate::ssh::{failure, read_all};

/// More is never kept of what a command says on standard error.
const STDERR_BYTES: usize = 64 * 1024;

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Hosts {
    /// Runs a command on a host, behind the gate. Failures of SSH and of the gate are errors; the command's own exit
    /// code is the caller's to judge.
    pub(crate) async fn run(
        &self,
        host: &HostTarget,
        argv: &[&str],
        doing: &str,
        deadline: Duration,
        stdout_limit: usize,
    ) -> Result<Said, EffectError> {
        self.run_with(host, argv, None, doing, deadline, stdout_limit).await
    }

    /// As [`Self::run`], with something to read for the command.
    pub(crate) async fn run_with(
        &self,
        host: &HostTarget,
        argv: &[&str],
        stdin: Option<Vec<u8>>,
        doing: &str,
        deadline: Duration,
        stdout_limit: usize,
    ) -> Result<Said, EffectError> {
        let entry = self.entry(host)?;
        let trunk = entry.trunk().await?;
        let unreachable = |what: String| {
            EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {} cannot {doing}: {what}", host.name),
            )
        };
        let mut command = Command::from(entry.ssh.session(Some(&trunk), argv));
        let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let work = async {
            let mut child = command.spawn()?;
            let missing = || std::io::Error::other("a pipe is missing");
            let stdout = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let pipe = child.stdin.take();
            let write = async {
                if let (Some(mut pipe), Some(bytes)) = (pipe, &stdin) {
                    // A command that ends before it has read everything says why itself.
                    let _ = pipe.write_all(bytes).await;
                }
                Ok(())
            };
            let (stdout, stderr, ()) =
                tokio::try_join!(read_all(stdout, stdout_limit), read_all(stderr, STDERR_BYTES), write)?;
            Ok::<_, std::io::Error>((child.wait().await?, stdout, stderr))
        };
        let (status, stdout, stderr) = match tokio::time::timeout(deadline, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {} s", deadline.as_secs()))),
        };
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        match status.code() {
            Some(255) | None => Err(failure(&entry.ssh, status.code(), &stderr, doing)),
            Some(_) if stderr.lines().any(|line| line.starts_with("ashlar-gate: ")) => {
                Err(failure(&entry.ssh, status.code(), &stderr, doing))
            }
            Some(exit) => Ok(Said { exit, stdout, stderr }),
        }
    }
}
