//! Filling volumes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_engine::effects::{EffectErrorKind, VolumeSource};

use crate::ffi::{Connection, StoredVolume};
use crate::lane::CallError;

/// libvirt cuts it into messages of its own; small pieces make uploads slow.
const PIECE: usize = 1024 * 1024;

/// Writes the source into the volume. `steps` counts what went.
pub(super) fn run(
    connection: &Connection,
    volume: &StoredVolume,
    source: &VolumeSource,
    steps: &AtomicU64,
) -> Result<(), CallError> {
    match source {
        VolumeSource::Bytes { bytes, length } => {
            let mut upload = volume.upload(connection, 0, *length)?;
            for piece in bytes.chunks(PIECE) {
                upload.send(piece)?;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            let mut left = length.saturating_sub(bytes.len() as u64);
            let zeros = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            while left > 0 {
                let piece = &zeros[..usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
                upload.send(piece)?;
                left -= piece.len() as u64;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(upload.finish()?)
        }
        VolumeSource::File { path, offset, length } => {
            let unreadable = |error: std::io::Error| {
                CallError::Other(
                    EffectErrorKind::Refused,
                    format!("{} cannot be read on the machine that runs Ashlar: {error}", path.display()),
                )
            };
            let mut file = File::open(path).map_err(unreadable)?;
            file.seek(SeekFrom::Start(*offset)).map_err(unreadable)?;
            let mut upload = volume.upload(connection, *offset, *length)?;
            let mut left = *length;
            let mut piece = vec![0; PIECE];
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                file.read_exact(&mut piece[..wanted]).map_err(unreadable)?;
                upload.send(&piece[..wanted])?;
                left -= wanted as u64;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(upload.finish()?)
        }
    }
}
