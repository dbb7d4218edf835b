//! Runs things inside a lab's namespaces.
//!
//! A namespace belongs to a thread: a thread made for the purpose enters, starts the program, which inherits where the
//! thread is, and ends. The rest of this process never moves.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{setsid, write};

use crate::LabError;
use crate::cgroup;

/// Open namespaces to enter.
#[derive(Debug)]
pub(crate) struct Namespaces {
    files: Vec<(File, CloneFlags)>,
}

impl Namespaces {
    /// A network namespace alone.
    pub(crate) fn network(file: File) -> Self {
        Self { files: vec![(file, CloneFlags::CLONE_NEWNET)] }
    }

    /// Several; the mount namespace must come last, since it moves the root directory.
    pub(crate) fn new(files: Vec<(File, CloneFlags)>) -> Self {
        Self { files }
    }

    /// Runs `work` on a thread inside the namespaces. Of a process namespace only its children are inside, and it can
    /// start no further threads, so that `work` had better only spawn.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                work()
            });
            inside.join().unwrap_or_else(|_| Err(LabError::sys("run inside a namespace")(Errno::EAGAIN)))
        })
    }

    /// Moves the calling thread for good.
    pub(crate) fn enter(&self) -> Result<(), LabError> {
        for (file, kind) in &self.files {
            if *kind == CloneFlags::CLONE_NEWNS {
                // A mount namespace can be changed only by a thread with a root and working directory of its own.
                unshare(CloneFlags::CLONE_FS).map_err(LabError::sys("leave the shared working directory"))?;
            }
            setns(file, *kind).map_err(LabError::sys(format!("enter a namespace ({kind:?})")))?;
        }
        Ok(())
    }
}

/// Where a child puts itself between `fork` and `exec`.
#[derive(Debug)]
pub(crate) struct ChildPlace {
    /// The cgroups; `None` leaves it in its parent's.
    pub(crate) cgroups: Option<cgroup::Entry>,
    /// A session of its own, so that Ctrl-C in the caller's terminal does not reach it.
    pub(crate) own_session: bool,
}

/// Arranges for the child to place itself. A process can enter a cgroup, and make it the root of a new cgroup
/// namespace, only by itself: no thread of the parent can do it on its behalf under cgroup v2.
#[expect(unsafe_code, reason = "Command::pre_exec is unsafe: its closure runs between fork and exec")]
pub(crate) fn place_child(command: &mut Command, place: ChildPlace) {
    let settle = move || -> std::io::Result<()> {
        if place.own_session {
            setsid()?;
        }
        let Some(cgroups) = &place.cgroups else { return Ok(()) };
        // "0" means the writer.
        for file in &cgroups.top {
            write(file, b"0")?;
        }
        if !cgroups.top.is_empty() {
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
        }
        for file in &cgroups.daemons {
            write(file, b"0")?;
        }
        Ok(())
    };
    // SAFETY: after fork in a program with threads only async-signal-safe calls are allowed. The closure makes the
    // system calls setsid, write and unshare on files opened before, and neither allocates nor takes locks.
    unsafe { command.pre_exec(settle) };
}
