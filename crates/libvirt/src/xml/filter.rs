//! The filter on every node's tap.

use uuid::{Uuid, uuid};

use super::XmlError;
use super::write::Document;

/// Its name on a host.
pub const FILTER_NAME: &str = ashlar_plan::domain::TAP_FILTER;
/// Its UUID on every host: a filter of the name with another UUID is somebody else's.
pub const FILTER_UUID: Uuid = uuid!("6b9c1a52-5d0e-4c53-9c0f-a5b1a2000001");

/// Priority, protocol, and what has to match.
type Rule<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// XML of the filter. From the guest it drops frames with a MAC that is not the guest's, ARP that claims another
/// MAC, answers of a DHCP server, router advertisements and spanning tree. It says nothing about IP addresses: pods,
/// Service addresses and the VIP pass, and so does VRRP (keepalived without `use_vmac` sends from the node's own MAC).
/// libvirt's stock `clean-traffic` would cut the VIP off.
pub fn filter() -> Result<String, XmlError> {
    let mut document = Document::new();
    document.nest("filter", &[("name", FILTER_NAME), ("chain", "root"), ("priority", "-700")], |filter| {
        filter.text("uuid", &[], "uuid", &FILTER_UUID.to_string())?;
        let rules: [Rule<'_>; 6] = [
            ("100", "mac", &[("match", "no"), ("srcmacaddr", "$MAC")]),
            ("200", "arp", &[("match", "no"), ("arpsrcmacaddr", "$MAC")]),
            ("300", "mac", &[("dstmacaddr", "01:80:c2:00:00:00")]),
            ("400", "ip", &[("protocol", "udp"), ("srcportstart", "67"), ("srcportend", "67")]),
            ("410", "ipv6", &[("protocol", "udp"), ("srcportstart", "547"), ("srcportend", "547")]),
            ("420", "ipv6", &[("protocol", "icmpv6"), ("type", "134")]),
        ];
        for (priority, protocol, attributes) in rules {
            let rule = [("action", "drop"), ("direction", "out"), ("priority", priority)];
            filter.nest("rule", &rule, |rule| rule.empty(protocol, attributes))?;
        }
        Ok(())
    })?;
    Ok(document.finish())
}
