//! Copies in a directory.
//!
//! They are sealed; directories and files are for their owner alone all the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter,
};
use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Part, Parts, stamp};

/// Ending of what is being written.
const UNFINISHED: &str = "part";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct CopiesDirectory(PathBuf);

impl CopiesDirectory {
    pub(crate) fn new(path: PathBuf) -> Self {
        CopiesDirectory(path)
    }

    fn of(&self, cluster: &NamespacedName) -> PathBuf {
        self.0.join(&cluster.namespace).join(&cluster.name)
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
pub(super) fn parts(files: &[(String, u64)]) -> BTreeMap<Timestamp, Parts> {
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
    async fn list(&self, cluster: &NamespacedName) -> Result<Vec<EtcdCopy>, EffectError> {
        let whole = |(taken_at, parts): (Timestamp, Parts)| {
            Some(EtcdCopy { taken_at, size_bytes: parts.database_bytes()? })
        };
        Ok(parts(&files(&self.of(cluster))?).into_iter().filter_map(whole).collect())
    }

    async fn begin(
        &self,
        cluster: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        let directory = self.of(cluster);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| failed("make", &directory, &error))?;
        let there = files(&directory)?;
        for (name, _) in there.iter().filter(|(name, _)| name.ends_with(&format!(".{UNFINISHED}"))) {
            remove(&directory.join(name))?;
        }
        for (at, parts) in parts(&there) {
            // What is in the clear is never taken for something unfinished.
            if parts.is_sealed() && parts.database_bytes().is_none() {
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

    async fn remove(&self, cluster: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError> {
        let base = self.of(cluster).join(stamp(taken_at));
        Part::ALL.into_iter().try_for_each(|part| remove(&finished(&base, part)))
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
        self.is_kept = true;
        if let Some(directory) = base.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(wrong)?;
        }
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes: parts.database_bytes })
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

#[cfg(test)]
mod tests {
    use ashlar_engine::vault::Sealed;

    use super::*;

    fn put(
        copies: &CopiesDirectory,
        cluster: &NamespacedName,
        at: Timestamp,
        bytes: &[u8],
        said: &[u8],
    ) -> Result<EtcdCopy, EffectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut writer = copies.begin(cluster, at).await?;
            writer.write_all(bytes).unwrap();
            let parts = EtcdCopyParts {
                database: Sealed { bytes: said.len() as u64, sha256: Sha256::digest(said).into() },
                database_bytes: 1024,
                contents: b"sealed".to_vec(),
                manifest: "{}".to_owned(),
            };
            writer.finish(parts).await
        })
    }

    fn list(copies: &CopiesDirectory, cluster: &NamespacedName) -> Vec<EtcdCopy> {
        futures::executor::block_on(copies.list(cluster)).unwrap()
    }

    #[test]
    fn only_whole_copies_are_kept_and_nobody_else_reads_them() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let copies = CopiesDirectory::new(dir.path().join("copies"));
        let cluster = NamespacedName::new("default", "demo");
        assert_eq!(list(&copies, &cluster), []);
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        // As long as what seals a database of 1024 bytes, and the digest at its end.
        let good = vec![7; 35 + 1024 + 32 + 16];
        let copy = put(&copies, &cluster, at(0), &good, &good).unwrap();
        assert_eq!(copy, EtcdCopy { taken_at: at(0), size_bytes: 1024 });
        for bad in [&good[..1000], b""] {
            let error = put(&copies, &cluster, at(1), bad, &good).unwrap_err();
            assert_eq!(error.kind, EffectErrorKind::Corrupt, "{error}");
        }
        assert_eq!(list(&copies, &cluster), std::slice::from_ref(&copy));
        let of = copies.of(&cluster);
        let names = || {
            let mut names: Vec<String> = files(&of).unwrap().into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        let first = ["contents.sealed", "db.sealed", "json"].map(|end| format!("20260101T000000Z.{end}"));
        assert_eq!(names(), first, "nothing unfinished is left");
        for name in names() {
            let mode = fs::metadata(of.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // What a killed daemon left goes with the next copy; what is in the clear, of before, stays until its time.
        for left in ["20250101T000000Z.db.sealed.part", "20250101T000001Z.db.sealed", "20250101T000002Z.db"] {
            fs::write(of.join(left), [0; 544]).unwrap();
        }
        let old = EtcdCopy { taken_at: "2025-01-01T00:00:02Z".parse().unwrap(), size_bytes: 512 };
        assert_eq!(list(&copies, &cluster), [old.clone(), copy.clone()]);
        put(&copies, &cluster, at(2), &good, &good).unwrap();
        assert_eq!(list(&copies, &cluster).len(), 3);
        assert_eq!(names().len(), 7);
        for gone in [old.taken_at, copy.taken_at] {
            futures::executor::block_on(copies.remove(&cluster, gone)).unwrap();
        }
        let last = ["contents.sealed", "db.sealed", "json"].map(|end| format!("20260101T000002Z.{end}"));
        assert_eq!(names(), last);
    }
}
