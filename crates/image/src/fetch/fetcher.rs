//! Files and small texts from servers, with what a failure means and what to do about it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checksum::{Algorithm, Checksum};
use super::client::{Answer, Client, Timing, Trouble};
use super::place::{Attempt, Place};
use crate::cache::{BuildLock, Context};
use crate::error::{Error, Result};

/// Texts (manifests, checksums) are not longer; more is not what was asked for.
const TEXT_LIMIT_BYTES: usize = 4 << 20;
/// Files from here on are worth a line of their own.
const NOTE_FROM_BYTES: u64 = 8 << 20;

/// A file to download.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    pub(crate) checksum: &'a Checksum,
    /// Where its length is known beforehand.
    pub(crate) size_bytes: Option<u64>,
}

/// Answers a server's demand for authorization.
pub(crate) trait Authorizer {
    /// The value of the `Authorization` header, if there is one by now.
    fn header(&self) -> Option<String>;
    /// Takes up a `WWW-Authenticate` challenge; false when it cannot be met.
    fn answer(&self, fetcher: &Fetcher<'_>, place: &Place<'_>, challenge: &str) -> Result<bool>;
}

/// Downloads into a directory of the cache, where finished files lie under their checksums and unfinished ones wait
/// to be taken up by the next attempt, even of another run.
pub(crate) struct Fetcher<'a> {
    ctx: &'a Context<'a>,
    client: Client,
    dir: PathBuf,
    /// A server that has answered before is worth another attempt when it falls silent.
    has_answered: Cell<bool>,
}

impl<'a> Fetcher<'a> {
    /// The lock says that no other build downloads into this cache.
    pub(crate) fn new(ctx: &'a Context<'a>, _lock: &BuildLock, timing: Timing) -> Result<Self> {
        let dir = ctx.cache_dir.join("downloads");
        fs::create_dir_all(&dir).map_err(Error::io("downloads", "create", &dir))?;
        Ok(Self { ctx, client: Client::new(timing), dir, has_answered: Cell::new(false) })
    }

    /// Forgets all downloads: what was made of them is kept elsewhere.
    pub(crate) fn clear(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).map_err(Error::io("downloads", "remove", &self.dir))
    }

    /// A short answer with its headers.
    pub(crate) fn text(
        &self,
        place: &Place<'_>,
        url: &str,
        accept: &str,
        auth: Option<&dyn Authorizer>,
    ) -> Result<Text> {
        self.attempts(place, || {
            let answer = self.open(place, url, &[("Accept", accept.to_owned())], auth)?;
            let mut bytes = Vec::new();
            loop {
                match answer.chunk(self.ctx.cancel) {
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                    Ok(None) => break,
                    Err(trouble) => return Err(place.broken(url, &trouble, bytes.len() as u64, None)),
                }
                if bytes.len() > TEXT_LIMIT_BYTES {
                    let cause = format!("the answer is longer than {TEXT_LIMIT_BYTES} bytes");
                    return Err(Attempt::Final(place.elsewhere(url, &cause)));
                }
            }
            let header = |name: &str| answer.header(name).map(str::to_owned);
            Ok(Text {
                content_type: header("content-type").unwrap_or_default(),
                digest: header("docker-content-digest"),
                bytes,
            })
        })
    }

    /// The checksum published beside a file, the shorter one first.
    pub(crate) fn checksum(&self, place: &Place<'_>, url: &str) -> Result<Checksum> {
        let mut missing = None;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let url = format!("{url}.{}", algorithm.name());
            match self.text(place, &url, "*/*", None) {
                Ok(text) => {
                    let text = String::from_utf8_lossy(&text.bytes).into_owned();
                    return Checksum::from_file_text(algorithm, &text).ok_or_else(|| {
                        let begin: String = text.trim().chars().take(40).collect();
                        let cause = format!("this is no {} checksum: `{begin}`", algorithm.name());
                        place.elsewhere(&url, &cause)
                    });
                }
                Err(error) if error.is_missing() => missing = missing.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(missing.unwrap_or_else(|| place.elsewhere(url, "no checksum is published beside it")))
    }

    /// A file with the right checksum, downloaded now or before.
    pub(crate) fn file(
        &self,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        auth: Option<&dyn Authorizer>,
    ) -> Result<PathBuf> {
        let name = format!("{}-{}", wanted.checksum.algorithm.name(), wanted.checksum.hex);
        let (path, part) = (self.dir.join(&name), self.dir.join(format!("{name}.part")));
        if path.is_file() {
            return Ok(path);
        }
        self.attempts(place, || {
            let before = size_of(&part);
            self.transfer(place, wanted, auth, &part, before)?;
            let (found, size_bytes) = Checksum::of_file(place.stage, wanted.checksum.algorithm, &part)?;
            if found == *wanted.checksum {
                return Ok(());
            }
            fs::remove_file(&part).map_err(Error::io(place.stage, "remove", &part))?;
            let error = Error::Digest {
                stage: place.stage.to_owned(),
                subject: wanted.url.to_owned(),
                expected: wanted.checksum.to_string(),
                actual: format!("{found} ({size_bytes} bytes)"),
                hint: format!(
                    "what the server serves is damaged or not what it announces: name another one with `{} URL`",
                    place.option
                ),
            };
            // What lay here from an earlier attempt may have been the damaged half.
            Err(if before > 0 { Attempt::Again(error) } else { Attempt::Final(error) })
        })?;
        fs::rename(&part, &path).map_err(Error::io(place.stage, "move into place", &path))?;
        Ok(path)
    }

    /// Appends to `part` what is missing of it.
    fn transfer(
        &self,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        auth: Option<&dyn Authorizer>,
        part: &Path,
        before: u64,
    ) -> Result<(), Attempt> {
        if wanted.size_bytes.is_some_and(|size| before == size) {
            return Ok(());
        }
        let range = (before > 0).then(|| ("Range", format!("bytes={before}-")));
        let answer = self.open(place, wanted.url, range.as_slice(), auth)?;
        let io = |action| Error::io(place.stage, action, part);
        let mut file = File::options().create(true).append(true).open(part).map_err(Error::io(
            place.stage,
            "open",
            part,
        ))?;
        let begins_at = match answer.status {
            206 if answer.header("content-range").and_then(range_start) == Some(before) => before,
            // Nothing is left to send: the checksum says whether that is so.
            416 => return Ok(()),
            _ => {
                file.set_len(0).map_err(io("empty"))?;
                0
            }
        };
        let total = answer
            .header("content-length")
            .and_then(|length| length.parse::<u64>().ok())
            .map(|length| begins_at + length)
            .or(wanted.size_bytes);
        if let Some(total) = total.filter(|total| total - begins_at >= NOTE_FROM_BYTES) {
            let already = if begins_at > 0 {
                format!(", {} of it already here", mib(begins_at))
            } else {
                String::new()
            };
            self.ctx.reporter.note(&format!("{} ({}{already})", wanted.url, mib(total)));
        }
        let mut at = begins_at;
        let began = Instant::now();
        loop {
            match answer.chunk(self.ctx.cancel) {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk).map_err(io("write"))?;
                    at += chunk.len() as u64;
                }
                Ok(None) if total.is_some_and(|total| at < total) => {
                    let trouble = Trouble::Broken("the connection ended early".to_owned());
                    return Err(place.broken(wanted.url, &trouble, at, total));
                }
                Ok(None) => break,
                Err(trouble) => return Err(place.broken(wanted.url, &trouble, at, total)),
            }
        }
        if at - begins_at >= NOTE_FROM_BYTES {
            let rate =
                (at - begins_at) as f64 / began.elapsed().as_secs_f64().max(0.001) / f64::from(1 << 20);
            self.ctx.reporter.note(&format!("{}: {} at {rate:.0} MiB/s", wanted.url, mib(at)));
        }
        Ok(())
    }

    /// Status and headers of an answer that can be used.
    fn open(
        &self,
        place: &Place<'_>,
        url: &str,
        headers: &[(&'static str, String)],
        auth: Option<&dyn Authorizer>,
    ) -> Result<Answer, Attempt> {
        self.ctx.check_cancel(place.stage)?;
        let mut is_second = false;
        loop {
            let mut headers = headers.to_vec();
            if let Some(value) = auth.and_then(|auth| auth.header()) {
                headers.push(("Authorization", value));
            }
            let answer = match self.client.get(self.ctx.cancel, url, &headers) {
                Ok(answer) => answer,
                Err(Trouble::Cancelled) => {
                    return Err(Attempt::Final(Error::Cancelled { stage: place.stage.to_owned() }));
                }
                Err(Trouble::NoAnswer(cause) | Trouble::Broken(cause)) => {
                    let error = place.unreachable(url, cause);
                    return Err(if self.has_answered.get() {
                        Attempt::Again(error)
                    } else {
                        Attempt::Final(error)
                    });
                }
            };
            self.has_answered.set(true);
            match (answer.status, auth) {
                (200 | 206 | 416, _) => return Ok(answer),
                (401, Some(auth)) if !is_second => {
                    let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
                    if !auth.answer(self, place, &challenge)? {
                        return Err(place.refused(url, &answer));
                    }
                    is_second = true;
                }
                _ => return Err(place.refused(url, &answer)),
            }
        }
    }

    fn attempts<T>(&self, place: &Place<'_>, mut attempt: impl FnMut() -> Result<T, Attempt>) -> Result<T> {
        for pause in self.client.timing().pauses {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => {
                    self.ctx.reporter.note(&format!("{error}; trying again in {} s", pause.as_secs()));
                }
            }
            let until = Instant::now() + *pause;
            while Instant::now() < until {
                self.ctx.check_cancel(place.stage)?;
                std::thread::sleep((*pause).min(std::time::Duration::from_millis(100)));
            }
        }
        attempt().map_err(|end| match end {
            Attempt::Final(error) | Attempt::Again(error) => error,
        })
    }
}

/// A short answer.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
    /// What a registry says its digest is.
    pub(crate) digest: Option<String>,
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// `bytes 10-99/100` begins at 10.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
