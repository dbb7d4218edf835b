//! Keys and certificates of clusters, made by Ashlar before the first node boots.
//!
//! Keys come from the operating system's generator (through ring), whatever [`Entropy`](crate::effects::Entropy) is:
//! a simulated world must never be able to weaken a real key.

mod ca;
mod client;
mod kubeconfig;
mod ssh;
mod token;

pub use ca::{ca_hash, ca_pem, create, etcd_ca_pem, names};
pub use client::{ClientIdentity, Identity, client_identity, client_identity_for, end_of_ours};
pub use kubeconfig::kubeconfig;
pub use ssh::{SshHostKey, ssh_host_key};
pub use token::{JoinToken, join_token};

/// A key or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// rcgen refused.
    #[error("cannot make or read {what}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// An SSH key could not be written down.
    #[error("cannot make the SSH host key")]
    Ssh(#[source] ssh_key::Error),
    /// A secret has no such value, or it is no text.
    #[error("the cluster's PKI secret has no usable {0}; restore the store from a copy")]
    Missing(&'static str),
    /// A time is outside of what certificates can say.
    #[error("the clock says {0}, which no certificate can hold")]
    Clock(jiff::Timestamp),
}
