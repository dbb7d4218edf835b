//! Long contents at rest: sealed chunk by chunk, so that never more than two chunks are held.
//!
//! A sealed file is
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `ashlar sealed 1` and a line feed: what it is, and the version of this format |
//! | 19 | random: how each chunk's nonce begins |
//! | the rest | chunks: 65 536 bytes (the last may have fewer), sealed with XChaCha20-Poly1305, each with its tag of 16 bytes |
//!
//! A chunk's nonce goes on with its number (32 bits, big-endian) and a byte that is 1 in the last chunk and 0 in all
//! others: the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár. So what was cut, continued, left out, moved or doubled
//! does not open. Associated data of each chunk is the file's place, so that no file opens as another.

use std::io::{Error, ErrorKind, Read, Result, Write};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305,
    aead::stream::{DecryptorBE32, EncryptorBE32},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::effects::Entropy;

const MAGIC: &[u8; 16] = b"ashlar sealed 1\n";
const NONCE: usize = 19;
const HEAD: usize = MAGIC.len() + NONCE;
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;

/// A sealed file, as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: [u8; 32],
}

/// Bytes of what a sealed file of so many bytes holds; none if no such file has so many.
pub fn plain_length(sealed: u64) -> Option<u64> {
    let (head, chunk, tag) = (HEAD as u64, (CHUNK + TAG) as u64, TAG as u64);
    let body = sealed.checked_sub(head)?;
    body.checked_sub(body.div_ceil(chunk) * tag).filter(|_| body > 0)
}

/// Seals what is written to it, and writes that on.
pub struct Sealing<W> {
    to: W,
    cipher: Option<EncryptorBE32<XChaCha20Poly1305>>,
    place: String,
    /// At most a chunk: which one is the last is known when it ends.
    chunk: Zeroizing<Vec<u8>>,
    digest: Digesting,
}

impl<W: Write> Sealing<W> {
    /// Begins with a key that nothing else of this place was sealed with.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(to: W, key: &[u8; 32], place: String, entropy: &dyn Entropy) -> Result<Self> {
        let mut nonce = [0u8; NONCE];
        entropy.fill(&mut nonce);
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
        let cipher = Some(EncryptorBE32::from_aead(cipher, nonce.as_slice().into()));
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        let mut sealing = Sealing { to, cipher, place, chunk, digest: Digesting::default() };
        sealing.put(MAGIC)?;
        sealing.put(&nonce)?;
        Ok(sealing)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes)?;
        self.digest.update(bytes);
        Ok(())
    }

    /// Whatever fails ends it: a chunk is never sealed twice under one number.
    fn seal(&mut self, is_last: bool) -> Result<()> {
        let over = || Error::other("what is sealed here has ended, or is too long");
        let mut cipher = self.cipher.take().ok_or_else(over)?;
        let mut chunk = std::mem::take(&mut *self.chunk);
        let place = self.place.as_bytes();
        let sealed = if is_last {
            cipher.encrypt_last_in_place(place, &mut chunk)
        } else {
            let sealed = cipher.encrypt_next_in_place(place, &mut chunk);
            self.cipher = Some(cipher);
            sealed
        };
        if sealed.is_err() {
            self.cipher = None;
            return Err(over());
        }
        if let Err(error) = self.put(&chunk) {
            self.cipher = None;
            return Err(error);
        }
        chunk.clear();
        *self.chunk = chunk;
        Ok(())
    }

    /// Seals the last chunk. Without it nothing opens.
    ///
    /// # Errors
    /// It cannot be written, or a write before could not.
    pub fn finish(mut self) -> Result<(W, Sealed)> {
        self.seal(true)?;
        self.to.flush()?;
        Ok((self.to, self.digest.done()))
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }
}

/// Opens what it reads. What was not read to its end was not proved to be whole.
pub struct Opening<R> {
    from: R,
    cipher: Option<DecryptorBE32<XChaCha20Poly1305>>,
    place: String,
    /// The next chunk, sealed: whether it is the last says whether another one follows.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    digest: Digesting,
}

impl<R: Read> Opening<R> {
    /// Reads how it begins.
    ///
    /// # Errors
    /// It cannot be read; it is no sealed file, or of a version that is not known here (`InvalidData`).
    pub fn new(mut from: R, key: &[u8; 32], place: String) -> Result<Self> {
        let mut digest = Digesting::default();
        let head = read_up_to(&mut from, HEAD, &mut digest)?;
        let nonce = head.strip_prefix(MAGIC).filter(|nonce| nonce.len() == NONCE);
        let nonce = nonce.ok_or_else(|| broken("it is not what this version of Ashlar seals"))?;
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
        let cipher = Some(DecryptorBE32::from_aead(cipher, nonce.into()));
        let ahead = read_up_to(&mut from, CHUNK + TAG, &mut digest)?;
        Ok(Opening { from, cipher, place, ahead, plain: Zeroizing::default(), at: 0, digest })
    }

    /// The sealed file, if all of it was read and opened.
    pub fn finish(self) -> Option<Sealed> {
        (self.cipher.is_none() && self.at == self.plain.len()).then(|| self.digest.done())
    }

    fn open_next(&mut self) -> Result<()> {
        let Some(mut cipher) = self.cipher.take() else { return Ok(()) };
        let following = read_up_to(&mut self.from, CHUNK + TAG, &mut self.digest)?;
        let is_last = following.is_empty();
        let mut chunk = std::mem::replace(&mut self.ahead, following);
        let place = self.place.as_bytes();
        let opened = if is_last {
            cipher.decrypt_last_in_place(place, &mut chunk)
        } else {
            let opened = cipher.decrypt_next_in_place(place, &mut chunk);
            self.cipher = Some(cipher);
            opened
        };
        if opened.is_err() {
            // Nothing more comes of it, and it is not at its end either.
            self.plain.clear();
            self.at = 1;
            self.cipher = None;
            return Err(broken("it was changed or cut, or does not belong there"));
        }
        self.plain = Zeroizing::new(chunk);
        self.at = 0;
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.at == self.plain.len() && self.cipher.is_some() {
            self.open_next()?;
        }
        let left = self.plain.get(self.at..).ok_or_else(|| broken("it did not open"))?;
        let taken = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..taken), left.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at += taken;
        Ok(taken)
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

/// Fewer only at the end.
fn read_up_to(from: &mut impl Read, length: usize, digest: &mut Digesting) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    from.take(length as u64).read_to_end(&mut bytes)?;
    digest.update(&bytes);
    Ok(bytes)
}

#[derive(Default)]
struct Digesting {
    hash: Sha256,
    bytes: u64,
}

impl Digesting {
    fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn done(self) -> Sealed {
        Sealed { bytes: self.bytes, sha256: self.hash.finalize().into() }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
