//! Volumes that are attached to nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

/// For each of the nodes the volumes that are attached to it, or are on their way to or from it.
pub(crate) async fn of_nodes(
    client: Client,
    nodes: &[String],
) -> Result<BTreeMap<String, Vec<String>>, kube::Error> {
    let mut attached: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if nodes.is_empty() {
        return Ok(attached);
    }
    let all: Api<VolumeAttachment> = Api::all(client);
    for one in all.list(&ListParams::default()).await?.items {
        if nodes.contains(&one.spec.node_name) {
            let volume = one.spec.source.persistent_volume_name.clone();
            attached
                .entry(one.spec.node_name.clone())
                .or_default()
                .push(volume.unwrap_or_else(|| one.name_any()));
        }
    }
    Ok(attached)
}
