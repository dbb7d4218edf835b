//! What a host's `/etc/libvirt` holds. It does not copy the machine's: an administrator's TLS listeners, hooks and
//! networks are not the lab's.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use crate::LabError;
use crate::daemon::LibvirtFlavour;
use crate::files::{copy_tree, ensure_dir, ensure_file};
use crate::layout::HostPaths;

/// Whether this machine's kernel enforces AppArmor, in which case the lab keeps it on, as real hosts have it.
pub(crate) fn apparmor_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
        && Path::new(APPARMOR_DIR).is_dir()
}

/// Where libvirt keeps its templates, and the profile of each running domain.
pub(crate) const APPARMOR_DIR: &str = "/etc/apparmor.d/libvirt";

/// Writes the configuration of libvirt.
pub(crate) fn ensure_libvirt(
    paths: &HostPaths,
    host_uuid: Uuid,
    flavour: LibvirtFlavour,
) -> Result<(), LabError> {
    let dir = paths.etc_libvirt();
    ensure_dir(&dir, 0o755)?;
    for sub in ["hooks", "qemu/networks/autostart", "storage/autostart", "secrets"] {
        ensure_dir(&dir.join(sub), 0o755)?;
    }
    // The stock filters are data of the package. libvirt gives them UUIDs and writes them back.
    let filters = Path::new("/etc/libvirt/nwfilter");
    if filters.is_dir() && !dir.join("nwfilter").exists() {
        copy_tree(filters, &dir.join("nwfilter"))?;
    }
    for daemon in flavour.daemons() {
        let program = daemon.program();
        let text = daemon_config(program, host_uuid);
        if let Some(text) = text {
            ensure_file(&dir.join(format!("{program}.conf")), text.as_bytes(), 0o600)?;
        }
    }
    ensure_file(&dir.join("libvirt.conf"), b"", 0o644)?;
    ensure_file(&dir.join("qemu.conf"), qemu_config(apparmor_enabled()).as_bytes(), 0o600)?;
    if apparmor_enabled() && !paths.apparmor().exists() {
        copy_templates(&paths.apparmor())?;
    }
    Ok(())
}

fn daemon_config(program: &str, host_uuid: Uuid) -> Option<String> {
    let log = format!("log_outputs = \"3:file:/var/log/libvirt/{program}.log\"\n");
    match program {
        "sshd" => None,
        "virtlogd" | "virtlockd" => Some(log),
        // The socket is in the host's own /run; whoever is root there may use it, as over SSH on a real host. No
        // polkit runs in a lab.
        _ => Some(format!(
            "auth_unix_rw = \"none\"\nunix_sock_group = \"root\"\nunix_sock_rw_perms = \"0700\"\n\
             # Nested labs and machines without DMI would give every host the same one, and refuse migration.\n\
             host_uuid = \"{host_uuid}\"\n{log}"
        )),
    }
}

/// QEMU runs as the distribution has it (its own user, in a mount namespace of its own).
fn qemu_config(apparmor: bool) -> String {
    let mut text = String::from("# Whatever is not set here is as the distribution ships it.\n");
    if !apparmor {
        text.push_str("# This machine's kernel has no AppArmor.\nsecurity_driver = \"none\"\n");
    }
    text
}

/// Templates without the profiles of the machine's own domains.
fn copy_templates(to: &Path) -> Result<(), LabError> {
    ensure_dir(to, 0o755)?;
    for entry in fs::read_dir(APPARMOR_DIR).map_err(LabError::io("list", APPARMOR_DIR))? {
        let entry = entry.map_err(LabError::io("list", APPARMOR_DIR))?;
        if entry.file_name().to_string_lossy().starts_with("TEMPLATE") {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(LabError::io("copy", entry.path()))?;
        }
    }
    Ok(())
}

/// Takes the profiles of a host's domains out of the kernel; libvirt does it when a domain stops, and never gets to it
/// when the host is killed.
pub(crate) fn unload_apparmor_profiles(paths: &HostPaths) {
    let Ok(entries) = fs::read_dir(paths.apparmor()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("libvirt-") || name.ends_with(".files") {
            continue;
        }
        // By name, since the profile's text includes files at paths that only the host saw.
        if let Err(error) = fs::write("/sys/kernel/security/apparmor/.remove", &name) {
            tracing::debug!(profile = name, %error, "AppArmor profile was not loaded");
        }
    }
}
