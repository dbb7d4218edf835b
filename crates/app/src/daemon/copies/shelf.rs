//! Looking at copies without a daemon, and without a store.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::directory::{files, finished};
use super::{Part, Parts, stamp};
use crate::daemon::config::Config;
use crate::daemon::s3::CopiesBucket;
use crate::failure::{Context as _, Failure, Result};

/// Levels of directories above a copy's files: installation, namespace, cluster and its uid; or namespace and cluster.
const DEPTH: u32 = 4;

/// Where copies lie.
pub(crate) enum Shelf {
    /// A directory, or one of a cluster in it.
    Directory(PathBuf),
    /// A bucket.
    Bucket(Box<CopiesBucket>),
}

/// A copy that lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptCopy {
    /// `INSTALLATION/NAMESPACE/CLUSTER/UID/TIME`: its files' names below the shelf, without their endings.
    pub(crate) name: String,
    pub(crate) taken_at: Timestamp,
    pub(crate) parts: Parts,
}

impl KeptCopy {
    /// `NAMESPACE/CLUSTER/TIME`, which is enough where one installation has one cluster of the name.
    pub(crate) fn short_name(&self) -> String {
        match self.name.split('/').collect::<Vec<_>>().as_slice() {
            [.., namespace, cluster, uid, time] if Uuid::try_parse(uid).is_ok() => {
                format!("{namespace}/{cluster}/{time}")
            }
            _ => self.name.clone(),
        }
    }

    /// The name without the time.
    pub(crate) fn directory(&self) -> &str {
        directory(&self.name)
    }
}

impl Shelf {
    /// The one that the daemon's settings name; without a file of settings, the directory by default.
    pub(crate) fn of_daemon(config: Option<&Path>, state_dir: &Path) -> Result<Shelf> {
        let copies = Config::read(config)?.etcd_snapshots;
        Ok(match &copies.s3 {
            // Nothing is put together here.
            Some(bucket) => Shelf::Bucket(Box::new(CopiesBucket::new(bucket, state_dir)?)),
            None => Shelf::Directory(copies.directory(state_dir)),
        })
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Shelf::Directory(path) => path.display().to_string(),
            Shelf::Bucket(bucket) => bucket.describe(),
        }
    }

    /// All whole copies, by cluster and then by time.
    pub(crate) fn list(&self) -> Result<Vec<KeptCopy>> {
        self.list_down_to(DEPTH)
    }

    fn list_down_to(&self, depth: u32) -> Result<Vec<KeptCopy>> {
        let mut names = Vec::new();
        match self {
            Shelf::Directory(path) => walk(path, "", depth, &mut names)?,
            Shelf::Bucket(bucket) => names = bucket.files()?,
        }
        let mut directories: Vec<&str> = names.iter().map(|(name, _)| directory(name)).collect();
        directories.sort_unstable();
        directories.dedup();
        let mut copies = Vec::new();
        for below in directories {
            let own = names.iter().filter(|(name, _)| directory(name) == below);
            let own = own.filter_map(|(name, length)| Some((name.strip_prefix(below)?, *length)));
            for (taken_at, parts) in Parts::by_time(own) {
                if parts.database_bytes().is_some() {
                    copies.push(KeptCopy { name: format!("{below}{}", stamp(taken_at)), taken_at, parts });
                }
            }
        }
        Ok(copies)
    }

    /// Reads a file of a copy.
    pub(crate) fn open(&self, copy: &KeptCopy, part: Part) -> Result<Box<dyn Read>> {
        match self {
            Shelf::Directory(path) => {
                let path = finished(&path.join(&copy.name), part);
                let file = File::open(&path).context(format!("cannot read {}", path.display()))?;
                Ok(Box::new(file))
            }
            Shelf::Bucket(bucket) => {
                let length = copy.parts.length(part).unwrap_or_default();
                Ok(bucket.read(&format!("{}.{}", copy.name, part.ending()), length)?)
            }
        }
    }

    /// The copy whose file somebody names, where it lies alone.
    pub(crate) fn of_file(path: &Path) -> Result<(Shelf, KeptCopy)> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let shelf = Shelf::Directory(directory.to_owned());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let time = name.split_once('.').map_or(name, |(time, _)| time);
        match shelf.list_down_to(0)?.into_iter().find(|copy| copy.name == time) {
            Some(copy) => Ok((shelf, copy)),
            None => {
                let needs = Part::SEALED.map(|part| format!("{time}.{}", part.ending())).join(", ");
                Err(Failure::new(format!("{} belongs to no whole copy of etcd", path.display()))
                    .hint(format!("one that is sealed has {needs}, in one directory")))
            }
        }
    }
}

/// What stands before a file's own name.
fn directory(name: &str) -> &str {
    name.rfind('/').map_or("", |at| name.get(..=at).unwrap_or_default())
}

fn walk(path: &Path, below: &str, depth: u32, found: &mut Vec<(String, u64)>) -> Result<()> {
    found.extend(files(path)?.into_iter().map(|(name, length)| (format!("{below}{name}"), length)));
    if depth == 0 {
        return Ok(());
    }
    let doing = || format!("cannot read {}", path.display());
    let read = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.context(doing())?,
    };
    for entry in read {
        let entry = entry.context(doing())?;
        if entry.file_type().context(doing())?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            walk(&entry.path(), &format!("{below}{name}/"), depth - 1, found)?;
        }
    }
    Ok(())
}
