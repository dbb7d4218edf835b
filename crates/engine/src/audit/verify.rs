//! Whether the record is whole: each line's digest, its place, and that it is no shorter than it was.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use super::AuditError;
use super::file::{Head, failed, head_path};
use super::line::{Line, NOTHING, read};
use crate::vault::Vault;

/// A record that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Lines of it.
    pub lines: u64,
    /// Digest of the last one: who keeps it elsewhere can tell later that nothing before it was changed.
    pub digest: String,
    /// Id of the key that the note of its length was sealed by, where that was the installation's before: another machine changed
    /// it, and nothing was recorded on this one since.
    pub noted_before: Option<String>,
}

/// Where a record is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Number of the line in the file, from 1; none where lines are missing at the end.
    pub line: Option<u64>,
    /// What is wrong with it, and what that means.
    pub why: String,
}

/// Reads the whole record. The vault opens the sealed note of how long it was.
///
/// # Errors
/// The file cannot be read.
pub fn verify(path: &Path, vault: &Vault) -> Result<Result<Verified, Broken>, AuditError> {
    let mut seen = Verified { lines: 0, digest: NOTHING.to_owned(), noted_before: None };
    let mut noted_before = None;
    let head = Head::read(path, vault)?.map(|noted| {
        noted.map(|noted| {
            noted_before = noted.before;
            noted.head
        })
    });
    let file = match std::fs::File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut is_head_seen = matches!(&head, Ok(Some(head)) if head.sequence == 0);
    for text in file.into_iter().flat_map(|file| BufReader::new(file).split(b'\n')) {
        let text = text.map_err(failed("read", path))?;
        let number = seen.lines + 1;
        let broken = |why: String| Ok(Err(Broken { line: Some(number), why }));
        let (line, digest) =
            match std::str::from_utf8(&text).map_err(|error| error.to_string()).and_then(read) {
                Ok(read) => read,
                Err(why) => return broken(format!("{why}: it was changed, or is torn")),
            };
        if line.sequence != number {
            return broken(format!(
                "it says that it is line {}: lines were removed, added or moved",
                line.sequence
            ));
        }
        if line.previous != seen.digest {
            return broken("it follows another line than the one before it: lines were exchanged".to_owned());
        }
        seen = Verified { lines: number, digest, noted_before: None };
        if let Ok(Some(head)) = &head
            && head.sequence == number
        {
            is_head_seen = true;
            if head.digest != seen.digest {
                return broken(
                    "it is not the line that was there: the record was written anew from here or earlier"
                        .to_owned(),
                );
            }
        }
    }
    let missing = |why: String| Ok(Err(Broken { line: None, why }));
    match head {
        Ok(Some(head)) if !is_head_seen => missing(format!(
            "there were {} lines once, and {} are there: lines were removed at the end",
            head.sequence, seen.lines
        )),
        Ok(None) if seen.lines > 0 => missing(format!(
            "{} is not there: whether lines were removed at the end cannot be told",
            head_path(path).display()
        )),
        Err(why) => missing(format!("{}: {why}", head_path(path).display())),
        Ok(_) => Ok(Ok(Verified { noted_before, ..seen })),
    }
}

/// All lines of the record that can be read, in their order.
///
/// # Errors
/// The file cannot be read; a line is not what its digest is of.
pub fn lines(path: &Path) -> Result<Vec<Line>, AuditError> {
    Ok(lines_with_digests(path)?.into_iter().map(|(line, _)| line).collect())
}

pub(super) fn lines_with_digests(path: &Path) -> Result<Vec<(Line, String)>, AuditError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let broken = |why: String| {
        failed("read", path)(std::io::Error::other(format!("{why}; `ashlar audit verify` tells more")))
    };
    text.lines().map(|line| read(line).map_err(broken)).collect()
}
