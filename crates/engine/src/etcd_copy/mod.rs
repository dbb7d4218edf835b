//! A copy of a cluster's etcd, with all that putting it back needs but the installation's key.
//!
//! It is three files. The *database* is etcd's snapshot as etcd sends it (the database, and after it 32 bytes of SHA-256); the
//! *contents* ([`Contents`]) are the cluster's objects and what else they stand on, with its secrets as they are in
//! the store. Both are sealed ([`crate::vault::Sealing`]) with a data key of the copy's own. The *manifest* ([`Manifest`]) is JSON in the
//! clear: whose copy it is and of when, versions, that data key sealed with the installation's key, the id of that key (and the
//! salt, where it is a passphrase), lengths and digests of the other two. So a copy says which key it needs, and whoever has that
//! key and the three files has all of it. What the manifest says stands in the contents too, where nobody can change it.

mod digest;
mod gather;
mod manifest;
mod read;
mod write;

pub use digest::DatabaseDigest;
pub use manifest::{Contents, CopyFacts, CopyFile, Manifest};
pub use read::{CopyError, OpenCopy};
pub use write::CopyWriter;

pub(crate) use gather::gather;

#[cfg(test)]
mod tests;
