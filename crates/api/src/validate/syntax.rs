//! The syntax of single values. Each function says what is wrong, or nothing.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use ipnet::Ipv4Net;

use crate::names::{dns_name_problem, label_problem, quoted};

/// Oldest Kubernetes minor: kubeadm reads its `v1beta4` configuration from here on.
pub(crate) const OLDEST_MINOR: (u32, u32) = (1, 31);

/// A Kubernetes version, `v1.37.2`.
pub(crate) fn version_problem(text: &str) -> Option<String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) && parse_version(&format!("v{text}")).is_some() {
        return Some(format!("{} lacks its `v`: write v{text}", quoted(text)));
    }
    match parse_version(text) {
        None => Some(format!("{} is not a version: write it completely, as in v1.37.2", quoted(text))),
        Some((major, minor, _)) if (major, minor) < OLDEST_MINOR => Some(format!(
            "{text} is too old: nodes are set up with kubeadm's v1beta4 configuration, which v{}.{} was the first to read",
            OLDEST_MINOR.0, OLDEST_MINOR.1
        )),
        Some(_) => None,
    }
}

/// Takes `v1.37.2` apart.
pub fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.strip_prefix('v')?.split('.').map(|part| {
        let is_number = !part.is_empty() && part.len() <= 5 && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = is_number && (part == "0" || !part.starts_with('0'));
        if is_plain { part.parse::<u32>().ok() } else { None }
    });
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

/// A network whose address has no bits beyond its prefix.
pub(crate) fn cidr_problem(cidr: Ipv4Net) -> Option<String> {
    (cidr.trunc() != cidr).then(|| format!("{cidr} has bits beyond its prefix: write {}", cidr.trunc()))
}

/// A network that addresses of nodes, pods or services may come from.
pub(crate) fn special_network(cidr: Ipv4Net) -> Option<String> {
    let special = [
        (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "\"this network\""),
        (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
        (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
        (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3), "multicast and reserved"),
    ];
    special
        .iter()
        .find(|(other, _)| overlap(*other, cidr))
        .map(|(other, name)| format!("{cidr} lies in {other} ({name} addresses)"))
}

/// Whether two networks share addresses.
pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// A name or IP address.
pub(crate) fn host_name_problem(text: &str) -> Option<String> {
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Some(format!("{} is neither an IP address nor a name", quoted(text)));
    }
    dns_name_problem(text).map(|problem| format!("{} {problem}", quoted(text)))
}

/// A name or address for a certificate; a wildcard may stand in front.
pub(crate) fn san_problem(text: &str) -> Option<String> {
    host_name_problem(text.strip_prefix("*.").unwrap_or(text))
}

/// The name of a Linux network interface.
pub(crate) fn interface_problem(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 15 {
        return Some(format!("{} is not an interface name: Linux allows 1 to 15 characters", quoted(name)));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if matches!(name, "." | "..") || name.starts_with('-') || !name.chars().all(good) {
        let allowed = "letters, digits, `-`, `_` and `.`";
        return Some(format!("{} is not an interface name: it consists of {allowed}", quoted(name)));
    }
    None
}

const SSH_KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A public SSH key: type and base64, then a comment if one may follow. The key itself is never repeated in the
/// message: it might be the private one.
pub(crate) fn ssh_key_problem(text: &str, may_have_comment: bool) -> Option<String> {
    if text.contains("PRIVATE KEY") {
        return Some("is a private key: take it out of this file, and write the public one".to_owned());
    }
    if text.contains(['\n', '\r', '\0']) {
        return Some("is more than one line".to_owned());
    }
    let mut words = text.split_whitespace();
    let (Some(key_type), Some(encoded)) = (words.next(), words.next()) else {
        return Some(
            "is not a public SSH key: write its type and text, as in `ssh-ed25519 AAAA…`".to_owned(),
        );
    };
    if !SSH_KEY_TYPES.contains(&key_type) {
        if SSH_KEY_TYPES.contains(&encoded) {
            return Some(
                "begins with something before the key's type: remove it (a host name, or options)".to_owned(),
            );
        }
        return Some(format!("has a key type that is not known; known are {}", SSH_KEY_TYPES.join(", ")));
    }
    let Ok(blob) = base64::engine::general_purpose::STANDARD.decode(encoded) else {
        return Some(
            "is damaged: the part after the type is not base64 (was it copied completely?)".to_owned(),
        );
    };
    // The blob begins with the type again, after its length (RFC 4253, 6.6); the key follows.
    let length = blob.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let inner = length.and_then(|length| blob.get(4..4_usize.checked_add(length)?));
    if inner != Some(key_type.as_bytes()) || blob.len() < 4 + key_type.len() + 32 {
        return Some(format!(
            "is damaged: its text is not that of a key of type {key_type} (was it copied completely?)"
        ));
    }
    if !may_have_comment && words.next().is_some() {
        return Some("has something after the key: remove it".to_owned());
    }
    None
}

/// Hex digits of a SHA-256.
pub(crate) fn sha256_problem(text: &str) -> Option<String> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (!is_hex)
        .then(|| format!("{} is not a SHA-256: it has 64 hexadecimal digits in lower case", quoted(text)))
}

/// A name in a reference: whatever is no name cannot be that of an object.
pub(crate) fn reference_problem(name: &str) -> Option<String> {
    if name.is_empty() { Some("is empty: name one".to_owned()) } else { None }
}

/// A rack's or zone's name, which becomes a node label's value.
pub(crate) fn topology_problem(text: &str) -> Option<String> {
    if text.is_empty() { None } else { super::labels::label_value_problem(text) }
}

/// A name of an object that may contain dots (an Image is named by its version).
pub(crate) fn object_name_problem(name: &str, with_dots: bool, longest: usize) -> Option<String> {
    if with_dots { dns_name_problem(name) } else { label_problem(name, longest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_complete_and_plain() {
        assert_eq!(parse_version("v1.37.2"), Some((1, 37, 2)));
        for bad in [
            "1.37.2",
            "v1.37",
            "v1.37.2.3",
            "v1.037.2",
            "v1.37.x",
            "v1.37.2-rc.1",
            "v",
            "",
            "v1..2",
            "v+1.2.3",
        ] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_check_panic(text in ".{0,80}") {
            let _ = (version_problem(&text), host_name_problem(&text), ssh_key_problem(&text, true));
            let _ = (san_problem(&text), interface_problem(&text), sha256_problem(&text));
            let _ = (ssh_key_problem(&format!("ssh-rsa {text}"), false), topology_problem(&text));
        }

        #[test]
        fn ssh_keys_of_any_content_pass_only_with_their_own_type(key in proptest::collection::vec(0_u8.., 36..80)) {
            let mut blob = vec![0, 0, 0, 11];
            blob.extend(b"ssh-ed25519");
            blob.extend(&key);
            let text = base64::engine::general_purpose::STANDARD.encode(blob);
            let good = format!("ssh-ed25519 {text}");
            let other = format!("ssh-rsa {text}");
            proptest::prop_assert_eq!(ssh_key_problem(&good, false), None);
            proptest::prop_assert!(ssh_key_problem(&other, false).is_some());
        }
    }
}
