//! The end of a run in a form in which two runs can be compared: without what is random or counts attempts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{SimHost, Simulation, SimulationError};

/// Fields that differ from run to run: random, times, or counters of attempts.
const VOLATILE: [&str; 22] = [
    "uid",
    "uuid",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "firstStartedAt",
    "joinedAt",
    "unusedSince",
    "firstTime",
    "lastTime",
    "lastAt",
    "leaseToken",
    "ledgerSequence",
    "generation",
    "sealed",
    "sealedDataKey",
    "mac",
    "bridge",
    "annotations",
    "unanswered",
    "defineUnanswered",
    "leftDomains",
];

impl Simulation {
    /// World and store, comparable between runs: UUIDs, times, MAC addresses and counters of attempts are taken out,
    /// and Events, which tell the story and not the end; so does what is remembered of calls without an answer.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn canonical(&self) -> Result<String, SimulationError> {
        let mut store = Map::new();
        let stored = self.stored()?;
        let machines: Vec<Value> = stored
            .iter()
            .filter(|(key, _)| key.starts_with("Machine/"))
            .map(|(_, value)| value.clone())
            .collect();
        for (key, mut value) in stored {
            if key.starts_with("Network/") {
                forget_looked_at(&mut value, &machines);
            }
            if !key.starts_with("Event/") && !is_leftover(&value) {
                store.insert(scrub_text(&key), scrub(value));
            }
        }
        let state = self.world.state();
        let hosts: BTreeMap<&String, Value> =
            state.hosts.iter().map(|(name, host)| (name, host_value(host))).collect();
        let clusters: BTreeMap<String, Value> = state
            .clusters
            .iter()
            .map(|(name, cluster)| {
                let value = json!({
                    "nodes": cluster.nodes.keys().collect::<Vec<_>>(),
                    "voters": cluster.etcd.voters(),
                    "learners": cluster.etcd.learners(),
                    "tokens": cluster.tokens.len(),
                    "csrs": cluster.csr_counts(),
                    "objects": cluster.objects.keys().collect::<Vec<_>>(),
                });
                (name.to_string(), value)
            })
            .collect();
        let all = json!({"store": store, "hosts": hosts, "clusters": clusters});
        serde_json::to_string_pretty(&all).map_err(|error| SimulationError(error.to_string()))
    }
}

fn is_leftover(object: &Value) -> bool {
    object["spec"]["content"]["type"] == "leftover"
}

fn host_value(host: &SimHost) -> Value {
    let mut domains: Vec<Value> = host
        .domains
        .values()
        .map(|domain| {
            json!({
                "name": domain.name,
                "state": format!("{:?}", domain.state),
                "disks": domain.disk_paths.iter().map(|path| scrub_text(path)).collect::<Vec<_>>(),
                "medium": domain.medium_path.as_deref().map(scrub_text),
                "ours": domain.mark.is_some(),
            })
        })
        .collect();
    domains.sort_by_key(|domain| domain["name"].to_string());
    let mut files: Vec<Value> = host
        .pools
        .values()
        .flat_map(|pool| &pool.volumes)
        .map(|(name, volume)| {
            json!({
                "file": scrub_text(name),
                "bytes": volume.capacity_bytes,
                "backing": volume.backing_path.as_deref().map(scrub_text),
                "seed": volume.seed.is_some(),
                "joined": volume.joined.is_some(),
            })
        })
        .collect();
    files.sort_by_key(|file| file["file"].to_string());
    let mut networks: Vec<Value> = host
        .networks
        .values()
        .map(|network| {
            let applied = network.applied.as_ref();
            json!({
                "name": applied.map(|network| &network.name),
                "machines": applied.map(|network| {
                    network.taps.values().map(|tap| &tap.machine).collect::<std::collections::BTreeSet<_>>()
                }),
                "overlay": applied.and_then(|network| network.made.as_ref()?.overlay.as_ref()),
                "intact": network.intact,
            })
        })
        .collect();
    networks.sort_by_key(|network| network["name"].to_string());
    json!({"domains": domains, "files": files, "networks": networks})
}

fn scrub(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // Sorted, because two writers may fill a map in another order.
            let sorted: BTreeMap<String, Value> = fields
                .into_iter()
                .filter(|(name, _)| !VOLATILE.contains(&name.as_str()))
                .map(|(name, value)| (name, scrub(value)))
                // A record that held nothing else is as good as none.
                .filter(|(name, value)| name != "record" || value.as_object().is_none_or(|it| !it.is_empty()))
                .collect();
            sorted.into_iter().collect()
        }
        Value::Array(items) => items.into_iter().map(scrub).collect(),
        Value::String(text) => Value::String(scrub_text(&text)),
        other => other,
    }
}

/// Writes `UUID` for UUIDs.
pub(crate) fn scrub_text(text: &str) -> String {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    const LENGTH: usize = 36;
    let is_uuid = |text: &[u8]| {
        let mut parts = text.split(|byte| *byte == b'-');
        LENGTHS.iter().all(|length| {
            parts.next().is_some_and(|part| part.len() == *length && part.iter().all(u8::is_ascii_hexdigit))
        }) && parts.next().is_none()
    };
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes.get(at..at + LENGTH).is_some_and(is_uuid) {
            out.extend_from_slice(b"UUID");
            at += LENGTH;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes hosts out of a network's record that are there only because of a call without an answer.
fn forget_looked_at(network: &mut Value, machines: &[Value]) {
    let name = network["metadata"]["name"].clone();
    let unanswered = network["record"]["unanswered"].clone();
    let is_used = |host: &Value| {
        machines.iter().any(|machine| {
            let nics = machine["spec"]["nics"].as_array();
            machine["spec"]["host"] == *host
                && nics.is_some_and(|nics| nics.iter().any(|nic| nic["network"] == name))
        })
    };
    let Some(record) = network["record"].as_object_mut() else { return };
    let Some(hosts) = record.get_mut("hosts").and_then(Value::as_array_mut) else { return };
    hosts.retain(|host| {
        let is_remembered = host.as_str().is_some_and(|host| unanswered.get(host).is_some());
        !is_remembered || is_used(host)
    });
    // What is empty is not stored.
    if hosts.is_empty() {
        record.remove("hosts");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_taken_out() {
        assert_eq!(
            scrub_text("ashlar-demo-ctrl-1-root-c409b936-3c9e-4e59-b141-f3cd598b0e9d.qcow2"),
            "ashlar-demo-ctrl-1-root-UUID.qcow2"
        );
        assert_eq!(scrub_text("nothing-of-the-kind"), "nothing-of-the-kind");
    }
}
