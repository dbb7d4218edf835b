//! Names and addresses of a lab: everything that must not collide between labs, or between hosts of one.

use std::net::Ipv4Addr;

use crate::LabError;

/// Name of the bridge on every host that nodes are attached to.
pub const NODE_BRIDGE: &str = "br-nodes";
/// Name of the storage pool that every host comes with.
pub const POOL_NAME: &str = "images";
/// Where that pool lies, as the host sees it.
pub const POOL_PATH: &str = "/var/lib/libvirt/images";
/// Address of the control namespace on the management network.
pub const CONTROL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Default gateway of nodes. It answers, and forwards nothing.
pub const NODE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// First address for nodes.
pub(crate) const NODE_RANGE_FIRST: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 0);
/// Last address for nodes.
pub(crate) const NODE_RANGE_LAST: Ipv4Addr = Ipv4Addr::new(10, 88, 9, 254);
/// Management network.
pub(crate) const MANAGEMENT_CIDR: &str = "10.77.0.0/24";
/// Node network.
pub(crate) const NODE_CIDR: &str = "10.88.0.0/16";
/// MTU of both networks, in bytes.
pub(crate) const MTU: u32 = 1500;
/// The management network has room for hosts .11 to .254.
pub const MAX_HOSTS: u16 = 244;

/// Longest lab name. Namespaces are files, so that 15 characters (an interface's limit) do not apply; the name must
/// still be readable in `ip netns`.
const MAX_NAME: usize = 32;

/// Checks a lab name: lower-case letters, digits and dashes, a letter first.
pub(crate) fn check_lab_name(name: &str) -> Result<(), LabError> {
    let bad = |reason| Err(LabError::BadName { name: name.to_owned(), reason });
    if name.is_empty() || name.len() > MAX_NAME {
        return bad("it must have 1 to 32 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return bad("it must start with a lower-case letter");
    }
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return bad("only lower-case letters, digits and dashes are allowed");
    }
    if name.ends_with('-') {
        return bad("it must not end with a dash");
    }
    Ok(())
}

/// What a network namespace of a lab is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NetnsRole {
    Control,
    Switch,
    Host(u16),
}

impl NetnsRole {
    /// Name of the namespace, as `ip netns` shows it.
    pub(crate) fn netns_name(self, lab: &str) -> String {
        match self {
            Self::Control => format!("ashlar-{lab}-ctl"),
            Self::Switch => format!("ashlar-{lab}-sw"),
            Self::Host(index) => format!("ashlar-{lab}-h{index}"),
        }
    }

    /// The reverse: `None` if the namespace is not this lab's. The role has no dash, so that the namespaces of lab
    /// `a` and lab `a-b` cannot be taken for each other.
    pub(crate) fn parse(lab: &str, netns: &str) -> Option<Self> {
        match netns.strip_prefix("ashlar-")?.strip_prefix(lab)?.strip_prefix('-')? {
            "ctl" => Some(Self::Control),
            "sw" => Some(Self::Switch),
            role => host_index(role).map(Self::Host),
        }
    }
}

/// `h7` → 7; `None` for anything that [`host_name`] does not produce.
pub(crate) fn host_index(name: &str) -> Option<u16> {
    let digits = name.strip_prefix('h')?;
    let index: u16 = digits.parse().ok()?;
    ((1..=MAX_HOSTS).contains(&index) && host_name(index) == name).then_some(index)
}

/// Name of host number `index` (from 1).
pub(crate) fn host_name(index: u16) -> String {
    format!("h{index}")
}

/// Address of a host on the management network: 10.77.0.(10+N).
pub(crate) fn management_address(index: u16) -> Ipv4Addr {
    offset(Ipv4Addr::new(10, 77, 0, 10), index)
}

/// Address of a host's node bridge: 10.88.0.(10+N).
pub(crate) fn node_address(index: u16) -> Ipv4Addr {
    offset(Ipv4Addr::new(10, 88, 0, 10), index)
}

/// A fixed MAC for a host's node bridge: a bridge without one takes the lowest of its ports', which changes when a
/// node's tap is plugged in.
pub(crate) fn bridge_mac(index: u16) -> String {
    let [high, low] = index.to_be_bytes();
    format!("02:a5:58:00:{high:02x}:{low:02x}")
}

fn offset(base: Ipv4Addr, index: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base) + u32::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_never_takes_another_labs_namespace_for_its_own() {
        for lab in ["a", "a-b", "a-h1", "a-ctl"] {
            for role in [NetnsRole::Control, NetnsRole::Switch, NetnsRole::Host(1), NetnsRole::Host(12)] {
                let netns = role.netns_name(lab);
                for other in ["a", "a-b", "a-h1", "a-ctl"] {
                    assert_eq!(
                        NetnsRole::parse(other, &netns),
                        (other == lab).then_some(role),
                        "{other} {netns}"
                    );
                }
            }
        }
        assert_eq!(NetnsRole::parse("a", "ashlar-a-h01"), None);
        assert_eq!(NetnsRole::parse("a", "ashlar-a-h0"), None);
    }

    #[test]
    fn names_that_would_break_paths_are_refused() {
        for name in ["", "A", "1a", "a/b", "a.b", "a-", "-a", "a b", &"a".repeat(33)] {
            assert!(check_lab_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "lab", "t-1-x", &"a".repeat(32)] {
            assert!(check_lab_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn the_last_host_still_has_an_address_of_the_management_network() {
        assert_eq!(management_address(1), Ipv4Addr::new(10, 77, 0, 11));
        assert_eq!(management_address(MAX_HOSTS), Ipv4Addr::new(10, 77, 0, 254));
        assert_eq!(node_address(2), Ipv4Addr::new(10, 88, 0, 12));
        assert_eq!(bridge_mac(1), "02:a5:58:00:00:01");
    }
}
