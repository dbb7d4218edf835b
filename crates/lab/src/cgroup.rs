//! A cgroup subtree for each host, on cgroup v1, v2, and machines that have both.
//!
//! Without one, the libvirts of two hosts share `/machine/qemu-1-NAME` and mix up limits and statistics of domains that
//! happen to have the same id and name, without any error.
//!
//! ```text
//! HIERARCHY/ashlar-LAB/          controllers enabled for the hosts; no process
//!           └── h1/              root of the host's cgroup namespace and of its /sys/fs/cgroup; no process, because
//!               │                v2 forbids processes beside child groups with controllers
//!               ├── daemons/     sshd, libvirtd, … and what is started through them
//!               └── machine/     made by libvirt: one group per domain
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::LabError;
use crate::command::wait_until;
use crate::mountinfo::{self, Mount};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const DAEMONS: &str = "daemons";
/// What libvirt limits and measures domains with. No more than that is switched on for the machine's top group, since
/// nobody can tell afterwards whether it may be switched off again.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "io", "memory"];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount_point: PathBuf,
    /// cgroup v2.
    pub(crate) unified: bool,
    /// v1 hierarchy of the cpuset controller, whose new groups refuse processes until they are given CPUs.
    cpuset_v1: bool,
}

/// The hierarchies of this machine.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, LabError> {
    Ok(among(mountinfo::of_this_thread()?))
}

fn among(mounts: Vec<Mount>) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for mount in mounts {
        let unified = mount.fs_type == "cgroup2";
        if (!unified && mount.fs_type != "cgroup") || !mount.mount_point.starts_with(CGROUP_ROOT) {
            continue;
        }
        let cpuset_v1 = !unified && mount.super_options.iter().any(|option| option == "cpuset");
        found.push(Hierarchy { mount_point: mount.mount_point, unified, cpuset_v1 });
    }
    found
}

impl Hierarchy {
    fn lab(&self, lab: &str) -> PathBuf {
        self.mount_point.join(format!("ashlar-{lab}"))
    }

    /// The group of a host.
    pub(crate) fn host(&self, lab: &str, host: &str) -> PathBuf {
        self.lab(lab).join(host)
    }

    /// Path of the hierarchy below `/sys/fs/cgroup`; empty on a machine with v2 alone.
    pub(crate) fn below_root(&self) -> &Path {
        self.mount_point.strip_prefix(CGROUP_ROOT).unwrap_or(Path::new(""))
    }
}

/// Symbolic links in `/sys/fs/cgroup` (`cpu → cpu,cpuacct`), by which programs find controllers mounted together.
pub(crate) fn links() -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(CGROUP_ROOT) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?)))
        .collect()
}

/// Makes the groups of a host. Says whether one was missing.
pub(crate) fn ensure_host(hierarchies: &[Hierarchy], lab: &str, host: &str) -> Result<bool, LabError> {
    let mut changed = false;
    for hierarchy in hierarchies {
        let levels = [hierarchy.lab(lab), hierarchy.host(lab, host), hierarchy.host(lab, host).join(DAEMONS)];
        for (depth, dir) in levels.iter().enumerate() {
            changed |= ensure_group(hierarchy, dir)?;
            if hierarchy.unified && depth == 0 {
                enable_controllers(&hierarchy.mount_point);
                enable_controllers(dir);
            }
        }
    }
    Ok(changed)
}

fn ensure_group(hierarchy: &Hierarchy, dir: &Path) -> Result<bool, LabError> {
    let made = match fs::create_dir(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(LabError::io("create the cgroup", dir)(error)),
    };
    if hierarchy.cpuset_v1 {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(dir, file)?;
        }
    }
    Ok(made)
}

/// Copies a cpuset file of the parent into a new group.
fn inherit(dir: &Path, file: &str) -> Result<(), LabError> {
    let own = dir.join(file);
    if fs::read_to_string(&own).is_ok_and(|text| !text.trim().is_empty()) {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir).join(file);
    let value = fs::read_to_string(&parent).map_err(LabError::io("read", &parent))?;
    fs::write(&own, value).map_err(LabError::io("write", own))
}

/// Hands controllers of a v2 group down to its children, one by one, as far as it goes: at the top of a container
/// there are processes, and the kernel refuses. Domains then start all the same, without limits of their own.
fn enable_controllers(dir: &Path) {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let enabled = read("cgroup.subtree_control");
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    for controller in read("cgroup.controllers").split_whitespace() {
        if enabled.contains(&controller) || !CONTROLLERS.contains(&controller) {
            continue;
        }
        if let Err(error) = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(controller, dir = %dir.display(), %error, "cgroup controller stays off");
        }
    }
}

/// Open files through which a child process puts itself into groups, after `fork` and before `exec`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The host's group: the child makes it the root of its cgroup namespace. Only for a host's first process.
    pub(crate) top: Vec<File>,
    /// The group of its daemons.
    pub(crate) daemons: Vec<File>,
}

/// Opens the groups of a host for entering.
pub(crate) fn entry(
    hierarchies: &[Hierarchy],
    lab: &str,
    host: &str,
    first: bool,
) -> Result<Entry, LabError> {
    let open = |dir: PathBuf| {
        let path = dir.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).map_err(LabError::io("open", path))
    };
    let mut entry = Entry { top: Vec::new(), daemons: Vec::new() };
    for hierarchy in hierarchies {
        let dir = hierarchy.host(lab, host);
        if first {
            entry.top.push(open(dir.clone())?);
        }
        entry.daemons.push(open(dir.join(DAEMONS))?);
    }
    Ok(entry)
}

/// Directories of a host (or of the whole lab), for finding processes.
pub(crate) fn dirs(hierarchies: &[Hierarchy], lab: &str, host: Option<&str>) -> Vec<PathBuf> {
    let dir = |hierarchy: &Hierarchy| match host {
        Some(host) => hierarchy.host(lab, host),
        None => hierarchy.lab(lab),
    };
    hierarchies.iter().map(dir).filter(|dir| dir.is_dir()).collect()
}

/// Removes groups with all that is below. Their processes must be dead; the kernel may take a moment to notice.
pub(crate) fn remove(dirs: &[PathBuf]) -> Result<(), LabError> {
    for dir in dirs {
        let mut last = None;
        let gone = wait_until(Duration::from_secs(10), || {
            last = remove_tree(dir).err();
            Ok(last.is_none())
        })?;
        if let (false, Some(error)) = (gone, last) {
            return Err(LabError::io("remove the cgroup", dir)(error));
        }
    }
    Ok(())
}

/// cgroups are removed by `rmdir` from below; their files go by themselves.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str) -> Vec<(String, bool, bool)> {
        among(mountinfo::parse(mountinfo))
            .into_iter()
            .map(|it| (it.below_root().display().to_string(), it.unified, it.cpuset_v1))
            .collect()
    }

    #[test]
    fn v2_alone_is_mounted_at_the_root() {
        let text = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(found(text), [(String::new(), true, false)]);
    }

    #[test]
    fn v1_with_controllers_mounted_together() {
        let text = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                    34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let names = [("cpu,cpuacct", false, false), ("cpuset", false, true), ("systemd", false, false)];
        assert_eq!(found(text), names.map(|(name, v2, cpuset)| (name.to_owned(), v2, cpuset)));
    }

    #[test]
    fn mixed_machines_have_v2_beside_v1_and_other_mounts_do_not_count() {
        let text = "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    42 1 0:38 / /var/lib/x/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(text), [("memory".to_owned(), false, false), ("unified".to_owned(), true, false)]);
    }
}
