//! Where a record ends: what this process knows of it, found at first and kept up with what others write.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use jiff::Timestamp;

use super::Deed;
use super::doubt::Doubt;
use super::file::Head;
use super::line::{Line, NOTHING, read};

/// A line is shorter than this: a step's reason and a host's error are sentences.
const TAIL_BYTES: u64 = 1 << 20;

/// The last line that is known, and where it stands.
pub(super) struct End {
    start: u64,
    end: u64,
    last: Head,
    time: Timestamp,
}

impl Default for End {
    fn default() -> Self {
        let last = Head { sequence: 0, digest: NOTHING.to_owned() };
        End { start: 0, end: 0, last, time: Timestamp::MIN }
    }
}

impl End {
    pub(super) fn last(&self) -> &Head {
        &self.last
    }

    /// When the last line was written.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// A line was appended.
    pub(super) fn grow(&mut self, bytes: u64, last: Head, time: Timestamp) {
        *self = End { start: self.end, end: self.end + bytes, last, time };
    }

    /// Finds it in a file of which nothing is known. What a crash tore after it does not count: what it said was not done.
    pub(super) fn find(&mut self, file: &File) -> io::Result<()> {
        *self = End::default();
        let (tail, first) = read_tail(file)?;
        let whole = whole(&tail);
        let Some(lines) = tail[..whole].strip_suffix(b"\n") else {
            // A first line that is torn is none.
            return if first == 0 { Ok(()) } else { Err(io::Error::other("its last line has no end")) };
        };
        let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let (line, digest) = parse(last)?;
        let end = first + whole as u64;
        let head = Head { sequence: line.sequence, digest };
        *self = End { start: end - (last.len() as u64 + 1), end, last: head, time: line.time };
        Ok(())
    }

    /// Reads what others wrote since. Gives what is wrong where the last line that was known does not stand as it did, or another
    /// one does not follow it.
    pub(super) fn catch_up(&mut self, mut file: &File, path: &Path) -> io::Result<Option<Doubt>> {
        let metadata = file.metadata()?;
        let is_it = |there: Metadata| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino());
        if !std::fs::metadata(path).is_ok_and(is_it) {
            return Ok(Some(Doubt::Moved));
        }
        if metadata.len() < self.end {
            let (mut there, was) = (End::default(), self.last.sequence);
            return Ok(Some(match there.find(file) {
                Ok(()) if there.last.sequence < was => Doubt::Shorter { was, is: there.last.sequence },
                // Nor is what lies before it what it was.
                _ => Doubt::Exchanged { line: was },
            }));
        }
        if !self.stands(file)? {
            return Ok(Some(Doubt::Exchanged { line: self.last.sequence }));
        }
        let mut new = Vec::new();
        file.seek(SeekFrom::Start(self.end))?;
        file.take(metadata.len() - self.end).read_to_end(&mut new)?;
        new.truncate(whole(&new));
        for text in new.split_inclusive(|byte| *byte == b'\n') {
            let (line, digest) = parse(text.strip_suffix(b"\n").unwrap_or(text))?;
            let (sequence, previous) = (line.sequence, &line.previous);
            if sequence != self.last.sequence + 1 || *previous != self.last.digest {
                return Ok(Some(Doubt::Exchanged { line: self.last.sequence + 1 }));
            }
            self.grow(text.len() as u64, Head { sequence, digest }, line.time);
        }
        Ok(None)
    }

    /// What a crash tore after the last line goes.
    pub(super) fn cut_torn(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.len() > self.end { file.set_len(self.end) } else { Ok(()) }
    }

    /// Whether the last line that is known is where it was.
    fn stands(&self, file: &File) -> io::Result<bool> {
        if self.last.sequence == 0 {
            return Ok(true);
        }
        let Ok(bytes) = usize::try_from(self.end - self.start) else { return Ok(false) };
        let mut text = vec![0; bytes];
        file.read_exact_at(&mut text, self.start)?;
        let there = text.strip_suffix(b"\n").and_then(|text| parse(text).ok());
        Ok(there.is_some_and(|(_, digest)| digest == self.last.digest))
    }

    /// Whether a line that was noted stands in its place. One that lies far back is for `audit verify`, which reads all.
    pub(super) fn has(&self, file: &File, noted: &Head) -> io::Result<bool> {
        let Some(back) = self.last.sequence.checked_sub(noted.sequence) else { return Ok(false) };
        let mut lines = self.lines_back(file)?;
        let line = usize::try_from(back).ok().and_then(|back| lines.nth(back));
        Ok(noted.sequence == 0
            || line.is_none_or(|line| line.is_ok_and(|(_, digest)| digest == noted.digest)))
    }

    /// Whether somebody has accepted what is there, at that time or later, and before what was noted.
    pub(super) fn is_accepted_since(&self, file: &File, noted: &Head, since: Timestamp) -> io::Result<bool> {
        let is_acceptance = |line: &Line| {
            matches!(line.deed, Deed::Accepted { .. })
                && line.sequence <= noted.sequence
                && line.time >= since
        };
        Ok(self.lines_back(file)?.map_while(Result::ok).any(|(line, _)| is_acceptance(&line)))
    }

    /// The last lines, from the end on, as far as they are kept at hand.
    fn lines_back(&self, file: &File) -> io::Result<impl Iterator<Item = io::Result<(Line, String)>>> {
        let (mut tail, first) = read_tail(file)?;
        tail.truncate(usize::try_from(self.end.saturating_sub(first)).unwrap_or(usize::MAX));
        let mut lines: Vec<Vec<u8>> = tail
            .strip_suffix(b"\n")
            .map(|lines| lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
            .unwrap_or_default();
        if first > 0 && !lines.is_empty() {
            // Of the first one there may be only a part.
            lines.remove(0);
        }
        Ok(lines.into_iter().rev().map(|line| parse(&line)))
    }
}

/// The end of the file, and where that begins.
fn read_tail(mut file: &File) -> io::Result<(Vec<u8>, u64)> {
    let end = file.metadata()?.len();
    let first = end.saturating_sub(TAIL_BYTES);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(first))?;
    file.take(end - first).read_to_end(&mut tail)?;
    Ok((tail, first))
}

/// Bytes up to the end of the last line that has one.
fn whole(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn parse(text: &[u8]) -> io::Result<(Line, String)> {
    let text = std::str::from_utf8(text).map_err(io::Error::other)?;
    read(text).map_err(|why| {
        io::Error::other(format!("its last line is not whole: {why}; `ashlar audit verify` tells more"))
    })
}
