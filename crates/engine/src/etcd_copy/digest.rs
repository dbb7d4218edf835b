//! The digest that etcd puts at the end of a snapshot.

use sha2::{Digest, Sha256};

/// Bytes of it.
const DIGEST: usize = 32;
/// etcd writes its database in pages, of at least so many bytes.
const PAGE: u64 = 512;

/// Compares a snapshot with the digest at its end, as `etcdutl snapshot restore` does, while it goes by.
#[derive(Default)]
pub struct DatabaseDigest {
    hash: Sha256,
    hashed: u64,
    /// The last bytes that came: the digest, if nothing follows.
    tail: Vec<u8>,
}

impl DatabaseDigest {
    /// More of the snapshot.
    pub fn update(&mut self, bytes: &[u8]) {
        let cut = (self.tail.len() + bytes.len()).saturating_sub(DIGEST);
        let old = cut.min(self.tail.len());
        let (new, rest) = bytes.split_at(cut - old);
        self.hash.update(self.tail.get(..old).unwrap_or_default());
        self.hash.update(new);
        self.hashed += cut as u64;
        self.tail.drain(..old);
        self.tail.extend_from_slice(rest);
    }

    /// Bytes of the database, and its digest, if that is what came last.
    pub fn whole(self) -> Option<(u64, [u8; DIGEST])> {
        let digest: [u8; DIGEST] = self.hash.finalize().into();
        let is_whole = self.hashed > 0 && self.hashed.is_multiple_of(PAGE) && self.tail == digest;
        is_whole.then_some((self.hashed, digest))
    }
}
