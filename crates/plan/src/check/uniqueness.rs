//! An address, MAC, VRRP id, name, UUID or file belongs to one holder. What an object in the snapshot holds is not
//! given out in the plan that removes it either.

use std::collections::BTreeMap;

use ashlar_api::*;

use super::{Findings, leftovers};
use crate::{Decision, Guard, Plan, Snapshot};

#[derive(Default)]
struct Holders(BTreeMap<String, ObjectRef>);

impl Holders {
    fn hold(&mut self, thing: String, holder: &ObjectRef, findings: &mut Findings) {
        if let Some(other) = self.0.get(&thing)
            && other != holder
        {
            findings.add("Uniqueness", holder, format!("{thing} is held by {other} too"));
        }
        self.0.insert(thing, holder.clone());
    }
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    if plan.decisions.is_empty() {
        return;
    }
    let mut holders = Holders::default();
    let held = |machine: &&Machine| !machine.metadata.is_deleting() || Guard::AddressQuarantine.stands();
    for machine in snapshot.machines.values().filter(held) {
        self::machine(snapshot, machine, &mut holders, findings);
    }
    for volume in snapshot.volumes.values() {
        self::volume(volume, &mut holders, findings);
    }
    for cluster in snapshot.clusters.values() {
        self::cluster(snapshot, cluster, &mut holders, findings);
    }
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Create(Object::Machine(new)) => {
                machine(snapshot, new, &mut holders, findings);
                addresses(snapshot, new, findings);
                let provider_id =
                    format!("ashlar://{}/{}", snapshot.installation, new.metadata.uid.unwrap_or_default());
                if new.spec.node.provider_id != provider_id {
                    findings.add("ProviderId", &new.object_ref(), "its provider id does not name it");
                }
            }
            // The volume that gives its file up is in the snapshot: rule `Leftover`.
            Decision::Create(Object::Volume(new)) if leftovers::is_leftover(new) => {}
            Decision::Create(Object::Volume(volume)) | Decision::Update(Object::Volume(volume)) => {
                self::volume(volume, &mut holders, findings);
            }
            Decision::Update(Object::Cluster(changed)) => {
                cluster(snapshot, changed, &mut holders, findings);
                endpoint(snapshot, changed, findings);
            }
            _ => {}
        }
    }
}

fn machine(snapshot: &Snapshot, machine: &Machine, holders: &mut Holders, findings: &mut Findings) {
    let (object, spec) = (machine.object_ref(), &machine.spec);
    for nic in &spec.nics {
        holders.hold(format!("MAC {}", nic.mac), &object, findings);
        let address = format!("address {} on {}", nic.address.addr(), segment(snapshot, &nic.network));
        holders.hold(address, &object, findings);
    }
    holders.hold(format!("domain UUID {}", spec.domain.uuid), &object, findings);
    holders.hold(format!("domain name {} on {}", spec.domain.name, spec.host), &object, findings);
    holders.hold(format!("uid {}", machine.metadata.uid.unwrap_or_default()), &object, findings);
}

fn volume(volume: &Volume, holders: &mut Holders, findings: &mut Findings) {
    let spec = &volume.spec;
    let file = format!("file {} in pool {} on {}", spec.file_name, spec.pool_uuid, spec.host);
    holders.hold(file, &volume.object_ref(), findings);
}

fn segment(snapshot: &Snapshot, network: &str) -> String {
    snapshot.networks.get(network).map_or_else(|| network.to_owned(), Network::segment)
}

fn cluster(snapshot: &Snapshot, cluster: &Cluster, holders: &mut Holders, findings: &mut Findings) {
    let Some(endpoint) = &cluster.record.endpoint else { return };
    let (object, segment) = (cluster.object_ref(), segment(snapshot, &cluster.spec.network));
    holders.hold(format!("address {} on {segment}", endpoint.address), &object, findings);
    holders.hold(format!("VRRP id {} on {segment}", endpoint.vrrp_id), &object, findings);
}

fn addresses(snapshot: &Snapshot, machine: &Machine, findings: &mut Findings) {
    let object = machine.object_ref();
    if machine.spec.nics.is_empty() {
        findings.add("Address", &object, "it has no network interface");
    }
    for nic in &machine.spec.nics {
        let address = nic.address.addr();
        let allowed = snapshot.networks.get(&nic.network).is_some_and(|network| {
            network.spec.cidrs.iter().any(|cidr| cidr.contains(&address))
                && network.spec.ranges.iter().any(|range| range.first <= address && address <= range.last)
                && address != network.spec.gateway
        });
        if !allowed {
            findings.add(
                "Address",
                &object,
                format!("{address} is not in a range of network {}", nic.network),
            );
        }
        if snapshot.foreign_addresses.contains(&(nic.network.clone(), address)) {
            findings.add("Address", &object, format!("{address} answers and is foreign"));
        }
        let first = u8::from_str_radix(nic.mac.get(..2).unwrap_or(""), 16);
        if !first.is_ok_and(|octet| octet & 0b11 == 0b10) {
            findings.add("Mac", &object, format!("{} is not a locally administered unicast MAC", nic.mac));
        }
    }
}

fn endpoint(snapshot: &Snapshot, changed: &Cluster, findings: &mut Findings) {
    let read = snapshot.clusters.get(&changed.key()).and_then(|read| read.record.endpoint.as_ref());
    let Some(endpoint) = &changed.record.endpoint else { return };
    let object = changed.object_ref();
    if let Some(read) = read {
        if read != endpoint {
            findings.add("Endpoint", &object, "an endpoint is chosen once");
        }
        return;
    }
    if snapshot.foreign_addresses.contains(&(changed.spec.network.clone(), endpoint.address)) {
        findings.add("Address", &object, format!("{} answers and is foreign", endpoint.address));
    }
    let inside = snapshot
        .networks
        .get(&changed.spec.network)
        .is_some_and(|network| network.spec.cidrs.iter().any(|cidr| cidr.contains(&endpoint.address)));
    if !inside || endpoint.vrrp_id == 0 {
        findings.add("Address", &object, format!("{} is not in its network", endpoint.address));
    }
}
