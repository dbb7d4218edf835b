//! The trunk: one SSH connection per host that sessions and tunnels share.
//!
//! It is a child of this process with a session of its own that went through the gate. The gate registered that
//! session's sshd process on the host: when a newer Ashlar process takes the host over, that process is killed, and
//! with it everything that runs over the trunk, tunnels included.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin};

use super::{Ssh, failure};

const READY: &str = "ashlar-trunk-ready";
/// More is never kept of what a program says on standard error.
const STDERR_BYTES: usize = 16 * 1024;

/// An open trunk. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Trunk {
    child: Child,
    socket: PathBuf,
    _stdin: ChildStdin,
}

impl Trunk {
    /// Connects, and passes the gate.
    pub(crate) async fn open(ssh: &Ssh, dir: &Path, deadline: Duration) -> Result<Self, EffectError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = dir.join(format!("t-{}-{number}", std::process::id()));
        let host = &ssh.target.name;
        let mut command = tokio::process::Command::from(ssh.trunk(&socket, READY));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let cannot = |what: &str| {
            EffectError::new(
                EffectErrorKind::Refused,
                format!(
                    "host {host}: ssh cannot be started on this machine: {what}: install the OpenSSH client"
                ),
            )
        };
        let mut child = command.spawn().map_err(|error| cannot(&error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot("it has no pipes"));
        };
        let mut line = String::new();
        let mut reader = BufReader::new(stdout.take(STDERR_BYTES as u64));
        let ready = async { reader.read_line(&mut line).await.is_ok_and(|_| line.trim_end() == READY) };
        let ready = tokio::time::timeout(deadline, ready).await.map_err(|_| {
            let seconds = deadline.as_secs();
            let address = &ssh.address;
            EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {host} ({address}): no SSH session within {seconds} s"),
            )
        })?;
        if !ready {
            let mut said = Vec::new();
            let collected = async {
                let _ = (&mut stderr).take(STDERR_BYTES as u64).read_to_end(&mut said).await;
                child.wait().await
            };
            let status = tokio::time::timeout(Duration::from_secs(2), collected).await;
            let exit = status.ok().and_then(Result::ok).and_then(|status| status.code());
            return Err(failure(ssh, exit, &String::from_utf8_lossy(&said), "open a session"));
        }
        // Whatever it says later has to be taken off the pipe, or it would block.
        tokio::spawn(async move {
            let mut sink = [0; 1024];
            while stderr.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        });
        Ok(Trunk { child, socket, _stdin: stdin })
    }

    /// Whether the connection is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The socket that sessions share.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// All that comes, up to the limit; more is an error of whoever asked.
pub(crate) async fn read_all(from: impl AsyncRead + Unpin, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > limit {
        return Err(std::io::Error::other(format!("it said more than {limit} bytes")));
    }
    Ok(bytes)
}
