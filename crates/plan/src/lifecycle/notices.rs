//! What a person should know about a new cluster before it is there.

use std::collections::BTreeMap;

use ashlar_api::*;

use crate::NoteKind;
use crate::draft::Draft;

/// Says what the cluster will not have. Only until it runs: later it is known.
pub(super) fn of_cluster(draft: &mut Draft<'_>, key: &NamespacedName) {
    let Some(cluster) = draft.clusters.get(key).cloned() else { return };
    let about = cluster.object_ref();
    let mut notices = Vec::new();
    if let Some(message) = availability(draft, &cluster) {
        notices.push(("NotHighlyAvailable", message));
    }
    if !cluster.record.initialized {
        match cluster.spec.cni {
            Cni::Flannel => {
                notices.push((
                    "NoNetworkPolicy",
                    "flannel does not enforce NetworkPolicy: policies are accepted and do nothing".to_owned(),
                ));
                notices.push((
                    "PodTrafficNotEncrypted",
                    format!(
                        "pods of different nodes talk over VXLAN on network {}, unencrypted",
                        cluster.spec.network
                    ),
                ));
            }
            Cni::None => notices.push((
                "NoPodNetwork",
                "`cni: none`: nodes stay NotReady until you install a pod network".to_owned(),
            )),
        }
        notices.push((
            "NoStorageClass",
            "there is no StorageClass: PersistentVolumeClaims stay Pending".to_owned(),
        ));
        notices.push((
            "NoLoadBalancer",
            "nothing serves Services of type LoadBalancer yet: use NodePort".to_owned(),
        ));
    }
    for (reason, message) in notices {
        draft.note(about.clone(), NoteKind::Notice, reason, message);
    }
}

/// Why the control plane does not survive the death of a host.
fn availability(draft: &Draft<'_>, cluster: &Cluster) -> Option<String> {
    let mut hosts: BTreeMap<&str, u32> = BTreeMap::new();
    for machine in draft.machines_of(&cluster.key()) {
        if machine.spec.role == MachineRole::ControlPlane {
            *hosts.entry(&machine.spec.host).or_default() += 1;
        }
    }
    let all: u32 = hosts.values().sum();
    if all == 1 {
        // Known once it runs.
        return (!cluster.record.initialized)
            .then(|| "one control plane: while its host is down, the API is down".to_owned());
    }
    let (host, most) = hosts.iter().max_by_key(|(_, count)| **count)?;
    let majority = all / 2 + 1;
    (all - most < majority).then(|| {
        format!(
            "not highly available: {most} of {all} control planes are on {host}, and etcd needs {majority}: if that host dies, the API dies"
        )
    })
}
