//! Named network namespaces, in `/run/netns` where `ip netns` and `nsenter --net` find them.
//!
//! `ip netns add` mounts the directory over itself, once, with all that is in it. Names that were there before then exist
//! twice, the first time out of reach, and cannot be removed any more. So the directory has to be a mount point before
//! the first name: a tmpfs of ours, which goes with the last one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{major, minor};

use crate::LabError;
use crate::mountinfo;
use crate::names::NetnsRole;

const DIR: &str = "/run/netns";
/// Tells a mount of ours from one of `ip`.
const MOUNT_SOURCE: &str = "ashlar-netns";

const NONE: Option<&str> = None;

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
    let _lock = lock()?;
    ensure_dir()?;
    let target = path(name);
    File::create(&target).map_err(LabError::io("create", &target))?;
    // A thread of its own moves into a new namespace and takes it along when it ends; the mount keeps it.
    let bound = thread::scope(|scope| {
        let target = &target;
        let maker = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(LabError::NoNamespaces)?;
            mount(Some("/proc/thread-self/ns/net"), target, NONE, MsFlags::MS_BIND, NONE)
                .map_err(LabError::sys(format!("name the network namespace {}", target.display())))
        });
        maker.join().unwrap_or_else(|_| Err(LabError::sys("make a network namespace")(Errno::EAGAIN)))
    });
    bound.map(|()| true)
}

/// Removes the name; the namespace goes with its last process. Says whether there was one.
pub(crate) fn remove(name: &str) -> Result<bool, LabError> {
    let _lock = lock()?;
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
    remove_empty_dir()?;
    Ok(removed)
}

/// Keeps other labs from making the directory while this one removes it. Nobody else locks `/run` itself.
fn lock() -> Result<File, LabError> {
    let run = File::open("/run").map_err(LabError::io("open", "/run"))?;
    run.lock().map_err(LabError::io("lock", "/run"))?;
    Ok(run)
}

fn is_empty(dir: &str) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn ensure_dir() -> Result<(), LabError> {
    fs::create_dir_all(DIR).map_err(LabError::io("create", DIR))?;
    // As `ip netns` has it: a name that is removed goes from all mount namespaces that copied it, too. It works on
    // mount points only; whether it is one cannot be read in mountinfo, which lists hidden mounts as well.
    let share = || mount(NONE, DIR, NONE, MsFlags::MS_SHARED | MsFlags::MS_REC, NONE);
    match share() {
        Ok(()) => return Ok(()),
        Err(Errno::EINVAL) => {}
        Err(errno) => return Err(LabError::sys(format!("share {DIR}"))(errno)),
    }
    let made = if is_empty(DIR) {
        mount(Some(MOUNT_SOURCE), DIR, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
    } else {
        // Somebody else's names, and no `ip netns` yet: what it would do.
        mount(Some(DIR), DIR, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
    };
    made.map_err(LabError::sys(format!("mount {DIR}")))?;
    share().map_err(LabError::sys(format!("share {DIR}")))
}

fn remove_empty_dir() -> Result<(), LabError> {
    let Ok(meta) = fs::metadata(DIR) else { return Ok(()) };
    let device = format!("{}:{}", major(meta.dev()), minor(meta.dev()));
    let mounts = mountinfo::of_this_thread()?;
    let ours = mounts.iter().any(|it| it.source == MOUNT_SOURCE && it.device == device);
    if ours && is_empty(DIR) {
        umount2(DIR, MntFlags::MNT_DETACH).map_err(LabError::sys(format!("unmount {DIR}")))?;
        // Refused if there is anything below; `ip netns add` makes it anew.
        let _ = fs::remove_dir(DIR);
    }
    Ok(())
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
