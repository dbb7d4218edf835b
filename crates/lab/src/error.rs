//! What can go wrong with a lab. Every message names the object, the cause and the next step.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program that the lab needs and did not find, with the Debian package that ships it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingProgram {
    /// Name of the program, as typed in a shell.
    pub program: String,
    /// Debian package that ships it.
    pub package: String,
}

/// Any failure of a lab operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Network and mount namespaces of the machine's own are root's to make.
    #[error(
        "a lab makes network namespaces, mounts and cgroups, which only root may do: run it as root (sudo)"
    )]
    NotRoot,
    /// Programs that must be installed first.
    #[error("a lab needs {}; install with: apt-get install -y --no-install-recommends {}", programs(.0), packages(.0))]
    MissingPrograms(Vec<MissingProgram>),
    /// A directory that libvirt's packages create is not there, so that there is nothing to mount a host's own over.
    #[error("{path} is missing on this machine (package {package} creates it): reinstall that package", path = path.display())]
    MissingDirectory {
        /// The missing directory.
        path: PathBuf,
        /// Debian package that creates it.
        package: &'static str,
    },
    /// The kernel or a container runtime refuses namespaces.
    #[error(
        "this machine does not let root make network and mount namespaces; in a container, start it privileged (CAP_SYS_ADMIN, CAP_NET_ADMIN)"
    )]
    NoNamespaces(#[source] nix::errno::Errno),
    /// The lab's name does not fit.
    #[error("{name:?} is not a lab name: {reason}")]
    BadName {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The number of hosts does not fit.
    #[error("a lab has 1 to {max} hosts, not {asked}")]
    BadHostCount {
        /// What was asked for.
        asked: u16,
        /// The most that the address plan has room for.
        max: u16,
    },
    /// The state directory holds something that is not this lab.
    #[error("{} is not empty and is not the state of lab {name:?}: choose another state directory, or empty it", path.display())]
    NotALab {
        /// The directory.
        path: PathBuf,
        /// The lab that was asked for.
        name: String,
    },
    /// A lab of that name runs, but its state is not in the state directory that was given.
    #[error(
        "lab {name:?} already runs on this machine with another state directory, {}: name that one, or take another \
         name for the lab",
        path.display()
    )]
    OtherStateDir {
        /// The lab.
        name: String,
        /// Where its state is.
        path: PathBuf,
    },
    /// No such host in the lab.
    #[error("lab {lab:?} has no host {host:?}; it has {}", list(known))]
    NoSuchHost {
        /// The lab.
        lab: String,
        /// What was asked for.
        host: String,
        /// Its hosts.
        known: Vec<String>,
    },
    /// The lab, or one host of it, is not up.
    #[error("{what} is not running: start it with `ashlar lab up {lab}`")]
    NotRunning {
        /// The lab.
        lab: String,
        /// `lab "x"` or `host h1 of lab "x"`.
        what: String,
    },
    /// The caller sits inside the lab that it wants to remove.
    #[error("this process runs inside lab {lab:?}, which `down` would end: leave the lab's shell first")]
    InsideLab {
        /// The lab.
        lab: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    Sys {
        /// What was tried.
        action: String,
        /// The cause.
        source: nix::errno::Errno,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{command} failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of what it said.
        stderr: String,
    },
    /// A program did not end in time.
    #[error("{command} gave no answer within {} s and was killed: what it talks to hangs", after.as_secs())]
    CommandTimeout {
        /// The command line.
        command: String,
        /// How long it had.
        after: Duration,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s; look at {}", after.as_secs(), look_at.display())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Log or directory that tells more.
        look_at: PathBuf,
    },
    /// A file of the lab cannot be understood.
    #[error("{} is not a lab description that this version understands: run `ashlar lab down`, then `up`", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Processes of the lab that will not die.
    #[error(
        "{} of lab {lab:?} do not die after SIGKILL (pids {pids:?}): they hang in the kernel, see /proc/PID/stack",
        what
    )]
    Unkillable {
        /// The lab.
        lab: String,
        /// What they belong to.
        what: String,
        /// Their pids.
        pids: Vec<i32>,
    },
}

impl LabError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn sys(action: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |source| Self::Sys { action: action.into(), source }
    }
}

fn programs(missing: &[MissingProgram]) -> String {
    let names: Vec<_> = missing.iter().map(|it| format!("{} (package {})", it.program, it.package)).collect();
    names.join(", ")
}

fn packages(missing: &[MissingProgram]) -> String {
    let mut names: Vec<_> = missing.iter().map(|it| it.package.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}

fn list(names: &[impl fmt::Display]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
