//! What must be so before anything is made.

use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::LabError;
use crate::command::find_program;
use crate::daemon::LibvirtFlavour;
use crate::error::MissingProgram;

/// Programs and the Debian packages that ship them.
const PROGRAMS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("tini", "tini"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("virsh", "libvirt-clients"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("virt-ssh-helper", "libvirt-daemon-system"),
];

/// Directories that a host's own are mounted over.
const DIRECTORIES: [(&str, &str); 3] = [
    ("/etc/libvirt", "libvirt-daemon-system"),
    ("/var/lib/libvirt", "libvirt-daemon-system"),
    ("/var/cache/libvirt", "libvirt-daemon-system"),
];

/// Checks that a lab can be made here.
///
/// # Errors
/// Not root; programs missing (with the packages to install); no permission to make namespaces.
pub fn preflight() -> Result<(), LabError> {
    check_root()?;
    let missing = missing_programs();
    if !missing.is_empty() {
        return Err(LabError::MissingPrograms(missing));
    }
    for (path, package) in DIRECTORIES {
        if !Path::new(path).is_dir() {
            return Err(LabError::MissingDirectory { path: PathBuf::from(path), package });
        }
    }
    check_namespaces()
}

pub(crate) fn check_root() -> Result<(), LabError> {
    if geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

fn missing_programs() -> Vec<MissingProgram> {
    let mut needed = PROGRAMS.to_vec();
    let daemons = LibvirtFlavour::of_this_machine().daemons();
    needed.extend(daemons.iter().skip(1).map(|daemon| (daemon.program(), "libvirt-daemon-system")));
    needed
        .into_iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(program, package)| MissingProgram { program: program.to_owned(), package: package.to_owned() })
        .collect()
}

/// Tries on a thread that ends at once, and its namespaces with it.
fn check_namespaces() -> Result<(), LabError> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP;
    let tried = thread::spawn(move || unshare(all)).join().unwrap_or(Err(Errno::EAGAIN));
    tried.map_err(LabError::NoNamespaces)
}
