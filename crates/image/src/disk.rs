//! Disks: an ext4 file system made from a directory without mounting anything, as qcow2.

use std::fs::File;
use std::path::Path;

use crate::cache::Context;
use crate::error::{Error, Result};
use crate::run::Run;

/// Makes `out` (qcow2) of `virtual_size_bytes` with an ext4 file system labelled `label` on the whole disk,
/// filled from `content`. No partition table: the kernel is given to QEMU directly, and growing is one resize.
pub(crate) fn ext4_qcow2(
    ctx: &Context<'_>,
    stage: &str,
    out: &Path,
    label: &str,
    virtual_size_bytes: u64,
    content: &Path,
) -> Result<()> {
    let temp = ctx.temp_dir(stage)?;
    let raw = temp.path().join("disk.raw");
    File::create(&raw)
        .and_then(|file| file.set_len(virtual_size_bytes))
        .map_err(Error::io(stage, "create", &raw))?;
    Run::new(stage, "mke2fs", 900, ctx.cancel)
        .args(["-q", "-F", "-t", "ext4", "-L", label, "-m", "1", "-E"])
        // The whole file is new: lazy initialization would only move this work into the guest's first boot.
        .arg("lazy_itable_init=0,lazy_journal_init=0,discard")
        .arg("-d")
        .args([content, &raw])
        .output()?;
    Run::new(stage, "qemu-img", 900, ctx.cancel)
        .args(["convert", "-q", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"])
        .args([raw.as_path(), out])
        .output()?;
    Ok(())
}
