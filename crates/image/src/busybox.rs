//! The test image: a kernel and busybox, for the probe that proves a host's accelerator and for lab tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::{BuildLock, BuiltImage, Context, image_name};
use crate::debian::{Debian, Kernel};
use crate::error::{Error, Result};
use crate::manifest::{DISK, INITRD, KERNEL, Manifest, Purpose};
use crate::{digest, disk, initrd, kmod, publish};

const INIT: &str = include_str!("../assets/test-init.sh");
/// An empty disk: the guest lives in its initrd, the disk is there to be attached.
const DISK_SIZE_BYTES: u64 = 16 << 20;
const MODULES: &[&str] = &[
    "virtio_net",
    "virtio_scsi",
    "virtio_blk",
    "sd_mod",
    "sr_mod",
    "virtio_rng",
    "isofs",
    "ext4",
    "button",
    "evdev",
];
const PACKAGES: &[&str] = &["linux-image-cloud-amd64", "busybox-static"];

/// What decides the test image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestImageRequest {
    /// Where the kernel and busybox come from.
    pub debian: Debian,
}

#[derive(Serialize)]
struct Inputs<'a> {
    request: &'a TestImageRequest,
    init: &'a str,
    modules: &'a [&'a str],
    packages: &'a [&'a str],
}

/// Builds the test image, or returns the one that is there.
///
/// # Errors
/// See [`Error`]; a failed build leaves nothing but finished stages.
pub fn build_test_image(ctx: &Context<'_>, request: &TestImageRequest) -> Result<BuiltImage> {
    const STAGE: &str = "test image";
    let inputs = Inputs { request, init: INIT, modules: MODULES, packages: PACKAGES };
    let inputs_digest = digest::of_inputs(&inputs);
    let name = image_name("test-busybox", &inputs_digest);
    if let Some(image) = publish::existing(ctx, &name)? {
        return Ok(image);
    }
    let lock = ctx.lock()?;
    if let Some(image) = publish::existing(ctx, &name)? {
        return Ok(image);
    }
    let root = packages(ctx, &lock, &request.debian)?;
    ctx.step(STAGE, || {
        let kernel = Kernel::find(STAGE, &root)?;
        let out = ctx.temp_dir(STAGE)?;
        let target = out.path().join(KERNEL);
        fs::copy(&kernel.image, &target).map_err(Error::io(STAGE, "copy", &kernel.image))?;
        let modules = kmod::load_order(STAGE, &kernel.modules_dir, MODULES, ctx.cancel)?;
        initrd::busybox(STAGE, &out.path().join(INITRD), &root.join("usr/bin/busybox"), INIT, &modules)?;
        let empty = ctx.temp_dir(STAGE)?;
        disk::ext4_qcow2(ctx, STAGE, &out.path().join(DISK), "ashlar-test", DISK_SIZE_BYTES, empty.path())?;
        let manifest = Manifest {
            name,
            purpose: Purpose::Test,
            inputs_digest,
            kubernetes_version: None,
            os: format!("busybox on Debian {}'s kernel", request.debian.suite),
            arch: "x86_64".to_owned(),
            kubernetes: None,
            container_images: Vec::new(),
            packages: BTreeMap::new(),
            files: BTreeMap::new(),
            virtual_size_bytes: DISK_SIZE_BYTES,
            kernel_command_line: "console=ttyS0 quiet panic=5 net.ifnames=0".to_owned(),
            created: String::new(),
        };
        publish::publish(ctx, &lock, out, manifest)
    })
}

/// The kernel and busybox, unpacked: the test image's, and those that a node boots with.
pub(crate) fn packages(ctx: &Context<'_>, lock: &BuildLock, debian: &Debian) -> Result<PathBuf> {
    const STAGE: &str = "kernel packages";
    let kept = ctx.stage(lock, STAGE, &(debian, PACKAGES, "modules unpacked"), |dir| {
        let root = dir.join("root");
        debian.extract(ctx, STAGE, PACKAGES, &root)?;
        kmod::unpack_all(STAGE, &Kernel::find(STAGE, &root)?.modules_dir, ctx.cancel)
    })?;
    Ok(kept.join("root"))
}
