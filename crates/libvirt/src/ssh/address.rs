//! Where a host's SSH server is, from its libvirt URI.

use ashlar_engine::effects::{EffectError, EffectErrorKind};

/// User, address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshAddress {
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl SshAddress {
    /// Reads `qemu+ssh://[USER@]ADDRESS[:PORT]/system`.
    pub(crate) fn parse(host: &str, uri: &str) -> Result<Self, EffectError> {
        let bad = |why: &str| {
            EffectError::new(
                EffectErrorKind::Refused,
                format!("host {host}: the URI {uri:?} {why}: write qemu+ssh://USER@ADDRESS[:PORT]/system"),
            )
        };
        let rest = uri.strip_prefix("qemu+ssh://").ok_or_else(|| bad("is not one of qemu+ssh"))?;
        let authority = rest.strip_suffix("/system").ok_or_else(|| bad("does not end with /system"))?;
        let (user, address) = authority.rsplit_once('@').unwrap_or(("root", authority));
        let (name, port) = match address.strip_prefix('[') {
            Some(v6) => {
                let (name, rest) = v6.split_once(']').ok_or_else(|| bad("has no ] after its address"))?;
                (name, rest.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (address, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad("has no number for a port"))?,
            None => 22,
        };
        // What begins with a dash would be an option to ssh.
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-:%".contains(c))
        };
        if !plain(name) || !plain(user) {
            return Err(bad("has no plain user and address"));
        }
        Ok(SshAddress { user: user.to_owned(), host: name.to_owned(), port })
    }
}

impl std::fmt::Display for SshAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn uris_say_where_the_host_is() {
        let parse = |uri| SshAddress::parse("h1", uri).map(|address| address.to_string());
        assert_eq!(parse("qemu+ssh://root@10.77.0.11/system").unwrap(), "root@10.77.0.11:22");
        assert_eq!(parse("qemu+ssh://ops@kvm7.example:2222/system").unwrap(), "ops@kvm7.example:2222");
        assert_eq!(parse("qemu+ssh://root@[fd00::11]:22/system").unwrap(), "root@fd00::11:22");
        for uri in [
            "qemu:///system",
            "qemu+ssh://root@10.77.0.11/session",
            "qemu+ssh://root@-oProxyCommand=x/system",
            "qemu+ssh://-l@h/system",
            "qemu+ssh://root@h:ssh/system",
            "qemu+ssh://root@h;reboot/system",
            "qemu+ssh:///system",
        ] {
            let error = parse(uri).unwrap_err();
            assert!(error.message.contains("write qemu+ssh://USER@ADDRESS"), "{uri}: {error}");
        }
    }
}
