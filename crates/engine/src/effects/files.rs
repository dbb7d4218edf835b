//! Files on the machine that runs Ashlar: images, before they are on a host.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{EffectError, EffectErrorKind};

/// Files on the machine that runs Ashlar. `NotFound` if there is no such file; `Refused` if it cannot be read, or ends
/// before the stretch that is asked for does.
#[async_trait]
pub trait LocalFiles: Send + Sync {
    /// Bytes in the file.
    async fn length(&self, path: &Path) -> Result<u64, EffectError>;
    /// SHA-256 (hex) of a stretch of it.
    async fn sha256(&self, path: &Path, offset: u64, length: u64) -> Result<String, EffectError>;
    /// Whether a stretch of it holds nothing but zeros.
    async fn is_zero(&self, path: &Path, offset: u64, length: u64) -> Result<bool, EffectError>;
}

/// The real ones. Reading blocks, so that it is done on a thread of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

const PIECE: usize = 1 << 20;

#[async_trait]
impl LocalFiles for ThisMachine {
    async fn length(&self, path: &Path) -> Result<u64, EffectError> {
        let found = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
        if found.is_file() { Ok(found.len()) } else { Err(failed(path, &ErrorKind::IsADirectory.into())) }
    }

    async fn sha256(&self, path: &Path, offset: u64, length: u64) -> Result<String, EffectError> {
        on_thread(path, move |file| {
            let mut hash = Sha256::new();
            pieces(file, offset, length, |piece| {
                hash.update(piece);
                true
            })?;
            Ok(crate::hex::encode(&hash.finalize()))
        })
        .await
    }

    async fn is_zero(&self, path: &Path, offset: u64, length: u64) -> Result<bool, EffectError> {
        on_thread(path, move |file| {
            let mut zero = true;
            pieces(file, offset, length, |piece| {
                let (words, tail) = piece.as_chunks::<16>();
                zero = words.iter().all(|word| *word == [0; 16]) && tail.iter().all(|byte| *byte == 0);
                zero
            })?;
            Ok(zero)
        })
        .await
    }
}

/// Hands the stretch over piece by piece, as long as that is wanted.
fn pieces(
    file: &mut File,
    offset: u64,
    length: u64,
    mut wants_more: impl FnMut(&[u8]) -> bool,
) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    let mut left = length;
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.read_exact(&mut buffer[..wanted])?;
        if !wants_more(&buffer[..wanted]) {
            break;
        }
        left -= wanted as u64;
    }
    Ok(())
}

async fn on_thread<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&mut File) -> std::io::Result<T> + Send + 'static,
) -> Result<T, EffectError> {
    let (send, receive) = futures::channel::oneshot::channel();
    let opened: PathBuf = path.to_owned();
    // Nobody waits any more if the receiver is gone: then the result is of no use.
    std::thread::spawn(move || drop(send.send(File::open(opened).and_then(|mut file| work(&mut file)))));
    let lost = |_| Err(std::io::Error::other("the thread that read it ended"));
    receive.await.unwrap_or_else(lost).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> EffectError {
    let kind = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => EffectErrorKind::NotFound,
        _ => EffectErrorKind::Refused,
    };
    let path = path.display();
    EffectError::new(kind, format!("{path} cannot be read on the machine that runs Ashlar: {error}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn stretches_are_read_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut content = vec![0_u8; 3 * PIECE + 5];
        content[2 * PIECE + 7] = 1;
        std::fs::write(&path, &content).unwrap();
        let piece = PIECE as u64;
        let zero = |offset, length| block_on(ThisMachine.is_zero(&path, offset, length)).unwrap();
        assert!(zero(0, 2 * piece + 7));
        assert!(!zero(0, 2 * piece + 8));
        assert!(!zero(2 * piece + 7, 1));
        assert!(zero(2 * piece + 8, piece - 3));
        let digest = block_on(ThisMachine.sha256(&path, piece, 2 * piece)).unwrap();
        assert_eq!(digest, crate::hex::encode(&Sha256::digest(&content[PIECE..3 * PIECE])));
        assert_eq!(block_on(ThisMachine.length(&path)).unwrap(), 3 * piece + 5);
        let beyond = block_on(ThisMachine.sha256(&path, 3 * piece, 6)).unwrap_err();
        assert_eq!(beyond.kind, EffectErrorKind::Refused, "{beyond}");
        let gone = block_on(ThisMachine.length(&directory.path().join("none"))).unwrap_err();
        assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    }
}
