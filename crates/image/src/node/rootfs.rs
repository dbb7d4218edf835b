//! The node's root file system: Debian packages, our files over them, and the finishing touches inside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cache::Context;
use crate::debian::{APT_RETRIES, Debian};
use crate::error::{Error, Result};
use crate::run::Run;

/// Debian packages of a node. No kernel package: the kernel is booted from a file beside the disk, so that its
/// modules must stay what they are, whatever `apt` does in the guest.
pub(super) const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "dbus",
    "udev",
    "cloud-init",
    "iproute2",
    "iptables",
    "nftables",
    "conntrack",
    "ethtool",
    "kmod",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "keepalived",
    "qemu-guest-agent",
    "openssh-server",
    "ca-certificates",
    "curl",
    "socat",
    "e2fsprogs",
    "procps",
    "iputils-ping",
    "chrony",
    "open-iscsi",
    "nfs-common",
    "logrotate",
];

/// Left out when packages are unpacked; the licences stay.
pub(super) const EXCLUDED: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// Our files, by their path in the node.
pub(super) const FILES: &[(&str, u32, &str)] = &[
    ("etc/fstab", 0o644, include_str!("../../assets/rootfs/etc/fstab")),
    (
        "etc/cloud/cloud.cfg.d/90-ashlar.cfg",
        0o644,
        include_str!("../../assets/rootfs/etc/cloud/cloud.cfg.d/90-ashlar.cfg"),
    ),
    ("etc/containerd/config.toml", 0o644, include_str!("../../assets/rootfs/etc/containerd/config.toml")),
    (
        "etc/modules-load.d/ashlar.conf",
        0o644,
        include_str!("../../assets/rootfs/etc/modules-load.d/ashlar.conf"),
    ),
    ("etc/sysctl.d/90-ashlar.conf", 0o644, include_str!("../../assets/rootfs/etc/sysctl.d/90-ashlar.conf")),
    (
        "etc/systemd/journald.conf.d/ashlar.conf",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/journald.conf.d/ashlar.conf"),
    ),
    (
        "etc/systemd/network/10-ashlar-pods.link",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/network/10-ashlar-pods.link"),
    ),
    (
        "etc/systemd/networkd.conf.d/ashlar.conf",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/networkd.conf.d/ashlar.conf"),
    ),
    (
        "etc/systemd/system-preset/00-ashlar.preset",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system-preset/00-ashlar.preset"),
    ),
    (
        "etc/systemd/system/ashlar-bootstrap.service",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/ashlar-bootstrap.service"),
    ),
    (
        "etc/systemd/system/ashlar-flannel-cni.path",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/ashlar-flannel-cni.path"),
    ),
    (
        "etc/systemd/system/ashlar-flannel-cni.service",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/ashlar-flannel-cni.service"),
    ),
    (
        "etc/systemd/system/ashlar-cloud-init.service",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/ashlar-cloud-init.service"),
    ),
    (
        "etc/systemd/system/chrony.service.d/ashlar.conf",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/chrony.service.d/ashlar.conf"),
    ),
    (
        "etc/systemd/system/containerd.service",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/containerd.service"),
    ),
    (
        "etc/systemd/system/ssh.service.d/ashlar.conf",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/ssh.service.d/ashlar.conf"),
    ),
    (
        "etc/systemd/system/kubelet.service",
        0o644,
        include_str!("../../assets/rootfs/etc/systemd/system/kubelet.service"),
    ),
    ("usr/lib/ashlar/bootstrap", 0o755, include_str!("../../assets/rootfs/usr/lib/ashlar/bootstrap")),
    ("usr/lib/ashlar/flannel-cni", 0o755, include_str!("../../assets/rootfs/usr/lib/ashlar/flannel-cni")),
];

/// Runs once inside, at the end.
pub(super) const FINISH: &str = include_str!("../../assets/finish.sh");

/// Where our container runtime's pause image stands in its configuration.
const PAUSE_MARK: &str = "@PAUSE_IMAGE@";

/// Installs the packages into `root`.
pub(super) fn install(ctx: &Context<'_>, stage: &str, debian: &Debian, root: &Path) -> Result<()> {
    Run::new(stage, "mmdebstrap", 1800, ctx.cancel)
        .args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory", APT_RETRIES])
        .args(EXCLUDED.iter().map(|option| format!("--dpkgopt={option}")))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args([&debian.suite, root.to_string_lossy().as_ref(), &debian.mirror])
        .output()?;
    Ok(())
}

/// Copies a tree with everything that belongs to it, sharing blocks where the file system can.
pub(super) fn copy_tree(ctx: &Context<'_>, stage: &str, from: &Path, to: &Path) -> Result<()> {
    Run::new(stage, "cp", 900, ctx.cancel).args(["-a", "--reflink=auto"]).args([from, to]).output()?;
    Ok(())
}

/// Writes our files.
pub(super) fn write_files(stage: &str, root: &Path, pause_image: &str) -> Result<()> {
    for (name, mode, text) in FILES {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io(stage, "create", parent))?;
        }
        fs::write(&path, text.replace(PAUSE_MARK, pause_image)).map_err(Error::io(stage, "write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).map_err(Error::io(
            stage,
            "set the mode of",
            &path,
        ))?;
    }
    Ok(())
}

/// Copies programs into `/usr/bin`.
pub(super) fn add_programs(stage: &str, root: &Path, from: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let source = from.join(name);
        let target = root.join("usr/bin").join(name);
        fs::copy(&source, &target).map_err(Error::io(stage, "copy", &source))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(Error::io(
            stage,
            "set the mode of",
            &target,
        ))?;
    }
    Ok(())
}

/// Puts released CNI plugins over Debian's.
pub(super) fn add_cni_plugins(stage: &str, root: &Path, from: &Path) -> Result<()> {
    let to = root.join("opt/cni/bin");
    for entry in fs::read_dir(from).map_err(Error::io(stage, "read", from))? {
        let source = entry.map_err(Error::io(stage, "read", from))?.path();
        // Licence and readme lie beside the plugins.
        let is_program = fs::metadata(&source)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
        if let Some(name) = source.file_name().filter(|_| is_program) {
            let target = to.join(name);
            // A link or a file of Debian's is not to be written through.
            if target.symlink_metadata().is_ok() {
                fs::remove_file(&target).map_err(Error::io(stage, "remove", &target))?;
            }
            fs::copy(&source, &target).map_err(Error::io(stage, "copy", &source))?;
        }
    }
    Ok(())
}

/// Runs the finishing script in `root`, in namespaces of its own that take every process and mount with them when
/// they end, and returns the references of the OCI images that are then in the node's containerd.
pub(super) fn finish(
    ctx: &Context<'_>,
    stage: &str,
    root: &Path,
    kernel_release: &str,
    archives: &[PathBuf],
) -> Result<Vec<String>> {
    // Paths come as arguments, never as text of the script.
    const ENTER: &str = r#"set -e
root=$1 work=$2 kernel=$3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/archives" "$root/run/archives.out"
mount --bind "$work/in" "$root/run/archives"
mount --bind "$work/out" "$root/run/archives.out"
exec chroot "$root" /bin/bash /run/archives.out/finish.sh "$kernel"
"#;
    let work = ctx.temp_dir(stage)?;
    let (input, output) = (work.path().join("in"), work.path().join("out"));
    for dir in [&input, &output] {
        fs::create_dir(dir).map_err(Error::io(stage, "create", dir))?;
    }
    for (i, archive) in archives.iter().enumerate() {
        let link = input.join(format!("{i:02}.tar"));
        if fs::hard_link(archive, &link).is_err() {
            fs::copy(archive, &link).map_err(Error::io(stage, "copy", archive))?;
        }
    }
    let script = output.join("finish.sh");
    fs::write(&script, FINISH).map_err(Error::io(stage, "write", &script))?;
    Run::new(stage, "unshare", 1800, ctx.cancel)
        .args(["--mount", "--pid", "--ipc", "--fork", "--kill-child=KILL", "/bin/sh", "-c", ENTER, "finish"])
        .args([root, work.path()])
        .arg(kernel_release)
        .output()?;
    let list = output.join("images.txt");
    let text = fs::read_to_string(&list).map_err(Error::io(stage, "read", &list))?;
    Ok(text.lines().map(str::to_owned).collect())
}
