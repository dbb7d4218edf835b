//! The cache directory: finished images, finished stages, and nothing half made.
//!
//! ```text
//! images/<name>/{disk.qcow2,vmlinuz,initrd.img,image.json}
//! stages/<stage>-<digest of its inputs>/…      kept between builds
//! tmp/<random>/…                               what a running build writes, renamed when done
//! lock                                         held by the one build at a time
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use crate::digest;
use crate::error::{Error, Result};
use crate::manifest::{DISK, INITRD, KERNEL, MANIFEST, Manifest};
use crate::report::Reporter;

/// Digits of an inputs digest that appear in names.
const NAME_DIGITS: usize = 12;

/// What a build works with: where to keep things, whom to tell, when to stop.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Root of the cache, such as `/var/cache/ashlar`.
    pub cache_dir: &'a Path,
    /// Receives progress.
    pub reporter: &'a dyn Reporter,
    /// Set to true, it ends the build at the next opportunity, with its programs.
    pub cancel: &'a AtomicBool,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("cache_dir", &self.cache_dir).finish_non_exhaustive()
    }
}

/// The right to build: one at a time per cache, released on drop.
#[derive(Debug)]
pub(crate) struct BuildLock {
    _file: File,
}

impl<'a> Context<'a> {
    pub(crate) fn images_dir(&self) -> PathBuf {
        self.cache_dir.join("images")
    }

    pub(crate) fn check_cancel(&self, stage: &str) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { stage: stage.to_owned() });
        }
        Ok(())
    }

    /// Waits until no other build runs in this cache, then clears what an interrupted one left behind.
    pub(crate) fn lock(&self) -> Result<BuildLock> {
        const STAGE: &str = "cache";
        let path = self.cache_dir.join("lock");
        fs::create_dir_all(self.cache_dir).map_err(Error::io(STAGE, "create", self.cache_dir))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(STAGE, "open", &path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(Error::io(STAGE, "lock", &path)(source)),
            }
            if !told {
                self.reporter.note(&format!("waiting for another image build ({})", path.display()));
                told = true;
            }
            self.check_cancel(STAGE)?;
            std::thread::sleep(Duration::from_millis(200));
        }
        let tmp = self.cache_dir.join("tmp");
        if tmp.exists() {
            remove_tree(STAGE, &tmp)?;
        }
        for dir in [&tmp, &self.images_dir(), &self.cache_dir.join("stages")] {
            fs::create_dir_all(dir).map_err(Error::io(STAGE, "create", dir))?;
        }
        Ok(BuildLock { _file: file })
    }

    /// A directory of the running build, removed on drop.
    pub(crate) fn temp_dir(&self, stage: &str) -> Result<TempDir> {
        let tmp = self.cache_dir.join("tmp");
        tempfile::Builder::new().prefix("build-").tempdir_in(&tmp).map_err(Error::io(stage, "create", tmp))
    }

    /// Runs `build` in an empty directory and keeps the result under the digest of `inputs`; a later call with
    /// the same inputs returns the kept directory.
    pub(crate) fn stage<T: Serialize>(
        &self,
        _lock: &BuildLock,
        stage: &str,
        inputs: &T,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let slug: String =
            stage.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let digest = digest::of_inputs(inputs);
        let kept = self.cache_dir.join("stages").join(format!("{slug}-{}", &digest[..NAME_DIGITS]));
        let started = Instant::now();
        if kept.is_dir() {
            self.reporter.finished(stage, started.elapsed(), true);
            return Ok(kept);
        }
        self.check_cancel(stage)?;
        self.reporter.started(stage);
        let temp = self.temp_dir(stage)?;
        build(temp.path())?;
        let temp = temp.keep();
        fs::rename(&temp, &kept).map_err(Error::io(stage, "move into place", &kept))?;
        self.reporter.finished(stage, started.elapsed(), false);
        Ok(kept)
    }

    /// Times `work` as a stage that is not kept.
    pub(crate) fn step<T>(&self, stage: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_cancel(stage)?;
        self.reporter.started(stage);
        let started = Instant::now();
        let done = work()?;
        self.reporter.finished(stage, started.elapsed(), false);
        Ok(done)
    }
}

/// A finished image on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Directory with the files.
    pub dir: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// True when nothing had to be built.
    pub cached: bool,
}

impl BuiltImage {
    /// Path of one of the image's files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }
}

/// Name of an image from what it is and the digest of its inputs.
pub(crate) fn image_name(prefix: &str, digest: &str) -> String {
    format!("{prefix}-{}", &digest[..NAME_DIGITS])
}

/// What is in a cache.
#[derive(Debug, Default)]
pub struct Listing {
    /// Images that can be used, ordered by name.
    pub images: Vec<BuiltImage>,
    /// Why others cannot, ordered by name: each is an [`Error::Damaged`] or an I/O error.
    pub damaged: Vec<Error>,
}

/// All images. One that is damaged does not hide the others.
pub fn list(cache_dir: &Path) -> Result<Listing> {
    const STAGE: &str = "list images";
    let images = cache_dir.join("images");
    let entries = match fs::read_dir(&images) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Listing::default()),
        Err(error) => return Err(Error::io(STAGE, "read", images)(error)),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let dir = entry.map_err(Error::io(STAGE, "read", &images))?.path();
        if dir.is_dir() {
            dirs.push(dir);
        }
    }
    dirs.sort();
    let mut listing = Listing::default();
    for dir in dirs {
        match load(STAGE, &dir) {
            Ok(image) => listing.images.push(image),
            Err(error) => listing.damaged.push(error),
        }
    }
    Ok(listing)
}

/// One image by name. Its files are there and as long as they should be; [`verify`] reads them too.
pub fn inspect(cache_dir: &Path, name: &str) -> Result<BuiltImage> {
    let dir = image_dir(cache_dir, name)?;
    load("inspect image", &dir)
}

/// Reads every file of an image again and compares digests and lengths.
pub fn verify(cache_dir: &Path, name: &str) -> Result<BuiltImage> {
    const STAGE: &str = "verify image";
    let image = inspect(cache_dir, name)?;
    for (file, expected) in &image.manifest.files {
        let path = image.dir.join(file);
        let (actual, size_bytes) = digest::of_file(STAGE, &path)?;
        if actual != expected.sha256 || size_bytes != expected.size_bytes {
            return Err(Error::Damaged {
                name: name.to_owned(),
                cause: format!(
                    "{} is sha256:{actual} ({size_bytes} bytes), and should be sha256:{} ({} bytes)",
                    path.display(),
                    expected.sha256,
                    expected.size_bytes
                ),
            });
        }
    }
    Ok(image)
}

/// Removes an image. Its stages stay, so that it can be made again quickly.
pub fn remove(ctx: &Context<'_>, name: &str) -> Result<()> {
    const STAGE: &str = "remove image";
    let _lock = ctx.lock()?;
    let dir = image_dir(ctx.cache_dir, name)?;
    // Out of sight first: a removal that is cut short leaves no image with half its files.
    let doomed = ctx.temp_dir(STAGE)?;
    fs::rename(&dir, doomed.path().join("image")).map_err(Error::io(STAGE, "move away", dir))?;
    Ok(())
}

fn image_dir(cache_dir: &Path, name: &str) -> Result<PathBuf> {
    let not_found = || Error::NotFound { name: name.to_owned(), cache: cache_dir.to_owned() };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(not_found());
    }
    let dir = cache_dir.join("images").join(name);
    if dir.is_dir() { Ok(dir) } else { Err(not_found()) }
}

fn load(stage: &str, dir: &Path) -> Result<BuiltImage> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let damaged = |cause: String| Error::Damaged { name: name.clone(), cause };
    let path = dir.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(format!("there is no {}", path.display())));
        }
        Err(error) => return Err(Error::io(stage, "read", &path)(error)),
    };
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| {
        damaged(format!("{} is not a manifest that this version knows ({e})", path.display()))
    })?;
    if manifest.name != name {
        return Err(damaged(format!("{} is that of image {}", path.display(), manifest.name)));
    }
    if let Some(file) = [DISK, KERNEL, INITRD].into_iter().find(|file| !manifest.files.contains_key(*file)) {
        return Err(damaged(format!("{} names no {file}", path.display())));
    }
    for (file, expected) in &manifest.files {
        let path = dir.join(file);
        match fs::metadata(&path) {
            Ok(found) if found.len() == expected.size_bytes => {}
            Ok(found) => {
                let cause = format!(
                    "{} has {} bytes, and should have {}",
                    path.display(),
                    found.len(),
                    expected.size_bytes
                );
                return Err(damaged(cause));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(format!("{} is missing", path.display())));
            }
            Err(error) => return Err(Error::io(stage, "read", &path)(error)),
        }
    }
    Ok(BuiltImage { dir: dir.to_owned(), manifest, cached: true })
}

pub(crate) fn remove_tree(stage: &str, path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(Error::io(stage, "remove", path))
}
