//! Deadlines.

use std::path::PathBuf;
use std::time::Duration;

/// How long outside calls may take, and where files of this process lie.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory (mode 0700) for control sockets and pinned host keys of this process.
    pub run_dir: PathBuf,
    /// Until an SSH session stands.
    pub connect_timeout: Duration,
    /// Until libvirt answers a call that does little (connecting included).
    pub call_timeout: Duration,
    /// Until libvirt has started or stopped a domain, or made or wiped a volume.
    pub slow_call_timeout: Duration,
    /// An upload that does not get on for so long has failed; as a whole it may take any time.
    pub stall_timeout: Duration,
    /// Until a short command on a host has answered.
    pub command_timeout: Duration,
    /// Until a command that reads whole files has answered.
    pub digest_timeout: Duration,
    /// Until a connection to an address behind a host stands.
    pub dial_timeout: Duration,
    /// A host that did not answer is left alone: for one second first, then twice as long each time, up to this.
    pub max_backoff: Duration,
}

impl Settings {
    /// The usual ones.
    pub fn new(run_dir: impl Into<PathBuf>) -> Self {
        let seconds = Duration::from_secs;
        Settings {
            run_dir: run_dir.into(),
            connect_timeout: seconds(15),
            call_timeout: seconds(20),
            slow_call_timeout: seconds(180),
            stall_timeout: seconds(60),
            command_timeout: seconds(30),
            digest_timeout: seconds(900),
            dial_timeout: seconds(10),
            max_backoff: seconds(15),
        }
    }
}
