//! Images: the files on the machine that runs Ashlar, and what of them has arrived on a host.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind, FileChunks, LocalFiles};
use async_trait::async_trait;

use crate::SimWorld;

/// A file from which on a part holds zeros only: the smaller ones are full.
const BIG: u64 = 512 << 20;

/// Name of what a file holds that was whole and went bad on its disk.
pub(crate) const ROTTEN: &str = "rotten";

/// What happens to a later chunk of an upload to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadFault {
    /// Chunks that still arrive well.
    pub(crate) after: u64,
    pub(crate) what: UploadFaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadFaultKind {
    /// It arrives, and holds something else.
    Damage,
    /// The link is cut in the middle of it, for so long.
    Cut(Duration),
}

/// What arrived of an image's file, by offset. What did not reads as zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    chunks: BTreeMap<u64, Chunk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    length: u64,
    /// Name of the file that it is of; none if it is half there, or damaged.
    file: Option<String>,
}

impl Arrived {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn put(&mut self, offset: u64, length: u64, file: Option<String>) {
        self.chunks.insert(offset, Chunk { length, file });
    }

    /// What once was right goes bad on the disk.
    pub(crate) fn rot(&mut self) {
        for chunk in self.chunks.values_mut() {
            chunk.file = Some(ROTTEN.to_owned());
        }
    }

    /// Digest of the whole: the file's name, if it is all there.
    pub(crate) fn sha256(&self, size: u64) -> String {
        self.whole(size).unwrap_or_else(|| format!("{} chunks", self.chunks.len()))
    }

    /// The file that is all there.
    pub(crate) fn whole(&self, size: u64) -> Option<String> {
        let file = self.chunks.values().next()?.file.clone()?;
        let mut at = 0;
        while at < size {
            match self.chunks.range(at..).next() {
                Some((offset, chunk)) if *offset == at && chunk.file.as_ref() == Some(&file) => {
                    at += chunk.length
                }
                Some((offset, _)) if *offset > at && is_zero(size, at, offset - at) => at = *offset,
                None if is_zero(size, at, size - at) => at = size,
                _ => return None,
            }
        }
        Some(file)
    }

    pub(crate) fn chunks(&self, size: u64, chunk_bytes: u64) -> FileChunks {
        let mut sha256 = Vec::new();
        let mut offset = 0;
        while offset < size {
            let length = chunk_bytes.min(size - offset);
            sha256.push(match self.chunks.get(&offset) {
                Some(Chunk { file: Some(file), length: whole }) if *whole == length => {
                    stretch(file, size, offset, length)
                }
                Some(_) => "something else".to_owned(),
                None => zeros(length),
            });
            offset += length;
        }
        FileChunks { size_bytes: size, sha256 }
    }
}

/// The third quarter of a big file is empty.
fn is_zero(size: u64, offset: u64, length: u64) -> bool {
    size >= BIG && offset >= size / 2 && offset + length <= size / 4 * 3
}

fn zeros(length: u64) -> String {
    format!("{length} zeros")
}

/// Digest of a stretch; that of the whole is the file's name.
fn stretch(file: &str, size: u64, offset: u64, length: u64) -> String {
    match (offset, length) {
        (0, length) if length == size => file.to_owned(),
        _ if is_zero(size, offset, length) => zeros(length),
        _ => format!("{file} from {offset} for {length}"),
    }
}

impl SimWorld {
    /// Whether so much is less than the whole file.
    pub(crate) fn is_part(&self, path: &Path, length: u64) -> bool {
        self.local(path).is_ok_and(|(_, size)| length < size)
    }

    fn local(&self, path: &Path) -> Result<(String, u64), EffectError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self.state().local_files.get(&name) {
            Some(size) => Ok((name, *size)),
            None => {
                let path = path.display();
                Err(EffectError::new(EffectErrorKind::NotFound, format!("{path} is not there")))
            }
        }
    }
}

#[async_trait]
impl LocalFiles for SimWorld {
    async fn length(&self, path: &Path) -> Result<u64, EffectError> {
        Ok(self.local(path)?.1)
    }

    async fn sha256(&self, path: &Path, offset: u64, length: u64) -> Result<String, EffectError> {
        let (name, size) = self.local(path)?;
        Ok(stretch(&name, size, offset, length))
    }

    async fn is_zero(&self, path: &Path, offset: u64, length: u64) -> Result<bool, EffectError> {
        let (_, size) = self.local(path)?;
        Ok(is_zero(size, offset, length))
    }
}
