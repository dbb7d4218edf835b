//! Addresses, MACs and VRRP ids: each belongs to one holder, from before its first use until its end is proved.
//!
//! A holder is any Machine or Cluster in the store, one that is being deleted too: its object goes only when the
//! world was seen without it. Networks on the same bridge are one broadcast domain, whatever they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ashlar_api::*;

use crate::{Guard, Ids, PlanError, Snapshot, lost};

/// Who holds what.
pub(crate) struct Addresses {
    segments: BTreeMap<String, Segment>,
    macs: BTreeSet<String>,
}

#[derive(Default)]
struct Segment {
    addresses: BTreeMap<Ipv4Addr, Holder>,
    vrrp_ids: BTreeSet<u8>,
    /// For each network: where the search for a free address goes on. Within a plan nothing is given back.
    next: BTreeMap<String, Ipv4Addr>,
}

#[derive(Clone, PartialEq)]
enum Holder {
    Object(ObjectRef),
    /// Asked for in a Cluster's spec, and not recorded yet.
    Reserved(ObjectRef),
    Foreign,
}

impl Addresses {
    pub(crate) fn new(snapshot: &Snapshot) -> Result<Self, PlanError> {
        let mut addresses = Addresses { segments: BTreeMap::new(), macs: BTreeSet::new() };
        let held = |machine: &&Machine| !machine.metadata.is_deleting() || Guard::AddressQuarantine.stands();
        for machine in snapshot.machines.values().filter(held) {
            for nic in &machine.spec.nics {
                let segment = segment_name(snapshot, &nic.network);
                addresses.hold(&segment, nic.address.addr(), &machine.object_ref())?;
                if !addresses.macs.insert(nic.mac.clone()) {
                    let mac = &nic.mac;
                    return Err(PlanError::Inconsistent(format!("MAC {mac} has two holders")));
                }
            }
        }
        for cluster in snapshot.clusters.values() {
            let segment = segment_name(snapshot, &cluster.spec.network);
            if let Some(endpoint) = &cluster.record.endpoint {
                addresses.hold(&segment, endpoint.address, &cluster.object_ref())?;
                if !addresses.segment(&segment).vrrp_ids.insert(endpoint.vrrp_id) {
                    return Err(PlanError::Inconsistent(format!(
                        "VRRP id {} on {segment} has two holders, {} is one",
                        endpoint.vrrp_id,
                        cluster.object_ref()
                    )));
                }
            }
        }
        for cluster in snapshot.clusters.values() {
            if let (None, Some(address)) = (&cluster.record.endpoint, cluster.spec.endpoint.address) {
                let segment = addresses.segment(&segment_name(snapshot, &cluster.spec.network));
                segment.addresses.entry(address).or_insert_with(|| Holder::Reserved(cluster.object_ref()));
            }
        }
        // Of machines that an old store does not know, and that may not answer because they are off.
        for (_, machine) in lost::unknown_machines(snapshot) {
            for nic in &machine.spec.nics {
                let segment = addresses.segment(&segment_name(snapshot, &nic.network));
                segment.addresses.entry(nic.address.addr()).or_insert(Holder::Foreign);
                addresses.macs.insert(nic.mac.clone());
            }
        }
        for (network, address) in &snapshot.foreign_addresses {
            let segment = addresses.segment(&segment_name(snapshot, network));
            // What one of ours holds is not foreign: the probe and the snapshot may be of different moments.
            match segment.addresses.get(address) {
                Some(Holder::Object(_)) => {}
                _ => _ = segment.addresses.insert(*address, Holder::Foreign),
            }
        }
        Ok(addresses)
    }

    fn segment(&mut self, name: &str) -> &mut Segment {
        self.segments.entry(name.to_owned()).or_default()
    }

    fn hold(&mut self, segment: &str, address: Ipv4Addr, holder: &ObjectRef) -> Result<(), PlanError> {
        match self.segment(segment).addresses.insert(address, Holder::Object(holder.clone())) {
            Some(Holder::Object(other)) => Err(PlanError::Inconsistent(format!(
                "address {address} on {segment} is held by {other} and by {holder}"
            ))),
            _ => Ok(()),
        }
    }

    /// Takes the first free address of the network's ranges; none if all are held.
    pub(crate) fn take(&mut self, network: &Network, holder: &ObjectRef) -> Option<Ipv4Addr> {
        let spec = &network.spec;
        let segment = self.segment(&network.segment());
        let from = segment.next.get(&network.metadata.name).copied();
        let free = spec
            .ranges
            .iter()
            // Ranges come in the order in which they were written; the search goes on in the one it stopped in.
            .skip_while(|range| from.is_some_and(|from| !(range.first..=range.last).contains(&from)))
            .flat_map(|range| {
                let first = match from {
                    Some(from) if (range.first..=range.last).contains(&from) => from,
                    _ => range.first,
                };
                (u32::from(first)..=u32::from(range.last)).map(Ipv4Addr::from)
            })
            .find(|address| !segment.addresses.contains_key(address) && is_usable(spec, *address))?;
        segment.next.insert(network.metadata.name.clone(), free);
        segment.addresses.insert(free, Holder::Object(holder.clone()));
        Some(free)
    }

    /// Takes a given address, or says who or what forbids it.
    pub(crate) fn take_given(
        &mut self,
        network: &Network,
        address: Ipv4Addr,
        holder: &ObjectRef,
    ) -> Result<(), String> {
        let name = &network.metadata.name;
        if !is_usable(&network.spec, address) {
            return Err(format!("{address} is not a free host address of network {name}"));
        }
        let segment = self.segment(&network.segment());
        match segment.addresses.get(&address) {
            Some(Holder::Reserved(by)) if by == holder => {}
            None => {}
            Some(Holder::Object(by) | Holder::Reserved(by)) => {
                return Err(format!("{address} on network {name} is held by {by}"));
            }
            Some(Holder::Foreign) => {
                return Err(format!(
                    "{address} on network {name} answers, and is nothing that Ashlar made: free it or choose another"
                ));
            }
        }
        segment.addresses.insert(address, Holder::Object(holder.clone()));
        Ok(())
    }

    /// Takes the first free VRRP id of the network; none if all are held.
    pub(crate) fn take_vrrp_id(&mut self, network: &Network) -> Option<u8> {
        let ids = &network.spec.vrrp_ids;
        let segment = self.segment(&network.segment());
        let free = (ids.first.max(1)..=ids.last).find(|id| !segment.vrrp_ids.contains(id))?;
        segment.vrrp_ids.insert(free);
        Some(free)
    }

    /// Takes a MAC of QEMU's locally administered block that nobody holds.
    pub(crate) fn take_mac(&mut self, ids: &mut dyn Ids, purpose: &str) -> String {
        let mut attempt = 0_u32;
        loop {
            let [.., a, b, c] = ids.bits(&format!("{purpose}/{attempt}")).to_be_bytes();
            let mac = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
            if self.macs.insert(mac.clone()) {
                return mac;
            }
            attempt += 1;
        }
    }
}

/// The broadcast domain of a network; of one that is not in the store, its name.
fn segment_name(snapshot: &Snapshot, network: &str) -> String {
    snapshot.networks.get(network).map_or_else(|| network.to_owned(), Network::segment)
}

/// Whether a host may have the address: inside the CIDR, and neither its ends nor the gateway nor a DNS server.
fn is_usable(spec: &NetworkSpec, address: Ipv4Addr) -> bool {
    spec.cidrs
        .iter()
        .any(|cidr| cidr.contains(&address) && address != cidr.network() && address != cidr.broadcast())
        && address != spec.gateway
        && !spec.dns.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, bridge: &str, ranges: &[(&str, &str)]) -> Network {
        let spec: NetworkSpec = serde_json::from_value(serde_json::json!({
            "attachment": {"bridge": bridge},
            "cidrs": ["10.0.0.0/24"],
            "gateway": "10.0.0.1",
            "ranges": ranges.iter().map(|(first, last)| serde_json::json!({"first": first, "last": last})).collect::<Vec<_>>(),
        }))
        .expect("a network");
        Network::new(name, spec)
    }

    fn holder(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Machine, "default", name)
    }

    #[test]
    fn ranges_are_used_up_in_order_and_never_gateway_or_foreign() {
        let lan = network("lan", "br0", &[("10.0.0.0", "10.0.0.2"), ("10.0.0.10", "10.0.0.12")]);
        let mut snapshot = Snapshot::empty(uuid::Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
        snapshot.networks.insert("lan".into(), lan.clone());
        snapshot.foreign_addresses.insert(("lan".into(), Ipv4Addr::new(10, 0, 0, 11)));
        let mut addresses = Addresses::new(&snapshot).expect("consistent");
        let taken: Vec<_> = (0..4).map(|n| addresses.take(&lan, &holder(&format!("m{n}")))).collect();
        let [a, b, c] = [2, 10, 12].map(|last| Some(Ipv4Addr::new(10, 0, 0, last)));
        assert_eq!(taken, [a, b, c, None]);
    }

    #[test]
    fn two_networks_on_one_bridge_share_their_addresses() {
        let one = network("one", "br0", &[("10.0.0.10", "10.0.0.11")]);
        let two = network("two", "br0", &[("10.0.0.10", "10.0.0.11")]);
        let mut snapshot = Snapshot::empty(uuid::Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
        snapshot.networks.extend([("one".into(), one.clone()), ("two".into(), two.clone())]);
        let mut addresses = Addresses::new(&snapshot).expect("consistent");
        assert_eq!(addresses.take(&one, &holder("a")), Some(Ipv4Addr::new(10, 0, 0, 10)));
        assert_eq!(addresses.take(&two, &holder("b")), Some(Ipv4Addr::new(10, 0, 0, 11)));
        assert_eq!(addresses.take(&one, &holder("c")), None);
        assert_eq!(addresses.take_vrrp_id(&one), Some(1));
        assert_eq!(addresses.take_vrrp_id(&two), Some(2));
        let error = addresses.take_given(&one, Ipv4Addr::new(10, 0, 0, 11), &holder("c"));
        assert_eq!(error, Err("10.0.0.11 on network one is held by machine b".to_owned()));
    }
}
