//! Copies in a directory.
//!
//! They are sealed; directories and files are for their owner alone all the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ashlar_engine::effects::{
    CopyOwner, EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter,
};
use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{MANIFEST_BYTES, Part, Parts, former_directory, is_of, own_directory, stamp};

/// Ending of what is being written.
const UNFINISHED: &str = "part";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct CopiesDirectory(PathBuf);

impl CopiesDirectory {
    pub(crate) fn new(path: PathBuf) -> Self {
        CopiesDirectory(path)
    }

    fn of(&self, owner: &CopyOwner) -> PathBuf {
        self.0.join(own_directory(owner))
    }

    fn former_of(&self, owner: &CopyOwner) -> PathBuf {
        self.0.join(former_directory(&owner.cluster))
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> EffectError {
    EffectError::new(EffectErrorKind::Exhausted, format!("cannot {doing} {}: {error}", path.display()))
}

/// Names and lengths of a directory's files; none if there is no directory.
pub(super) fn files(directory: &Path) -> Result<Vec<(String, u64)>, EffectError> {
    let read = match fs::read_dir(directory) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory, &error)),
    };
    let mut found = Vec::new();
    for entry in read {
        let about = entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?)));
        match about {
            Ok((name, about)) if about.is_file() => {
                found.extend(name.into_string().ok().map(|name| (name, about.len())));
            }
            Ok(_) => {}
            // It went away meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", directory, &error)),
        }
    }
    Ok(found)
}

/// A copy's files by their times.
fn by_time(files: &[(String, u64)]) -> BTreeMap<Timestamp, Parts> {
    Parts::by_time(files.iter().map(|(name, length)| (name.as_str(), *length)))
}

fn remove(path: &Path) -> Result<(), EffectError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

#[async_trait]
impl EtcdCopies for CopiesDirectory {
    async fn list(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        let whole = |(taken_at, parts): (Timestamp, Parts)| {
            Some(EtcdCopy { taken_at, size_bytes: parts.sealed_bytes()?, is_former: false })
        };
        Ok(by_time(&files(&self.of(owner))?).into_iter().filter_map(whole).collect())
    }

    async fn former(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        let directory = self.former_of(owner);
        let mut found = Vec::new();
        for (taken_at, parts) in by_time(&files(&directory)?) {
            let Some(size_bytes) = parts.sealed_bytes() else { continue };
            let path = finished(&directory.join(stamp(taken_at)), Part::Manifest);
            let mut text = Vec::new();
            let read = File::open(&path).and_then(|file| file.take(MANIFEST_BYTES).read_to_end(&mut text));
            read.map_err(|error| failed("read", &path, &error))?;
            if is_of(&text, owner, taken_at) {
                found.push(EtcdCopy { taken_at, size_bytes, is_former: true });
            }
        }
        Ok(found)
    }

    async fn begin(
        &self,
        owner: &CopyOwner,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        let directory = self.of(owner);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| failed("make", &directory, &error))?;
        let there = files(&directory)?;
        for (name, _) in there.iter().filter(|(name, _)| name.ends_with(&format!(".{UNFINISHED}"))) {
            remove(&directory.join(name))?;
        }
        for (at, parts) in by_time(&there) {
            if parts.is_left_over() {
                for part in Part::SEALED {
                    remove(&directory.join(format!("{}.{}", stamp(at), part.ending())))?;
                }
            }
        }
        let base = directory.join(stamp(taken_at));
        let path = unfinished(&base, Part::Database);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("write", &path, &error))?;
        Ok(Box::new(Unfinished { file, base, taken_at, put: Vec::new(), is_kept: false }))
    }

    async fn remove(&self, owner: &CopyOwner, copy: &EtcdCopy) -> Result<(), EffectError> {
        let directory = if copy.is_former { self.former_of(owner) } else { self.of(owner) };
        let base = directory.join(stamp(copy.taken_at));
        Part::SEALED.into_iter().rev().into_iter().try_for_each(|part| remove(&finished(&base, part)))
    }
}

fn with(base: &Path, ending: &str) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// A file of the copy whose names begin so.
pub(super) fn finished(base: &Path, part: Part) -> PathBuf {
    with(base, part.ending())
}

fn unfinished(base: &Path, part: Part) -> PathBuf {
    with(&finished(base, part), UNFINISHED)
}

struct Unfinished {
    file: File,
    /// Of all of its files, without their endings.
    base: PathBuf,
    taken_at: Timestamp,
    /// What has its name already.
    put: Vec<PathBuf>,
    is_kept: bool,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_kept {
            let parts = Part::SEALED.map(|part| unfinished(&self.base, part));
            for path in parts.iter().chain(&self.put) {
                // What cannot be removed now goes before the next copy.
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[async_trait]
impl EtcdCopyWriter for Unfinished {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        // Reading it all again and syncing it takes seconds.
        let work = tokio::task::spawn_blocking(move || self.keep(&parts));
        work.await.map_err(|error| EffectError::new(EffectErrorKind::Refused, error.to_string()))?
    }
}

impl Unfinished {
    fn keep(mut self, parts: &EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        let base = self.base.clone();
        let wrong = |error: std::io::Error| failed("keep", &base, &error);
        self.file.sync_all().map_err(wrong)?;
        if digest(&mut self.file).map_err(wrong)? != parts.database.sha256 {
            return Err(not_written());
        }
        for (part, bytes) in
            [(Part::Contents, parts.contents.as_slice()), (Part::Manifest, parts.manifest.as_bytes())]
        {
            let path = unfinished(&base, part);
            let open = File::options().write(true).create_new(true).mode(0o600).open(&path);
            let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
            open.and_then(write).map_err(wrong)?;
        }
        for part in Part::SEALED {
            let path = finished(&base, part);
            fs::rename(unfinished(&base, part), &path).map_err(wrong)?;
            self.put.push(path);
        }
        if let Some(directory) = base.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(wrong)?;
            // Another daemon of the installation, which leads now, may have taken a part for a leftover.
            let there = by_time(&files(directory)?);
            if there.get(&self.taken_at).and_then(Parts::sealed_bytes) != Some(parts.database_bytes) {
                return Err(not_all_there());
            }
        }
        self.is_kept = true;
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes: parts.database_bytes, is_former: false })
    }
}

/// Of all of a file.
pub(in crate::daemon) fn digest(file: &mut File) -> std::io::Result<[u8; 32]> {
    file.rewind()?;
    let mut hash = Sha256::new();
    std::io::copy(file, &mut hash)?;
    Ok(hash.finalize().into())
}

pub(in crate::daemon) fn not_written() -> EffectError {
    let message = "the copy of etcd is not what was written: its digest does not fit";
    EffectError::new(EffectErrorKind::Corrupt, message)
}

pub(in crate::daemon) fn not_all_there() -> EffectError {
    let message =
        "the copy of etcd is not there as it was put: does another daemon look after the same cluster?";
    EffectError::new(EffectErrorKind::Corrupt, message)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
