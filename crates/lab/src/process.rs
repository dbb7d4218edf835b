//! Which processes belong to a lab. They are recognised by what they are in (network namespace, mount namespace,
//! cgroup), never by name, so that nothing else on the machine can be hit.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::command::wait_until;

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks between boot and the start of the process (field 22 of proc_pid_stat(5)).
    pub(crate) start_ticks: u64,
}

/// What `/proc/PID/stat` says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) start_ticks: u64,
}

/// Reads the state of a process; `None` if there is none.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, and may itself hold blanks and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat { state: fields.first()?.chars().next()?, start_ticks: fields.get(19)?.parse().ok()? })
}

/// The process of that pid, unless there is none or it is a zombie.
pub(crate) fn identify(pid: i32) -> Option<ProcessId> {
    let stat = stat(pid)?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(ProcessId { pid, start_ticks: stat.start_ticks })
}

impl ProcessId {
    /// Whether that very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        identify(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) -> Result<(), LabError> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(LabError::sys(format!("send {signal} to process {}", self.pid))(errno)),
        }
    }
}

/// Inode of a namespace of a process (`kind` is `net`, `mnt`, …); it is what identifies a namespace.
pub(crate) fn namespace_inode(pid: i32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|meta| meta.ino())
}

/// The process that has that number in a process namespace.
pub(crate) fn in_namespace(pid_inode: u64, pid: i32) -> Option<i32> {
    all_pids()
        .into_iter()
        .find(|it| namespace_inode(*it, "pid") == Some(pid_inode) && innermost_pid(*it) == Some(pid))
}

/// The number that a process has where it lives.
fn innermost_pid(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().next_back()?.parse().ok()
}

/// File name of the program that a process runs. A program that was replaced by an upgrade still has its old name.
pub(crate) fn program(pid: i32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.to_string_lossy();
    Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
}

/// A variable of the environment that a process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<OsString> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{name}=");
    let value = environment.split(|byte| *byte == 0).find_map(|it| it.strip_prefix(prefix.as_bytes()))?;
    Some(OsString::from_vec(value.to_vec()))
}

/// What makes a process one of a lab's or a host's: any of these.
#[derive(Debug, Default, Clone)]
pub(crate) struct Membership {
    pub(crate) net_inodes: BTreeSet<u64>,
    pub(crate) mnt_inodes: BTreeSet<u64>,
    /// cgroup directories; everything below them counts.
    pub(crate) cgroups: Vec<PathBuf>,
}

impl Membership {
    /// All processes that belong, without zombies (they are in no namespace any more).
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        let mut pids: BTreeSet<i32> = self.cgroups.iter().flat_map(|dir| cgroup_pids(dir)).collect();
        for pid in all_pids() {
            let inside = |kind, inodes: &BTreeSet<u64>| {
                !inodes.is_empty() && namespace_inode(pid, kind).is_some_and(|inode| inodes.contains(&inode))
            };
            if inside("net", &self.net_inodes) || inside("mnt", &self.mnt_inodes) {
                pids.insert(pid);
            }
        }
        pids.into_iter().filter_map(identify).collect()
    }

    /// Sends all of them a signal that stops or continues; again, since a process may fork meanwhile.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<usize, LabError> {
        let mut told: BTreeSet<ProcessId> = BTreeSet::new();
        loop {
            let new: Vec<ProcessId> =
                self.processes().into_iter().filter(|process| !told.contains(process)).collect();
            if new.is_empty() {
                return Ok(told.len());
            }
            for process in new {
                process.signal(signal)?;
                told.insert(process);
            }
        }
    }

    /// Kills all of them and waits until they are gone. Asked again and again, since a process may fork meanwhile.
    pub(crate) fn kill_all(&self, lab: &str, what: &str) -> Result<usize, LabError> {
        let mut killed: BTreeSet<ProcessId> = BTreeSet::new();
        let gone = wait_until(Duration::from_secs(20), || {
            let left = self.processes();
            for process in &left {
                process.signal(Signal::SIGKILL)?;
                killed.insert(*process);
            }
            // A process leaves its namespaces a moment before it ends.
            Ok(left.is_empty() && !killed.iter().any(|process| process.is_alive()))
        })?;
        if !gone {
            let pids = self.processes().iter().map(|process| process.pid).collect();
            return Err(LabError::Unkillable { lab: lab.to_owned(), what: what.to_owned(), pids });
        }
        Ok(killed.len())
    }
}

fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn cgroup_pids(dir: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        // 0: a process of another pid namespace.
        .filter(|pid| *pid > 0)
        .collect();
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            pids.extend(cgroup_pids(&entry.path()));
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 777 1000 10 1844 0";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', start_ticks: 777 }));
        assert_eq!(parse_stat("42 (x"), None);
    }

    #[test]
    fn a_process_is_itself_and_not_one_of_another_time() {
        let me = identify(std::process::id() as i32).expect("this process runs");
        assert!(me.is_alive());
        assert!(!ProcessId { start_ticks: me.start_ticks + 1, ..me }.is_alive());
        ProcessId { start_ticks: me.start_ticks + 1, ..me }.signal(Signal::SIGKILL).expect("nobody is hit");
    }

    #[test]
    fn no_criterion_means_no_process() {
        assert!(Membership::default().processes().is_empty());
    }
}
