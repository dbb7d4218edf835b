//! The storage pool that every host of a lab comes with. Made by `virsh`, run inside the host: setting up a machine
//! that is to be managed is the lab's business, not the product's.

use std::time::Duration;

use crate::LabError;
use crate::command;
use crate::host::RunningHost;
use crate::names::{POOL_NAME, POOL_PATH};

const VIRSH_DEADLINE: Duration = Duration::from_secs(60);

/// Defines and starts the pool unless it is active; it starts with the host. Says whether something was done. Also
/// proves that libvirt answers.
pub(crate) fn ensure(host: &RunningHost) -> Result<bool, LabError> {
    let info = virsh(host, &["pool-info", POOL_NAME]);
    let (defined, active, autostart) = match &info {
        Ok(text) => (true, has(text, "State:", "running"), has(text, "Autostart:", "yes")),
        Err(LabError::Command { stderr, .. }) if stderr.contains("Storage pool not found") => {
            (false, false, false)
        }
        Err(_) => return info.map(|_| false),
    };
    if !defined {
        virsh(host, &["pool-define-as", POOL_NAME, "dir", "--target", POOL_PATH])?;
    }
    if !autostart {
        virsh(host, &["pool-autostart", POOL_NAME])?;
    }
    if !active {
        virsh(host, &["pool-start", POOL_NAME])?;
    }
    Ok(!(defined && active && autostart))
}

fn has(text: &str, key: &str, value: &str) -> bool {
    text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim() == value))
}

fn virsh(host: &RunningHost, args: &[&str]) -> Result<String, LabError> {
    let mut virsh = command::command("virsh");
    virsh.args(["--quiet", "--connect", "qemu:///system"]).args(args);
    host.checked(&mut virsh, VIRSH_DEADLINE)
}
