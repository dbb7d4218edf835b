//! Named network namespaces, in `/run/netns` where `ip netns` and `nsenter --net` find them.
//!
//! They are made here rather than by `ip netns add`, which leaves `/run/netns` mounted over itself for good.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::LabError;
use crate::names::NetnsRole;

const DIR: &str = "/run/netns";

/// Where a namespace of that name is.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Inode of the namespace; `None` if there is none of that name (a file alone is a leftover).
pub(crate) fn inode(name: &str) -> Option<u64> {
    let meta = fs::metadata(path(name)).ok()?;
    let own = fs::metadata("/proc/self/ns/net").ok()?;
    // All namespaces live on one nsfs, which no plain file is on.
    (meta.dev() == own.dev()).then_some(meta.ino())
}

/// Opens a namespace for `setns`.
pub(crate) fn open(name: &str) -> Result<File, LabError> {
    let path = path(name);
    File::open(&path).map_err(LabError::io("open", path))
}

/// Makes the namespace unless it is there. Says whether it was missing.
pub(crate) fn ensure(name: &str) -> Result<bool, LabError> {
    if inode(name).is_some() {
        return Ok(false);
    }
    fs::create_dir_all(DIR).map_err(LabError::io("create", DIR))?;
    let target = path(name);
    File::create(&target).map_err(LabError::io("create", &target))?;
    // A thread of its own moves into a new namespace and takes it along when it ends; the mount keeps it.
    let bound = thread::scope(|scope| {
        let target = &target;
        let maker = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(LabError::NoNamespaces)?;
            mount(Some("/proc/thread-self/ns/net"), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(LabError::sys(format!("name the network namespace {}", target.display())))
        });
        maker.join().unwrap_or_else(|_| Err(LabError::sys("make a network namespace")(Errno::EAGAIN)))
    });
    bound.map(|()| true)
}

/// Removes the name; the namespace goes with its last process. Says whether there was one.
pub(crate) fn remove(name: &str) -> Result<bool, LabError> {
    let path = path(name);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // One could have been mounted over another.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(LabError::sys(format!("unmount {}", path.display()))(errno)),
        }
    }
    let removed = match fs::remove_file(&path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(LabError::io("remove", path)(error)),
    };
    // Refused while others have namespaces there; `ip netns add` makes it anew.
    let _ = fs::remove_dir(DIR);
    Ok(removed)
}

/// All namespaces of a lab, leftovers of a crash included.
pub(crate) fn of_lab(lab: &str) -> Vec<(NetnsRole, String)> {
    let Ok(entries) = fs::read_dir(DIR) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| NetnsRole::parse(lab, &name).map(|role| (role, name)))
        .collect();
    found.sort();
    found
}
