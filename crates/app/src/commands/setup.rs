//! `ashlar setup`: the system packages of Debian that labs and image builds need.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::cli::SetupArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::settings::Settings;

/// What labs and hosts need: libvirt, QEMU, SSH, the network's tools, and what asks BMCs.
const LAB: &[&str] = &[
    "ipmitool",
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon-system",
    "nftables",
    "openssh-client",
    "openssh-server",
    "qemu-system-x86",
    "qemu-utils",
    "tini",
];
/// What image builds need: a root file system, its disk, kernel modules unpacked, certificates for downloads.
const IMAGE: &[&str] = &["ca-certificates", "e2fsprogs", "mmdebstrap", "xz-utils"];
/// What only the tests need: a registry to serve images locally, a simulated BMC, eyes on the network, and a systemd that the
/// unit is run by.
const TESTS: &[&str] = &[
    "arping",
    "cpio",
    "docker-registry",
    "iputils-ping",
    "openipmi",
    "sqlite3",
    "systemd",
    "tcpdump",
    "xorriso",
];

/// Where dpkg keeps what is installed.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// Installs what is missing.
pub(crate) fn setup(settings: &Settings, args: &SetupArgs) -> Result {
    let missing = missing(args.tests)?;
    let printer = &settings.printer;
    if missing.is_empty() {
        printer.note("all system packages are installed; nothing to do");
        return Ok(Exit::Success);
    }
    let list = missing.join(" ");
    if args.check {
        printer.note(format!("missing: {list}"));
        return Ok(Exit::Failure);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(format!("these system packages are missing: {list}"))
            .hint(format!("as root: apt-get install -y --no-install-recommends {list}")));
    }
    printer.note(format!("installing {list}"));
    run_apt(&["update", "-q"])
        .hint("is there a network, and are the lines in /etc/apt/sources.list right?")?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    run_apt(&install)?;
    let left = self::missing(args.tests)?;
    if !left.is_empty() {
        return Err(Failure::new(format!(
            "apt-get ended well, but these are still missing: {}",
            left.join(" ")
        )));
    }
    printer.note(format!("installed {list}"));
    Ok(Exit::Success)
}

/// Packages that are missing, by name. Reads dpkg's own list: asking dpkg takes a hundred times as long.
pub(crate) fn missing(tests: bool) -> Result<Vec<&'static str>> {
    let text = std::fs::read_to_string(DPKG_STATUS).map_err(|error| {
        Failure::from(error).because_of(format!("cannot read {DPKG_STATUS}: is this a Debian machine?")).hint(
            "on another distribution install libvirt, QEMU, OpenSSH, nftables and mmdebstrap with its own tool",
        )
    })?;
    let installed = installed(&text);
    let wanted = LAB.iter().chain(IMAGE).chain(if tests { TESTS } else { &[] });
    Ok(wanted.copied().filter(|name| !installed.contains(name)).collect())
}

/// The packages that dpkg's status file calls installed.
fn installed(status: &str) -> BTreeSet<&str> {
    let mut installed = BTreeSet::new();
    let mut name = "";
    for line in status.lines() {
        if let Some(package) = line.strip_prefix("Package: ") {
            name = package;
        } else if line == "Status: install ok installed" || line == "Status: hold ok installed" {
            installed.insert(name);
        }
    }
    installed
}

/// Runs apt-get; what it says goes to stderr, and a running package manager is waited for.
fn run_apt(args: &[&str]) -> Result<()> {
    let program = ["/usr/bin/apt-get", "/bin/apt-get"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        return Err(Failure::new("there is no apt-get on this machine")
            .hint("on another distribution install the packages with its own tool"));
    };
    let status = Command::new(program)
        .args(["-oDPkg::Lock::Timeout=300", "-oAcquire::Retries=5"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context(format!("cannot run {program}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("apt-get {} failed ({status}); its output is above", args.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n\n\
                      Package: c\nPriority: optional\nStatus: hold ok installed\n";
        assert_eq!(installed(status).into_iter().collect::<Vec<_>>(), ["a", "c"]);
    }
}
