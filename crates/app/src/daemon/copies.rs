//! Copies of the clusters' etcd in a directory: `NAMESPACE/CLUSTER/TIME.db`, with `TIME.json` beside it.
//!
//! A database holds the cluster's Secrets as they are: directories and files are for their owner alone.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyWriter};
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

/// Times in file names: sorted as text they are sorted by time.
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// Ending of a copy that is being written.
const UNFINISHED: &str = "part";
/// etcd writes its database in pages of the system, and then 32 bytes of SHA-256.
const PAGE: u64 = 512;
pub(super) const DIGEST: u64 = 32;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct CopiesDirectory(PathBuf);

impl CopiesDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        CopiesDirectory(path)
    }

    fn of(&self, cluster: &NamespacedName) -> PathBuf {
        self.0.join(&cluster.namespace).join(&cluster.name)
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> EffectError {
    EffectError::new(EffectErrorKind::Exhausted, format!("cannot {doing} {}: {error}", path.display()))
}

pub(super) fn stamp(time: Timestamp) -> String {
    time.strftime(STAMP).to_string()
}

/// The time in a copy's file name.
pub(super) fn taken_at(path: &Path) -> Option<Timestamp> {
    if path.extension()? != "db" {
        return None;
    }
    let time = DateTime::strptime(STAMP, path.file_stem()?.to_str()?).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Files of a directory; none if there is no directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, EffectError> {
    let read = match fs::read_dir(directory) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory, &error)),
    };
    let paths = read.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(|error| failed("read", directory, &error))
}

#[async_trait]
impl EtcdCopies for CopiesDirectory {
    async fn list(&self, cluster: &NamespacedName) -> Result<Vec<EtcdCopy>, EffectError> {
        let mut copies = Vec::new();
        for path in files(&self.of(cluster))? {
            let Some(taken_at) = taken_at(&path) else { continue };
            let length = fs::metadata(&path).map_err(|error| failed("read", &path, &error))?.len();
            copies.push(EtcdCopy { taken_at, size_bytes: length.saturating_sub(DIGEST) });
        }
        copies.sort_by_key(|copy| copy.taken_at);
        Ok(copies)
    }

    async fn begin(
        &self,
        cluster: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        let directory = self.of(cluster);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| failed("make", &directory, &error))?;
        for path in files(&directory)? {
            if path.extension().is_some_and(|ending| ending == UNFINISHED) {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        let path = directory.join(format!("{}.{UNFINISHED}", stamp(taken_at)));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("write", &path, &error))?;
        Ok(Box::new(Unfinished { file, path, taken_at, is_kept: false }))
    }

    async fn remove(&self, cluster: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError> {
        let directory = self.of(cluster);
        // The database first: what is left without one counts for nothing.
        for ending in ["db", "json"] {
            let path = directory.join(format!("{}.{ending}", stamp(taken_at)));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

struct Unfinished {
    file: File,
    path: PathBuf,
    taken_at: Timestamp,
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
            // What cannot be removed now goes before the next copy.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[async_trait]
impl EtcdCopyWriter for Unfinished {
    async fn finish(self: Box<Self>, beside: &str) -> Result<EtcdCopy, EffectError> {
        let beside = beside.to_owned();
        // Reading it all again and syncing it takes seconds.
        let work = tokio::task::spawn_blocking(move || self.keep(&beside));
        work.await.map_err(|error| EffectError::new(EffectErrorKind::Refused, error.to_string()))?
    }
}

impl Unfinished {
    fn keep(mut self, beside: &str) -> Result<EtcdCopy, EffectError> {
        let path = self.path.clone();
        let wrong = |error: std::io::Error| failed("keep", &path, &error);
        let size_bytes = whole(&mut self.file).map_err(wrong)?.ok_or_else(not_whole)?;
        self.file.sync_all().map_err(wrong)?;
        let text = path.with_extension("json");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&text).map_err(wrong)?;
        file.write_all(beside.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&path, path.with_extension("db")).map_err(wrong)?;
        self.is_kept = true;
        if let Some(directory) = path.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(wrong)?;
        }
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes })
    }
}

pub(super) fn not_whole() -> EffectError {
    let message = "the copy of etcd is not whole: its digest does not fit";
    EffectError::new(EffectErrorKind::Corrupt, message)
}

/// Bytes of the database, if the digest at the end of the file is its own (as `etcdutl snapshot restore` checks it).
pub(super) fn whole(file: &mut File) -> std::io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let Some(size) = length.checked_sub(DIGEST).filter(|size| *size > 0 && size % PAGE == 0) else {
        return Ok(None);
    };
    file.rewind()?;
    let mut hash = Sha256::new();
    let copied = std::io::copy(&mut (&*file).take(size), &mut hash)?;
    let mut digest = Vec::new();
    file.read_to_end(&mut digest)?;
    Ok((copied == size && *digest == *hash.finalize()).then_some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(
        copies: &CopiesDirectory,
        cluster: &NamespacedName,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<EtcdCopy, EffectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut writer = copies.begin(cluster, at).await?;
            writer.write_all(bytes).unwrap();
            writer.finish("{}").await
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
        let database = vec![7; 1024];
        let digest = Sha256::digest(&database);
        let good = [&database[..], &digest].concat();
        let copy = put(&copies, &cluster, at(0), &good).unwrap();
        assert_eq!(copy, EtcdCopy { taken_at: at(0), size_bytes: 1024 });
        let mut damaged = good.clone();
        damaged[5] ^= 1;
        for bad in [&damaged[..], &good[..1000], b""] {
            let error = put(&copies, &cluster, at(1), bad).unwrap_err();
            assert_eq!(error.kind, EffectErrorKind::Corrupt, "{error}");
        }
        assert_eq!(list(&copies, &cluster), [copy]);
        let names = || {
            let mut names: Vec<String> = files(&copies.of(&cluster))
                .unwrap()
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["20260101T000000Z.db", "20260101T000000Z.json"], "nothing unfinished is left");
        for name in names() {
            let mode = fs::metadata(copies.of(&cluster).join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // What a killed daemon left goes with the next copy.
        fs::write(copies.of(&cluster).join("20250101T000000Z.part"), b"cut").unwrap();
        put(&copies, &cluster, at(2), &good).unwrap();
        assert_eq!(list(&copies, &cluster).len(), 2);
        assert_eq!(names().len(), 4);
        futures::executor::block_on(copies.remove(&cluster, at(0))).unwrap();
        assert_eq!(names(), ["20260101T000002Z.db", "20260101T000002Z.json"]);
    }
}
