//! The network of its own that a Cluster gets which names none: an overlay that nobody else uses, and that goes with it.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use serde_json::json;

use crate::expand::{ObjectMap, of_kind};
use crate::{Cluster, Kind, NamespacedName, Network, Object, ObjectRef};

/// Annotation of a Network that was made for a Cluster which names none; the value is the Cluster's name,
/// after its namespace where that is not the default one.
pub const NETWORK_OF_ANNOTATION: &str = "ashlar.dev/network-of";

/// VNIs below are left to people, who like small ones. Above, 24 bits hold them (RFC 7348 §5).
const FIRST_VNI: u32 = 1 << 16;
const VNIS: u32 = (1 << 24) - FIRST_VNI;

/// Overlays may have the same addresses, so that one choice is as good as another unless the cluster's pods or Services
/// live there.
const CIDRS: [&str; 4] = ["10.20.0.0/16", "172.20.0.0/16", "192.168.0.0/16", "100.64.0.0/16"];

/// Whether the Network was made for this Cluster.
pub fn is_network_of(network: &Network, cluster: &NamespacedName) -> bool {
    network.metadata.annotations.get(NETWORK_OF_ANNOTATION) == Some(&cluster.to_string())
}

/// Name of the Network that a Cluster gets: networks are not of a namespace, clusters are.
pub fn name_for(cluster: &NamespacedName) -> String {
    match cluster.namespace.as_str() {
        crate::DEFAULT_NAMESPACE => cluster.name.clone(),
        namespace => format!("{namespace}-{}", cluster.name),
    }
}

/// Gives each Cluster that names no network the one it has, or a new one of its own, which is put before it. A Cluster
/// whose network's name somebody else's Network has is left as it is, for validation to say so.
pub fn with_own_networks(objects: Vec<Object>, existing: &ObjectMap) -> Vec<Object> {
    let names_none = |object: &Object| matches!(object, Object::Cluster(one) if one.spec.network.is_empty());
    if !objects.iter().any(names_none) {
        return objects;
    }
    let networks = || of_kind(existing, Kind::Network).chain(&objects);
    let mut vnis: BTreeSet<u32> = networks().filter_map(vni).collect();
    let written: BTreeSet<String> = networks()
        .filter_map(|object| match object {
            Object::Network(network) => Some(network.metadata.name.clone()),
            _ => None,
        })
        .collect();
    let mut out = Vec::with_capacity(objects.len() + 1);
    for object in objects {
        match object {
            Object::Cluster(mut cluster) if cluster.spec.network.is_empty() => {
                let key = cluster.key();
                let name = name_for(&key);
                if let Some(Object::Cluster(stored)) = existing.get(&cluster.object_ref()) {
                    cluster.spec.network.clone_from(&stored.spec.network);
                } else if is_there(existing, &name, &key) {
                    cluster.spec.network = name;
                } else if !written.contains(&name)
                    && let Some(network) = make(&name, &cluster, &mut vnis)
                {
                    cluster.spec.network = name;
                    out.push(Object::from(network));
                }
                out.push(Object::Cluster(cluster));
            }
            other => out.push(other),
        }
    }
    out
}

/// Whether the Cluster's own Network was stored before the Cluster was.
fn is_there(existing: &ObjectMap, name: &str, cluster: &NamespacedName) -> bool {
    match existing.get(&ObjectRef::new(Kind::Network, "", name)) {
        Some(Object::Network(network)) => is_network_of(network, cluster) && !network.metadata.is_deleting(),
        _ => false,
    }
}

fn vni(object: &Object) -> Option<u32> {
    match object {
        Object::Network(network) => network.spec.attachment.vxlan.as_ref().map(|vxlan| vxlan.vni),
        _ => None,
    }
}

/// The VNI follows from the name, so that two people who declare at the same moment do not choose the same.
fn free_vni(name: &str, taken: &BTreeSet<u32>) -> u32 {
    // FNV-1a: no secret, only spread.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut offset = hash % VNIS;
    while taken.contains(&(FIRST_VNI + offset)) {
        offset = (offset + 1) % VNIS;
    }
    FIRST_VNI + offset
}

fn make(name: &str, cluster: &Cluster, vnis: &mut BTreeSet<u32>) -> Option<Network> {
    let apart =
        |one: Ipv4Net, other: Ipv4Net| !one.contains(&other.network()) && !other.contains(&one.network());
    let cidr = CIDRS
        .iter()
        .filter_map(|cidr| cidr.parse::<Ipv4Net>().ok())
        .find(|cidr| apart(*cidr, cluster.spec.pod_cidr) && apart(*cidr, cluster.spec.service_cidr))?;
    let vni = free_vni(name, vnis);
    let [a, b, ..] = cidr.network().octets();
    let spec = json!({
        "attachment": {"vxlan": {"vni": vni}},
        "cidrs": [cidr.to_string()],
        "gateway": format!("{a}.{b}.0.1"),
        "ranges": [{"first": format!("{a}.{b}.1.1"), "last": format!("{a}.{b}.255.254")}],
    });
    // Through the reader, so that defaults are those of a file.
    let mut network = Network::new(name, serde_json::from_value(spec).ok()?);
    network.metadata.annotations.insert(NETWORK_OF_ANNOTATION.to_owned(), cluster.key().to_string());
    vnis.insert(vni);
    Some(network)
}
