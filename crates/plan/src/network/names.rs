//! Names on hosts. Interfaces have 15 characters at most, so that a part of the network's uid has to do.

use uuid::Uuid;

/// Prefix of taps: no other interface has it.
pub const TAP_PREFIX: &str = "as-";
/// Prefix of every interface of ours on a host.
pub const PREFIX: &str = "as";

/// The part of a network's uid that its names on hosts carry.
pub fn id(network: Uuid) -> String {
    let hex = network.simple().to_string();
    hex[hex.len() - 10..].to_owned()
}

/// Bridge.
pub fn bridge(network: Uuid) -> String {
    format!("asbr-{}", id(network))
}

/// VXLAN device, a port of the bridge.
pub fn overlay(network: Uuid) -> String {
    format!("asvx-{}", id(network))
}

/// The host's end of the pair to the gateway, a port of the bridge.
pub fn gateway_port(network: Uuid) -> String {
    format!("asgw-{}", id(network))
}

/// The host's end of the pair through which the gateway leaves.
pub fn uplink(network: Uuid) -> String {
    format!("asup-{}", id(network))
}

/// Network namespace with the gateway.
pub fn namespace(network: Uuid) -> String {
    format!("ashlar-{}", id(network))
}

/// The nft tables, of families bridge and inet.
pub fn table(network: Uuid) -> String {
    format!("ashlar_{}", id(network))
}

/// MAC of the gateway, the same on every host: locally administered, from the network's uid.
pub fn gateway_mac(network: Uuid) -> String {
    let bytes = network.as_bytes();
    let [a, b, c, d] = [bytes[12], bytes[13], bytes[14], bytes[15]];
    format!("02:a5:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// A machine's tap, from its MAC, which is its own in the whole installation. It is in the domain's definition, so that
/// the filter can be there before the tap is.
pub fn tap(mac: &str) -> String {
    let hex: String = mac.chars().filter(char::is_ascii_hexdigit).collect();
    format!("{TAP_PREFIX}{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_limit() {
        let uid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
        for name in [bridge(uid), overlay(uid), gateway_port(uid), uplink(uid), tap("52:54:00:aa:bb:cc")] {
            assert!(name.len() <= 15 && name.starts_with(PREFIX), "{name}");
        }
        assert_eq!(bridge(uid), "asbr-456789abcd");
        assert_eq!(gateway_mac(uid), "02:a5:67:89:ab:cd");
    }
}
