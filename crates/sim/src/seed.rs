//! What lies in a seed, found in its bytes as a guest (or a thief) would find it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a guest takes from its seed. Kept in memory by the simulated world only, never written anywhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SeedFacts {
    /// cloud-init's instance id: the machine's uid.
    pub instance_id: String,
    /// Join token, id and secret.
    pub(crate) token: Option<(String, String)>,
    /// Certificates (PEM without line ends).
    pub(crate) certificates: BTreeSet<String>,
    /// The CA that a joining node is told (PEM without line ends).
    pub(crate) pinned_ca: Option<String>,
    /// Bodies of private keys (PEM without line ends).
    pub(crate) private_keys: Vec<String>,
}

impl std::fmt::Debug for SeedFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedFacts").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

impl SeedFacts {
    /// Reads the bytes of a seed image. Its files lie in it one after the other, unpacked, so that looking for text
    /// finds all of them.
    pub fn read(image: &[u8]) -> Self {
        // A seed is padded with a megabyte of zeros; comparing blocks is fast even in a debug build.
        const BLOCK: usize = 4096;
        let blocks = image.chunks(BLOCK).rposition(|block| block != &[0; BLOCK][..block.len()]);
        let end = blocks.map_or(0, |last| (last + 1) * BLOCK).min(image.len());
        let text = String::from_utf8_lossy(&image[..end]);
        let line_after = |mark: &str| {
            text.split(mark).nth(1).and_then(|rest| rest.lines().next()).map(|line| line.trim().to_owned())
        };
        let token = line_after("token: ").and_then(|token| {
            let (id, secret) = token.split_once('.')?;
            Some((id.to_owned(), secret.to_owned()))
        });
        SeedFacts {
            instance_id: line_after("instance-id: ").unwrap_or_default(),
            token,
            certificates: pem_bodies(&text, "CERTIFICATE").into_iter().collect(),
            pinned_ca: line_after("certificate-authority-data: ").and_then(|encoded| {
                let pem = STANDARD.decode(encoded).ok()?;
                pem_bodies(std::str::from_utf8(&pem).ok()?, "CERTIFICATE").pop()
            }),
            private_keys: ["PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"]
                .iter()
                .flat_map(|label| pem_bodies(&text, label))
                .collect(),
        }
    }
}

/// The bodies of all PEM blocks of a label, line ends taken out.
pub(crate) fn pem_bodies(text: &str, label: &str) -> Vec<String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    text.split(&begin)
        .skip(1)
        .filter_map(|rest| rest.split(&end).next())
        .map(|body| body.split_whitespace().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_guest_needs() {
        let image = b"\0\0instance-id: 42\nlocal-hostname: a\n\0\0    certificate-authority-data: \
            LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=\n\
            users:\n  user:\n    token: abcdef.0123456789abcdef\n\0\
            -----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n\
            -----BEGIN PRIVATE KEY-----\nS0VZ\nS0VZ\n-----END PRIVATE KEY-----\n\0\0\0";
        let facts = SeedFacts::read(image);
        assert_eq!(facts.instance_id, "42");
        assert_eq!(facts.token, Some(("abcdef".to_owned(), "0123456789abcdef".to_owned())));
        assert_eq!(facts.certificates, BTreeSet::from(["AAAABBBB".to_owned()]));
        assert_eq!(facts.pinned_ca.as_deref(), Some("AAAA"));
        assert_eq!(facts.private_keys, ["S0VZS0VZ"]);
    }
}
