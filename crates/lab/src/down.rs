//! `down`: removes a lab, complete or not, and leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::command::wait_until;
use crate::lab::DEFAULT_ROOT;
use crate::names::{self, NetnsRole};
use crate::process::{self, Membership};
use crate::{Lab, LabError, cgroup, host, mountinfo, netns, preflight};

/// What `down` removed.
#[derive(Debug, Clone)]
pub struct DownReport {
    /// One line for each thing that was removed. Empty if there was no lab.
    pub changes: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// How long programs in the control namespace (a shell, a proxy) have between SIGHUP and SIGKILL.
const HANGUP_GRACE: Duration = Duration::from_millis(500);

impl Lab {
    /// Removes the lab: its processes (those in its namespaces and cgroups, virtual machines included), namespaces,
    /// cgroups, mounts, and its whole state directory with all disks. Right after it there is nothing left; running
    /// it on a lab that is not there, or half there, is fine.
    ///
    /// # Errors
    /// Not root; the caller sits inside the lab; the state directory is not this lab's; a process that hangs in the
    /// kernel.
    pub fn down(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<DownReport, LabError> {
        let began = Instant::now();
        preflight::check_root()?;
        let namespaces = netns::of_lab(&self.name);
        self.refuse_from_inside(&namespaces)?;
        let owned = self.owns_state_dir();
        if !owned && self.paths.description().exists() {
            return Err(LabError::NotALab { path: self.paths.root().to_owned(), name: self.name.clone() });
        }
        self.refuse_other_state_dir()?;
        let lock = if owned { Some(self.lock()?) } else { None };

        let mut changes = Vec::new();
        let mut note = |line: String| {
            progress(&line);
            changes.push(line);
        };
        self.stop_clients(&namespaces)?;
        for index in self.host_indices(&namespaces)? {
            if host::power_off(&self.name, &self.paths, index)? {
                note(format!("{}: powered off", names::host_name(index)));
            }
        }
        for (_, name) in &namespaces {
            if netns::remove(name)? {
                note(format!("network namespace {name}: removed"));
            }
        }
        let dirs = cgroup::dirs(&cgroup::hierarchies()?, &self.name, None);
        if !dirs.is_empty() {
            Membership { cgroups: dirs.clone(), ..Membership::default() }
                .kill_all(&self.name, "processes")?;
            cgroup::remove(&dirs)?;
            note(format!("cgroups of lab {}: removed", self.name));
        }
        if owned {
            self.remove_state()?;
            note(format!("{}: removed", self.paths.root().display()));
        }
        // An `up` that died at once left an empty directory, or one with an empty mark; while there is anything else in
        // it, its removal is refused.
        let marker = self.paths.marker();
        if fs::metadata(&marker).is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
            fs::remove_file(&marker).map_err(LabError::io("remove", &marker))?;
        }
        let _ = fs::remove_dir(self.paths.root());
        if self.paths.root().parent() == Some(Path::new(DEFAULT_ROOT)) {
            let _ = fs::remove_dir(DEFAULT_ROOT);
        }
        drop(lock);
        Ok(DownReport { changes, elapsed: began.elapsed() })
    }

    fn refuse_from_inside(&self, namespaces: &[(NetnsRole, String)]) -> Result<(), LabError> {
        let own = process::namespace_inode(std::process::id().cast_signed(), "net");
        let inside = namespaces.iter().any(|(_, name)| own.is_some() && netns::inode(name) == own);
        if inside { Err(LabError::InsideLab { lab: self.name.clone() }) } else { Ok(()) }
    }

    /// Ends what people and tests run in the control and switch namespaces.
    fn stop_clients(&self, namespaces: &[(NetnsRole, String)]) -> Result<(), LabError> {
        let shared = namespaces.iter().filter(|(role, _)| !matches!(role, NetnsRole::Host(_)));
        let net_inodes: BTreeSet<u64> = shared.filter_map(|(_, name)| netns::inode(name)).collect();
        let members = Membership { net_inodes, ..Membership::default() };
        let clients = members.processes();
        if clients.is_empty() {
            return Ok(());
        }
        for client in clients {
            client.signal(Signal::SIGHUP)?;
        }
        wait_until(HANGUP_GRACE, || Ok(members.processes().is_empty()))?;
        members.kill_all(&self.name, "clients in the control namespace").map(drop)
    }

    /// All hosts that anything is left of: a namespace, a cgroup, a directory.
    fn host_indices(&self, namespaces: &[(NetnsRole, String)]) -> Result<BTreeSet<u16>, LabError> {
        let mut indices: BTreeSet<u16> = namespaces
            .iter()
            .filter_map(|(role, _)| match role {
                NetnsRole::Host(index) => Some(*index),
                _ => None,
            })
            .collect();
        let mut dirs = cgroup::dirs(&cgroup::hierarchies()?, &self.name, None);
        if self.owns_state_dir() {
            dirs.push(self.paths.hosts());
        }
        for dir in dirs {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            indices.extend(entries.flatten().filter_map(|it| names::host_index(it.file_name().to_str()?)));
        }
        Ok(indices)
    }

    fn remove_state(&self) -> Result<(), LabError> {
        let root = self.paths.root();
        unmount_below(root)?;
        // The mark goes last: what a crash leaves can then still be removed.
        for entry in fs::read_dir(root).map_err(LabError::io("list", root))? {
            let path = entry.map_err(LabError::io("list", root))?.path();
            if path == self.paths.marker() || path == self.paths.lock() {
                continue;
            }
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(LabError::io("remove", &path))?;
        }
        fs::remove_file(self.paths.marker()).map_err(LabError::io("remove", self.paths.marker()))?;
        fs::remove_dir_all(root).map_err(LabError::io("remove", root))?;
        Ok(())
    }
}

/// A lab makes no mounts there that the machine sees; somebody else may have, and their files must not be deleted.
fn unmount_below(root: &Path) -> Result<(), LabError> {
    for mount in mountinfo::of_this_thread()?.into_iter().rev() {
        if mount.mount_point.starts_with(root) && mount.mount_point != root {
            umount2(&mount.mount_point, MntFlags::MNT_DETACH)
                .map_err(LabError::sys(format!("unmount {}", mount.mount_point.display())))?;
        }
    }
    Ok(())
}
