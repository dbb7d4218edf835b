//! From finished files to an image under its name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cache::{BuildLock, BuiltImage, Context, inspect};
use crate::digest;
use crate::error::{Error, Result};
use crate::manifest::{DISK, INITRD, ImageFile, KERNEL, MANIFEST, Manifest};

/// The image of that name, when it is there.
pub(crate) fn existing(ctx: &Context<'_>, name: &str) -> Result<Option<BuiltImage>> {
    match inspect(ctx.cache_dir, name) {
        Ok(image) => Ok(Some(image)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Hashes the three files in `dir`, writes the manifest beside them and moves the directory into place.
pub(crate) fn publish(
    ctx: &Context<'_>,
    _lock: &BuildLock,
    dir: tempfile::TempDir,
    manifest: Manifest,
) -> Result<BuiltImage> {
    const STAGE: &str = "publish image";
    let mut manifest = manifest;
    let mut files = BTreeMap::new();
    for name in [DISK, KERNEL, INITRD] {
        let (sha256, size_bytes) = digest::of_file(STAGE, &dir.path().join(name))?;
        files.insert(name.to_owned(), ImageFile { sha256, size_bytes });
    }
    manifest.files = files;
    manifest.created = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let path = dir.path().join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::invalid(STAGE, format!("the manifest cannot be written: {e}")))?;
    fs::write(&path, text).map_err(Error::io(STAGE, "write", &path))?;
    make_readable(dir.path())?;
    let home = ctx.images_dir().join(&manifest.name);
    fs::rename(dir.keep(), &home).map_err(Error::io(STAGE, "move into place", &home))?;
    Ok(BuiltImage { dir: home, manifest, cached: false })
}

/// Images are read by QEMU as another user, and written by nobody.
fn make_readable(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    const STAGE: &str = "publish image";
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(
            STAGE,
            "set the mode of",
            path,
        ))
    };
    set(dir, 0o755)?;
    for name in [DISK, KERNEL, INITRD, MANIFEST] {
        set(&dir.join(name), 0o444)?;
    }
    Ok(())
}
