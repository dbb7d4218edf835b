//! Takes secrets out of texts that others wrote: logs, consoles, messages. Ashlar's own objects hold none.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands where a secret stood.
const GONE: &str = "[redacted]";

/// What a secret looks like; a first group is what stays.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // Private keys, whole and as the base64 of their PEM in a kubeconfig.
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        r"()\bLS0tLS1CRUdJTi[A-Za-z0-9+/=]{40,}",
        // Bootstrap tokens (kubeadm) and JSON web tokens.
        r"()\b[a-z0-9]{6}\.[a-z0-9]{16}\b",
        r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"(?i)(\b(?:authorization|proxy-authorization)\b\W{1,4}(?:bearer|basic)\s+)[^\s]+",
        // What calls itself one.
        r#"(?i)(\b(?:client-key-data|certificate-?key|encryption-?key|private-?key|pass(?:word|wd|phrase)|token(?:-?secret)?|secret-?key|auth_pass)["']?\s*[:=]\s*["']?)[^\s"',;&]{6,}"#,
        // Keys of an EncryptionConfiguration.
        r"(?m)(^\s*(?:- )?secret:\s*)[A-Za-z0-9+/=]{32,}",
    ]
    .iter()
    // All of them are tested below.
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

/// The text without secrets, and how many were taken out.
pub(super) fn redacted(text: &str) -> (String, usize) {
    let mut count = 0;
    let mut text = text.to_owned();
    for pattern in SECRETS.iter() {
        if !pattern.is_match(&text) {
            continue;
        }
        let put = |found: &Captures<'_>| {
            count += 1;
            format!("{}{GONE}", found.get(1).map_or("", |kept| kept.as_str()))
        };
        text = pattern.replace_all(&text, put).into_owned();
    }
    (text, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(SECRETS.len(), 7);
    }

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (text, expected) in [
            (
                "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\nAQEE\n-----END EC PRIVATE KEY-----\nb",
                "a\n[redacted]\nb",
            ),
            ("cut off -----BEGIN PRIVATE KEY-----\nMHcCAQEE", "cut off [redacted]"),
            (
                "kubeadm join --token abcdef.0123456789abcdef 10.0.0.1:6443",
                "kubeadm join --token [redacted] 10.0.0.1:6443",
            ),
            ("Authorization: Bearer s3cr3t-t0ken", "Authorization: Bearer [redacted]"),
            ("jwt eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl end", "jwt [redacted] end"),
            (
                "client-key-data: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSU4vd2tK",
                "client-key-data: [redacted]",
            ),
            (
                "\"password\": \"hunter2hunter2\", \"user\": \"x\"",
                "\"password\": \"[redacted]\", \"user\": \"x\"",
            ),
            ("  - secret: c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmU=", "  - secret: [redacted]"),
        ] {
            assert_eq!(redacted(text).0, expected);
        }
        for plain in [
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "image sha256:a90585d5921673f2 of v1.37.2",
            "secret kube-system/bootstrap-token-abcdef is gone",
            "machine demo-ctrl-1: kubeadm token phase ok",
            "https://10.0.0.1:6443/healthz",
        ] {
            assert_eq!(redacted(plain), (plain.to_owned(), 0));
        }
    }
}
