//! Files written whole, and only when they differ, so that a second `up` changes nothing.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::LabError;

/// Creates a directory and its parents; the mode is set on the last one. Says whether it was missing.
pub(crate) fn ensure_dir(path: &Path, mode: u32) -> Result<bool, LabError> {
    if path.is_dir() {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::io("create", parent))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        result => result.map_err(LabError::io("create", path))?,
    }
    // The umask took part in `create`.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(LabError::io("set the mode of", path))?;
    Ok(true)
}

/// Replaces a file atomically if its content differs. Says whether it did.
pub(crate) fn ensure_file(path: &Path, content: &[u8], mode: u32) -> Result<bool, LabError> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(LabError::io("create", parent))?;
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(LabError::io("create a file in", parent))?;
    file.write_all(content).map_err(LabError::io("write", path))?;
    let mode = Permissions::from_mode(mode);
    fs::set_permissions(file.path(), mode).map_err(LabError::io("set the mode of", path))?;
    file.persist(path).map_err(|error| LabError::io("write", path)(error.error))?;
    Ok(true)
}

/// Rewrites a file in place if its content differs: the file may be bind-mounted into a running host, which would go
/// on seeing a replaced one. Says whether it did.
pub(crate) fn ensure_file_in_place(path: &Path, content: &[u8], mode: u32) -> Result<bool, LabError> {
    if !path.exists() {
        return ensure_file(path, content, mode);
    }
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    fs::write(path, content).map_err(LabError::io("write", path))?;
    Ok(true)
}

/// Removes what a directory holds, and keeps the directory (it may be a mount point's source).
pub(crate) fn empty_dir(path: &Path) -> Result<(), LabError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LabError::io("list", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(LabError::io("list", path))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.map_err(LabError::io("remove", entry.path()))?;
    }
    Ok(())
}

/// Copies a directory of plain files and directories. Links and special files are left out.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), LabError> {
    ensure_dir(to, 0o755)?;
    for entry in fs::read_dir(from).map_err(LabError::io("list", from))? {
        let entry = entry.map_err(LabError::io("list", from))?;
        let kind = entry.file_type().map_err(LabError::io("look at", entry.path()))?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).map_err(LabError::io("copy", entry.path()))?;
        }
    }
    Ok(())
}

/// Space that a tree really takes, in bytes. Files that vanish meanwhile count nothing.
pub(crate) fn disk_use_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_use_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
