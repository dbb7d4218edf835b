//! A person has looked at a record whose end is in doubt, and it goes on from what is there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::doubt::Doubt;
use super::file::{AuditFile, Author};
use super::verify::lines_with_digests;
use super::{AuditError, Deed};
use crate::effects::Entropy;
use crate::vault::Vault;

/// What is wrong with the end of a record, if anything: what keeps it from being gone on with.
///
/// # Errors
/// It cannot be read; or it is not whole before its end, so that nothing can go on from it.
pub fn doubt(path: &Path, vault: Arc<Vault>, entropy: Arc<dyn Entropy>) -> Result<Option<Doubt>, AuditError> {
    let log = AuditFile::unchecked(path, Author(String::new()), vault, entropy)?;
    let mut found = None;
    log.alone(|log, open| {
        open.end.find(&open.file)?;
        found = log.doubt_of(open, &log.noted()?)?;
        Ok(())
    })?;
    Ok(found)
}

/// Records that somebody has accepted the record as it is, with what was wrong, and notes how long it is. Says what that was; none
/// if nothing was, and then nothing is recorded.
///
/// # Errors
/// As [`doubt`]; it cannot be written.
pub fn accept(
    path: &Path,
    author: Author,
    vault: Arc<Vault>,
    entropy: Arc<dyn Entropy>,
    time: Timestamp,
) -> Result<Option<Doubt>, AuditError> {
    let log = AuditFile::unchecked(path, author, vault, entropy)?;
    let mut found = None;
    log.alone(|log, open| {
        open.end.find(&open.file)?;
        found = log.doubt_of(open, &log.noted()?)?;
        let Some(doubt) = &found else { return Ok(()) };
        check_chain(path)?;
        // The first deed of a process is noted at once.
        log.append(open, time, &Deed::Accepted { doubt: doubt.to_string() })
    })?;
    Ok(found)
}

/// Lines that were changed in between stay so: on top of them nothing could ever be proved.
fn check_chain(path: &Path) -> io::Result<()> {
    let lines = lines_with_digests(path).map_err(|error| error.source)?;
    let mut before = (0, super::line::NOTHING.to_owned());
    for (line, digest) in lines {
        if line.sequence != before.0 + 1 || line.previous != before.1 {
            return Err(io::Error::other(format!(
                "its line {} does not follow the one before it, so that nothing can go on from there; move {} elsewhere, and \
                 the same command begins a new one",
                before.0 + 1,
                path.display()
            )));
        }
        before = (line.sequence, digest);
    }
    Ok(())
}
