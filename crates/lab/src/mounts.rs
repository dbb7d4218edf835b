//! What a host sees of the file system: the machine's programs, and files of its own wherever hosts differ.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Group, chown};

use crate::LabError;
use crate::cgroup::{self, Hierarchy};
use crate::config::{APPARMOR_DIR, apparmor_enabled};
use crate::layout::HostPaths;
use crate::mountinfo;

const NONE: Option<&str> = None;

/// Mounts below these stay as the machine has them.
const KEPT: [&str; 9] = ["/dev", "/proc", "/sys", "/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64"];

/// Turns the calling thread's mount namespace, a fresh copy of the machine's, into the host's. The thread is in the
/// host's network namespace: `/sys` shows the network devices of the namespace that mounts it.
pub(crate) fn enter_host(
    lab: &str,
    host: &str,
    paths: &HostPaths,
    hierarchies: &[Hierarchy],
) -> Result<(), LabError> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(LabError::sys("separate the mounts of a host from the machine's"))?;
    let binds = binds(paths);
    detach_foreign(paths, &binds)?;
    stage_cgroups(lab, host, paths, hierarchies)?;
    mount_sysfs(paths, hierarchies)?;
    if Path::new("/dev/shm").is_dir() {
        mount(
            Some("tmpfs"),
            "/dev/shm",
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=1777"),
        )
        .map_err(LabError::sys("mount /dev/shm of a host"))?;
    }
    ensure_kvm_device(paths)?;
    for (source, target) in &binds {
        bind(source, target)?;
    }
    Ok(())
}

/// Gives `/dev/kvm` the owner that udev gives it (`root:kvm`, 0660), where no udev ran. A device that QEMU's user may
/// not open makes libvirt ask QEMU for its capabilities again at every call (libvirt 9.0: "KVM was enabled when probing,
/// but it is not available now"), which takes 4 s each time, and minutes for one `define`. Whether KVM works is
/// another question, and not the lab's.
fn ensure_kvm_device(paths: &HostPaths) -> Result<(), LabError> {
    let device = Path::new("/dev/kvm");
    let Ok(meta) = fs::metadata(device) else { return Ok(()) };
    let group = Group::from_name("kvm").map_err(LabError::sys("look up the group kvm"))?;
    let Some(group) = group.filter(|_| meta.mode() & 0o060 != 0o060) else { return Ok(()) };
    let stage = paths.stage();
    mount(Some("tmpfs"), &stage, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .map_err(LabError::sys(format!("mount {}", stage.display())))?;
    let node = stage.join("kvm");
    let mode = Mode::from_bits_truncate(0o660);
    mknod(&node, SFlag::S_IFCHR, mode, meta.rdev()).map_err(LabError::sys("make /dev/kvm of a host"))?;
    chown(&node, None, Some(group.gid)).map_err(LabError::sys("give /dev/kvm of a host to the group kvm"))?;
    fs::set_permissions(&node, Permissions::from_mode(0o660))
        .map_err(LabError::io("set the mode of", &node))?;
    bind(&node, device)?;
    umount2(&stage, MntFlags::MNT_DETACH).map_err(LabError::sys(format!("unmount {}", stage.display())))
}

/// What of the lab's state is mounted where. A target that hides the state directory itself comes last.
fn binds(paths: &HostPaths) -> Vec<(PathBuf, PathBuf)> {
    let mut binds: Vec<(PathBuf, PathBuf)> = [
        (paths.etc_libvirt(), "/etc/libvirt"),
        (paths.etc_ssh(), "/etc/ssh"),
        (paths.etc_file("hosts"), "/etc/hosts"),
        (paths.etc_file("hostname"), "/etc/hostname"),
        (paths.etc_file("machine-id"), "/etc/machine-id"),
        (paths.etc_file("shadow"), "/etc/shadow"),
        (paths.lib(), "/var/lib/libvirt"),
        (paths.cache(), "/var/cache/libvirt"),
        (paths.log(), "/var/log"),
        (paths.home(), "/root"),
        (paths.tmp(), "/tmp"),
        (paths.run(), "/run"),
    ]
    .map(|(source, target)| (source, PathBuf::from(target)))
    .to_vec();
    if apparmor_enabled() {
        binds.push((paths.apparmor(), PathBuf::from(APPARMOR_DIR)));
    }
    // A minimal system may lack some of these files (machine-id); then the host lacks them too.
    binds.retain(|(_, target)| target.exists());
    binds.sort_by_key(|(_, target)| paths.root().starts_with(target));
    binds
}

/// Unmounts what the host has no use for. A copy of a mount would keep what is mounted busy on the machine: above all
/// the network namespaces of other labs, which could then never end.
fn detach_foreign(paths: &HostPaths, binds: &[(PathBuf, PathBuf)]) -> Result<(), LabError> {
    let needed = |mount: &Path| {
        KEPT.iter().any(|kept| mount.starts_with(kept))
            || mount.starts_with(paths.root())
            || paths.root().starts_with(mount)
            || binds.iter().any(|(_, target)| target.starts_with(mount))
    };
    for mount in mountinfo::of_this_thread()?.into_iter().rev() {
        if !needed(&mount.mount_point) {
            // Fails only where it went along with its parent.
            let _ = umount2(&mount.mount_point, MntFlags::MNT_DETACH);
        }
    }
    Ok(())
}

/// Puts the host's own cgroup subtree together at a place that the next mounts do not hide.
fn stage_cgroups(
    lab: &str,
    host: &str,
    paths: &HostPaths,
    hierarchies: &[Hierarchy],
) -> Result<(), LabError> {
    let stage = paths.stage();
    if hierarchies.iter().any(|it| !it.below_root().as_os_str().is_empty()) {
        // Directories and links for several hierarchies; not on the disk, where `down` would have to find them.
        mount(Some("tmpfs"), &stage, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(LabError::sys(format!("mount {}", stage.display())))?;
        for (name, target) in cgroup::links() {
            symlink(target, stage.join(&name)).map_err(LabError::io("link", stage.join(name)))?;
        }
    }
    for hierarchy in hierarchies {
        let target = stage.join(hierarchy.below_root());
        fs::create_dir_all(&target).map_err(LabError::io("create", &target))?;
        bind(&hierarchy.host(lab, host), &target)?;
    }
    Ok(())
}

/// A `/sys` of the host's network namespace, with the host's cgroups in it.
fn mount_sysfs(paths: &HostPaths, hierarchies: &[Hierarchy]) -> Result<(), LabError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    umount2("/sys", MntFlags::MNT_DETACH).map_err(LabError::sys("unmount the machine's /sys in a host"))?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NONE)
        .map_err(LabError::sys("mount /sys of a host"))?;
    if apparmor_enabled() {
        let target = "/sys/kernel/security";
        mount(Some("securityfs"), target, Some("securityfs"), flags, NONE)
            .map_err(LabError::sys("mount /sys/kernel/security of a host"))?;
    }
    if hierarchies.is_empty() {
        return Ok(());
    }
    let stage = paths.stage();
    mount(Some(&stage), "/sys/fs/cgroup", NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .map_err(LabError::sys("mount /sys/fs/cgroup of a host"))?;
    umount2(&stage, MntFlags::MNT_DETACH).map_err(LabError::sys(format!("unmount {}", stage.display())))
}

fn bind(source: &Path, target: &Path) -> Result<(), LabError> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE).map_err(LabError::sys(format!(
        "mount {} over {}",
        source.display(),
        target.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::LabPaths;

    #[test]
    fn a_mount_that_hides_the_state_comes_last() {
        let paths = LabPaths::new(Path::new("/tmp/x/lab")).host("h1");
        let binds = binds(&paths);
        assert_eq!(binds.last().map(|(_, target)| target.as_path()), Some(Path::new("/tmp")));
    }
}
