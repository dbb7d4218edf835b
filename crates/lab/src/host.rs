//! One host of a lab: its files, its namespaces, and the process that keeps them.
//!
//! The namespaces other than the network's have no name on the machine; a process (called the holder here) keeps them as
//! long as the host is powered on. It was chosen over mounts of `/proc/PID/ns/*`, since those would be more things for
//! `down` to find after a crash.
//!
//! The holder is also process 1 of the host (`tini`, which collects whatever ends there): daemons and QEMU are nobody's
//! children, and process 1 of a machine may collect them late (every 2 s on the one this was written on) or, in a
//! container, never. libvirt waits for a QEMU that it stops until it is collected, and gives up on one that never is.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::sethostname;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LabError;
use crate::cgroup::{self, Hierarchy};
use crate::command;
use crate::enter::{ChildPlace, Namespaces, place_child};
use crate::files::{empty_dir, ensure_dir, ensure_file, ensure_file_in_place};
use crate::layout::{HostPaths, LabPaths};
use crate::mounts;
use crate::names::{self, NetnsRole};
use crate::netns;
use crate::process::{self, Membership, ProcessId};

/// Tells, in the environment of a host's holder, where the lab's state is.
pub(crate) const STATE_DIR_VARIABLE: &str = "ASHLAR_LAB_STATE_DIR";

/// What is kept about a host that is powered on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HostRecord {
    holder: ProcessId,
    /// Identifies the mount namespace.
    mnt_inode: u64,
    /// Identifies the process namespace.
    pid_inode: u64,
}

/// A host that is powered on.
#[derive(Debug)]
pub(crate) struct RunningHost {
    pub(crate) lab: String,
    pub(crate) name: String,
    pub(crate) paths: HostPaths,
    pub(crate) holder: ProcessId,
    mnt_inode: u64,
    pid_inode: u64,
    hierarchies: Vec<Hierarchy>,
}

/// Writes the files that a host needs before its first start, apart from SSH's and libvirt's.
pub(crate) fn ensure_files(paths: &HostPaths, name: &str, host_uuid: Uuid) -> Result<(), LabError> {
    ensure_dir(paths.root(), 0o755)?;
    for dir in [paths.lib(), paths.cache(), paths.log(), paths.log().join("libvirt/qemu"), paths.run()] {
        ensure_dir(&dir, 0o755)?;
    }
    ensure_dir(&paths.pool(), 0o711)?;
    ensure_dir(&paths.home(), 0o700)?;
    ensure_dir(&paths.tmp(), 0o1777)?;
    ensure_dir(&paths.stage(), 0o755)?;
    ensure_file(&paths.etc_file("hostname"), format!("{name}\n").as_bytes(), 0o644)?;
    ensure_file(&paths.etc_file("machine-id"), format!("{}\n", host_uuid.simple()).as_bytes(), 0o444)?;
    let shadow = fs::read_to_string("/etc/shadow").map_err(LabError::io("read", "/etc/shadow"))?;
    ensure_file_in_place(&paths.etc_file("shadow"), without_passwords(&shadow).as_bytes(), 0o600)?;
    Ok(())
}

/// sshd without PAM refuses an account whose password is locked (`!`), as root's often is; `*` means no password, and
/// keys work. No hash of the machine's gets into the lab.
fn without_passwords(shadow: &str) -> String {
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(password) = fields.get_mut(1) {
            *password = "*";
        }
        fields.join(":") + "\n"
    };
    shadow.lines().map(line).collect()
}

/// Writes `/etc/hosts`, in which all hosts of the lab know each other.
pub(crate) fn ensure_hosts_file(paths: &HostPaths, hosts: &[(String, Ipv4Addr)]) -> Result<bool, LabError> {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (name, address) in hosts {
        text.push_str(&format!("{address} {name}\n"));
    }
    ensure_file_in_place(&paths.etc_file("hosts"), text.as_bytes(), 0o644)
}

impl RunningHost {
    /// The host, if it is powered on.
    pub(crate) fn find(lab: &str, lab_paths: &LabPaths, index: u16) -> Result<Option<Self>, LabError> {
        let name = names::host_name(index);
        let paths = lab_paths.host(&name);
        let Some(net_inode) = netns::inode(&NetnsRole::Host(index).netns_name(lab)) else { return Ok(None) };
        let Some(record) = read_record(&paths) else { return Ok(None) };
        let pid = record.holder.pid;
        let same = record.holder.is_alive()
            && process::namespace_inode(pid, "net") == Some(net_inode)
            && process::namespace_inode(pid, "mnt") == Some(record.mnt_inode)
            && process::namespace_inode(pid, "pid") == Some(record.pid_inode);
        if !same {
            return Ok(None);
        }
        Ok(Some(Self::from_record(lab, name, paths, record)?))
    }

    fn from_record(lab: &str, name: String, paths: HostPaths, record: HostRecord) -> Result<Self, LabError> {
        let HostRecord { holder, mnt_inode, pid_inode } = record;
        let hierarchies = cgroup::hierarchies()?;
        Ok(Self { lab: lab.to_owned(), name, paths, holder, mnt_inode, pid_inode, hierarchies })
    }

    /// Makes the namespaces of a host whose network namespace is there. Whatever was left of an earlier start is
    /// removed first.
    pub(crate) fn power_on(lab: &str, lab_paths: &LabPaths, index: u16) -> Result<Self, LabError> {
        let name = names::host_name(index);
        let paths = lab_paths.host(&name);
        power_off(lab, lab_paths, index)?;
        for dir in ["lock", "sshd", "libvirt", "user"] {
            ensure_dir(&paths.run().join(dir), 0o755)?;
        }
        let hierarchies = cgroup::hierarchies()?;
        cgroup::ensure_host(&hierarchies, lab, &name)?;
        let entry = cgroup::entry(&hierarchies, lab, &name, true)?;

        let mut init = command::command("tini");
        init.args(["--", "sleep", "infinity"]).env("ASHLAR_LAB_HOST", format!("{lab}/{name}"));
        init.env(STATE_DIR_VARIABLE, lab_paths.root());
        init.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        place_child(&mut init, ChildPlace { cgroups: Some(entry), own_session: true });

        let netns_name = NetnsRole::Host(index).netns_name(lab);
        let holder = Namespaces::network(netns::open(&netns_name)?).run(|| {
            let new = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
            unshare(new).map_err(LabError::NoNamespaces)?;
            sethostname(&name).map_err(LabError::sys(format!("set the host name of {name}")))?;
            mounts::enter_host(lab, &name, &paths, &hierarchies)?;
            // Takes effect for the next child, which becomes process 1.
            unshare(CloneFlags::CLONE_NEWPID).map_err(LabError::NoNamespaces)?;
            command::spawn(&mut init)
        })?;
        let pid = i32::try_from(holder.id()).unwrap_or(i32::MAX);
        reap_later(holder);

        let not_running =
            || LabError::NotRunning { lab: lab.to_owned(), what: format!("host {name} of lab {lab:?}") };
        let inode = |kind| process::namespace_inode(pid, kind).ok_or_else(not_running);
        let record = HostRecord {
            holder: process::identify(pid).ok_or_else(not_running)?,
            mnt_inode: inode("mnt")?,
            pid_inode: inode("pid")?,
        };
        let host = Self::from_record(lab, name.clone(), paths, record)?;
        // Shows the processes of the namespace that it is mounted in, so that it had to wait for its process 1.
        host.checked(
            command::command("mount").args(["-t", "proc", "proc", "/proc"]),
            Duration::from_secs(20),
        )?;
        let record = serde_json::to_vec(&record)
            .map_err(|source| LabError::Description { path: host.paths.record(), source })?;
        ensure_file(&host.paths.record(), &record, 0o644)?;
        Ok(host)
    }

    /// Starts a program inside the host.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        let place = self.child_place(true)?;
        place_child(command, place);
        self.namespaces()?.run(|| command::spawn(command))
    }

    /// Runs a program inside the host and collects what it prints.
    pub(crate) fn output(&self, command: &mut Command, deadline: Duration) -> Result<Output, LabError> {
        command.stdin(Stdio::null());
        command::collect(command, deadline, |command| self.spawn(command))
    }

    /// The same; an exit code other than zero is an error.
    pub(crate) fn checked(&self, command: &mut Command, deadline: Duration) -> Result<String, LabError> {
        let output = self.output(command, deadline)?;
        command::succeeded(command, output)
    }

    /// The process that is number `pid` in the host, as its pid files have it.
    pub(crate) fn process(&self, pid: i32) -> Option<ProcessId> {
        process::identify(process::in_namespace(self.pid_inode, pid)?)
    }

    pub(crate) fn child_place(&self, own_session: bool) -> Result<ChildPlace, LabError> {
        let entry = cgroup::entry(&self.hierarchies, &self.lab, &self.name, false)?;
        Ok(ChildPlace { cgroups: Some(entry), own_session })
    }

    /// Opens the host's namespaces.
    pub(crate) fn namespaces(&self) -> Result<Namespaces, LabError> {
        let open = |kind: &str, flag| {
            let path = PathBuf::from(format!("/proc/{}/ns/{kind}", self.holder.pid));
            File::open(&path).map(|file| (file, flag)).map_err(LabError::io("open", path))
        };
        let mnt = open("mnt", CloneFlags::CLONE_NEWNS)?;
        // The pid could have passed to another process since it was looked at; an open file cannot.
        if mnt.0.metadata().map_err(LabError::io("look at", "/proc/PID/ns/mnt"))?.ino() != self.mnt_inode {
            return Err(self.not_running());
        }
        let files = vec![
            open("net", CloneFlags::CLONE_NEWNET)?,
            open("uts", CloneFlags::CLONE_NEWUTS)?,
            open("ipc", CloneFlags::CLONE_NEWIPC)?,
            open("cgroup", CloneFlags::CLONE_NEWCGROUP)?,
            open("pid", CloneFlags::CLONE_NEWPID)?,
            mnt,
        ];
        Ok(Namespaces::new(files))
    }

    fn not_running(&self) -> LabError {
        LabError::NotRunning {
            lab: self.lab.clone(),
            what: format!("host {} of lab {:?}", self.name, self.lab),
        }
    }
}

/// Pulls the plug: kills all that is in the host, and forgets what a real one would. Its disks and its
/// configuration stay. Works on a host that was never complete.
pub(crate) fn power_off(lab: &str, lab_paths: &LabPaths, index: u16) -> Result<bool, LabError> {
    let name = names::host_name(index);
    let paths = lab_paths.host(&name);
    let dirs = cgroup::dirs(&cgroup::hierarchies()?, lab, Some(&name));
    let membership = membership(lab, index, &paths, dirs.clone());
    let killed = membership.kill_all(lab, &format!("processes of host {name}"))?;
    crate::config::unload_apparmor_profiles(&paths);
    cgroup::remove(&dirs)?;
    if paths.record().exists() {
        fs::remove_file(paths.record()).map_err(LabError::io("remove", paths.record()))?;
    }
    empty_dir(&paths.run())?;
    empty_dir(&paths.tmp())?;
    Ok(killed > 0)
}

/// Sends everything in a host a signal that stops or continues it.
pub(crate) fn signal(lab: &str, lab_paths: &LabPaths, index: u16, signal: Signal) -> Result<(), LabError> {
    let name = names::host_name(index);
    let dirs = cgroup::dirs(&cgroup::hierarchies()?, lab, Some(&name));
    membership(lab, index, &lab_paths.host(&name), dirs).signal_all(signal).map(drop)
}

/// How the processes of a host are recognised.
pub(crate) fn membership(lab: &str, index: u16, paths: &HostPaths, cgroups: Vec<PathBuf>) -> Membership {
    let mut membership = Membership { cgroups, ..Membership::default() };
    membership.net_inodes.extend(netns::inode(&NetnsRole::Host(index).netns_name(lab)));
    // The mount namespace's inode is worth something only while its holder, or anything else in it, lives.
    if let Some(record) = read_record(paths).filter(|record| record.holder.is_alive()) {
        membership.mnt_inodes.insert(record.mnt_inode);
    }
    membership
}

fn read_record(paths: &HostPaths) -> Option<HostRecord> {
    serde_json::from_slice(&fs::read(paths.record()).ok()?).ok()
}

/// The holder outlives this process as a rule; when it does not, somebody must collect it.
fn reap_later(mut child: Child) {
    thread::spawn(move || child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_hash_gets_into_a_lab_and_root_is_not_locked() {
        let shadow = "root:!:20000:0:99999:7:::\nann:$y$j9T$abc$def:20000:0:99999:7:::\n";
        assert_eq!(without_passwords(shadow), "root:*:20000:0:99999:7:::\nann:*:20000:0:99999:7:::\n");
    }
}
