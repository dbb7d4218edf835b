//! Simulated API servers.

use std::net::Ipv4Addr;

use ashlar_engine::effects::{EffectError, EffectErrorKind, KubeApi, KubeTarget};
use ashlar_plan::{ClusterWorld, DomainState, NodeSeen};
use async_trait::async_trait;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{SimCluster, SimWorld, State, guest};

/// The cluster's API server, if it answers through a host that does.
fn api<'a>(state: &'a mut State, target: &KubeTarget) -> Result<&'a mut SimCluster, EffectError> {
    let unreachable = |why: &str| {
        EffectError::new(EffectErrorKind::Unreachable, format!("cluster {}: {why}", target.cluster))
    };
    if !target.dial.via.iter().any(|host| state.host(host).is_ok()) {
        return Err(unreachable("no host of its network answers"));
    }
    if !guest::api_answers(state, &target.cluster) {
        return Err(unreachable("its API does not answer"));
    }
    state.clusters.get_mut(&target.cluster).ok_or_else(|| unreachable("its API does not answer"))
}

fn is_running(state: &State, node: &str, address: Option<Ipv4Addr>) -> bool {
    state.hosts.values().flat_map(|host| host.domains.values()).any(|domain| {
        domain.state == DomainState::Running
            && domain.mark.as_ref().and_then(|mark| mark.machine.as_deref()).is_some_and(|machine| {
                machine.spec.node.name == node
                    && address.is_none_or(|a| machine.spec.node_address() == Some(a))
            })
    })
}

#[async_trait]
impl KubeApi for SimWorld {
    async fn observe(
        &self,
        target: &KubeTarget,
        addons: &[(String, String, String, String, String)],
    ) -> Result<ClusterWorld, EffectError> {
        self.effect(|state| {
            let cluster = api(state, target)?.clone();
            let has_cni = cluster.objects.keys().any(|object| object.starts_with("DaemonSet/"));
            let nodes = cluster.nodes.iter().map(|(name, node)| {
                let ready = has_cni && is_running(state, name, None);
                let message = if ready { String::new() } else { "network plugin is not ready".to_owned() };
                let seen = NodeSeen {
                    ready,
                    message,
                    provider_id: node.provider_id.clone(),
                    kubelet_version: node.kubelet_version.clone(),
                };
                (name.clone(), seen)
            });
            let addons = addons.iter().filter_map(|(addon, _, kind, _, name)| {
                let digest = cluster.objects.get(&format!("{kind}/{name}"))?.clone()?;
                Some((addon.clone(), digest))
            });
            Ok(ClusterWorld {
                nodes: nodes.collect(),
                bootstrap_tokens: cluster.tokens.clone(),
                addons: addons.collect(),
                system_pods_ready: 1,
                system_pods: 1,
            })
        })
        .await
    }

    async fn put_bootstrap_token(
        &self,
        target: &KubeTarget,
        token_id: &str,
        _token_secret: &Zeroizing<String>,
        expires: Timestamp,
        _description: &str,
    ) -> Result<(), EffectError> {
        self.effect(|state| {
            api(state, target)?.tokens.insert(token_id.to_owned(), expires);
            state.count_mutation("put_bootstrap_token");
            state.note(format!("api {}: a join token was published", target.cluster));
            Ok(())
        })
        .await
    }

    async fn delete_bootstrap_token(&self, target: &KubeTarget, token_id: &str) -> Result<(), EffectError> {
        self.effect(|state| {
            if api(state, target)?.tokens.remove(token_id).is_some() {
                state.note(format!("api {}: a join token was revoked", target.cluster));
            }
            state.count_mutation("delete_bootstrap_token");
            Ok(())
        })
        .await
    }

    async fn apply(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<(), EffectError> {
        self.effect(|state| {
            let text =
                |pointer: &str| object.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
            let id = format!("{}/{}", text("/kind"), text("/metadata/name"));
            let digest = object
                .pointer("/metadata/annotations/ashlar.dev~1addon-digest")
                .and_then(|value| value.as_str())
                .map(str::to_owned);
            api(state, target)?.objects.insert(id.clone(), digest);
            state.count_mutation("apply");
            state.note(format!("api {}: applied {id}", target.cluster));
            Ok(())
        })
        .await
    }

    async fn delete_node(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError> {
        self.effect(|state| {
            api(state, target)?.nodes.remove(node);
            state.count_mutation("delete_node");
            state.note(format!("api {}: deleted node {node}", target.cluster));
            Ok(())
        })
        .await
    }
}
