//! The address of a host: `qemu+ssh://USER@ADDRESS[:PORT]/system`.

use crate::names::{dns_name_problem, quoted};

/// A host's libvirt URI, taken apart. Everything else about the host goes over the same SSH.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostUri {
    /// SSH user: root, or one that may use sudo.
    pub user: String,
    /// Name or address (IPv6 without brackets), lower case.
    pub address: String,
    /// SSH port.
    pub port: u16,
}

/// Why a text is not a host's URI, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostUriError(String);

const FORM: &str = "write qemu+ssh://USER@ADDRESS[:PORT]/system";

impl std::str::FromStr for HostUri {
    type Err = HostUriError;

    fn from_str(text: &str) -> Result<Self, HostUriError> {
        let error = |message: String| Err(HostUriError(message));
        let Some((scheme, rest)) = text.split_once("://") else {
            return error(format!("{} is not a URI: {FORM}", quoted(text)));
        };
        match scheme {
            "qemu+ssh" => {}
            "qemu+tls" | "qemu+tcp" => {
                return error(format!(
                    "{scheme} reaches libvirt only, and commands on the host are needed too: {FORM}"
                ));
            }
            "qemu" | "qemu+unix" => {
                return error(
                    "a local socket is not supported, since a host is always reached by SSH: for this machine write \
                     qemu+ssh://root@localhost/system"
                        .to_owned(),
                );
            }
            "qemu+libssh" | "qemu+libssh2" | "qemu+ext" => {
                return error(format!(
                    "{scheme} is not supported, since Ashlar brings its own SSH transport: {FORM}"
                ));
            }
            _ => return error(format!("{} is not supported, only QEMU over SSH: {FORM}", quoted(scheme))),
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains(['?', '#']) {
            return error(format!(
                "options after the path are not possible, since host key and identity are fields of their own \
                 (sshHostKey, sshKeyPath): {FORM}"
            ));
        }
        match path {
            "system" => {}
            "session" => return error(format!("/session has no bridges and pools of the host: {FORM}")),
            _ => return error(format!("the path is {}, not /system: {FORM}", quoted(&format!("/{path}")))),
        }
        let Some((user, host)) = authority.rsplit_once('@') else {
            return error(format!("no user is named (root, or one that may use sudo): {FORM}"));
        };
        if user.contains(':') {
            return error(format!("a password has no place in a URI, since SSH keys are used: {FORM}"));
        }
        let is_user = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if user.is_empty() || user.starts_with('-') || !user.chars().all(is_user) {
            return error(format!("{} is not a user name: {FORM}", quoted(user)));
        }
        let (address, port) = split_port(host).map_err(HostUriError)?;
        Ok(HostUri { user: user.to_owned(), address: address.to_ascii_lowercase(), port })
    }
}

fn split_port(host: &str) -> Result<(&str, u16), String> {
    let (address, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(format!("the `]` after the IPv6 address is missing: {FORM}"));
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{} is not an IPv6 address", quoted(address)));
            }
            (address, after.strip_prefix(':').or((!after.is_empty()).then_some(after)))
        }
        None => match host.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (host, None),
        },
    };
    let looks_like_ipv4 = address.chars().all(|c| c.is_ascii_digit() || c == '.');
    if address.is_empty() {
        return Err(format!("no address is named: {FORM}"));
    } else if looks_like_ipv4 && address.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!("{} is not an IPv4 address", quoted(address)));
    } else if !address.contains(':')
        && let Some(problem) = dns_name_problem(&address.to_ascii_lowercase())
    {
        return Err(format!("{} is not a host name: it {problem}", quoted(address)));
    }
    let port = match port {
        None => 22,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("{} is not a port (1 to 65535)", quoted(port)))?,
    };
    Ok((address, port))
}

impl std::fmt::Display for HostUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HostUri { user, address, port } = self;
        let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        match port {
            22 => write!(f, "qemu+ssh://{user}@{address}/system"),
            port => write!(f, "qemu+ssh://{user}@{address}:{port}/system"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_uris_are_taken_apart_and_written_the_same() {
        for (text, user, address, port) in [
            ("qemu+ssh://root@10.77.0.11/system", "root", "10.77.0.11", 22),
            ("qemu+ssh://ashlar@host-1.example.com:2222/system", "ashlar", "host-1.example.com", 2222),
            ("qemu+ssh://root@[fd00::1]/system", "root", "fd00::1", 22),
            ("qemu+ssh://root@[fd00::1]:2222/system", "root", "fd00::1", 2222),
        ] {
            let uri: HostUri = text.parse().unwrap();
            assert_eq!((uri.user.as_str(), uri.address.as_str(), uri.port), (user, address, port));
            assert_eq!(uri.to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_parses_is_safe_as_an_argument_of_ssh(text in "qemu\\+ssh://.{0,12}@.{0,12}/system") {
            if let Ok(uri) = text.parse::<HostUri>() {
                let plain = |s: &str| !s.is_empty() && !s.starts_with('-')
                    && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
                proptest::prop_assert!(plain(&uri.user) && plain(&uri.address));
            }
        }
    }
}
