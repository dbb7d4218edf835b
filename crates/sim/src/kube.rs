//! Simulated API servers.

use std::collections::BTreeSet;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    EffectError, EffectErrorKind, KubeApi, KubeSeen, KubeTarget, NodeNow, NodePatch,
};
use ashlar_engine::effects::{ServingDecision, ServingRequestNow};
use ashlar_plan::{ClusterWorld, DeprecatedApi, names};
use async_trait::async_trait;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::seed::pem_bodies;
use crate::{SimCluster, SimToken, SimWorld, State, guest};

/// The cluster's API server, if it answers through a host that does.
fn api<'a>(state: &'a mut State, target: &KubeTarget) -> Result<&'a mut SimCluster, EffectError> {
    let unreachable = |why: &str| {
        EffectError::new(EffectErrorKind::Unreachable, format!("cluster {}: {why}", target.cluster))
    };
    let via = state.ways(&target.dial.via);
    if via.is_empty() {
        return Err(unreachable("no host of its network answers"));
    }
    let listens = guest::any_serving(state, &target.cluster, |machine| {
        let dialled = |address| address == target.dial.address || target.dial.others.contains(&address);
        (machine.spec.node_address().is_some_and(dialled) || dialled(machine.spec.node.endpoint.address))
            && via.iter().any(|host| state.is_heard_on(host, machine.metadata.uid))
    });
    if !listens || !guest::api_answers(state, &target.cluster) {
        return Err(unreachable("its API does not answer"));
    }
    let ca = pem_bodies(&target.ca_pem, "CERTIFICATE").pop();
    let known = state.clusters.get(&target.cluster).map(|world| &world.certificates);
    let impostor = state.clusters.get(&target.cluster).is_some_and(|world| world.impostor);
    if impostor || !ca.is_some_and(|ca| known.is_some_and(|known| known.contains(&ca))) {
        return Err(unreachable(STRANGER));
    }
    state.clusters.get_mut(&target.cluster).ok_or_else(|| unreachable("its API does not answer"))
}

/// What a TLS client says of another cluster's API server.
const STRANGER: &str = "its certificate is signed by an unknown authority";

/// Who only looks says who it is not; other calls just do not arrive.
fn as_stranger(error: EffectError) -> EffectError {
    let kind = if error.message.ends_with(STRANGER) { EffectErrorKind::NotOurs } else { error.kind };
    EffectError { kind, ..error }
}

#[async_trait]
impl KubeApi for SimWorld {
    async fn observe(
        &self,
        target: &KubeTarget,
        addons: &[(String, String, String, String, String)],
        drained: &[String],
    ) -> Result<KubeSeen, EffectError> {
        self.look_at_api(|state| {
            api(state, target).map_err(as_stranger)?;
            let (nodes, leases) = state.see_nodes(&target.cluster);
            let cluster = api(state, target).map_err(as_stranger)?.clone();
            let addons = addons.iter().filter_map(|(addon, _, kind, _, name)| {
                let digest = cluster.objects.get(&format!("{kind}/{name}"))?.clone()?;
                Some((addon.clone(), digest))
            });
            let world = ClusterWorld {
                nodes,
                bootstrap_tokens: cluster
                    .tokens
                    .iter()
                    .map(|(id, token)| (id.clone(), token.expires))
                    .collect(),
                token_machines: cluster
                    .tokens
                    .iter()
                    .filter_map(|(id, token)| {
                        Some((id.clone(), names::machine_of_token(&token.description)?.to_owned()))
                    })
                    .collect(),
                addons: addons.collect(),
                pods: drained.iter().map(|node| (node.clone(), cluster.pods_on(node, state.now))).collect(),
                attached: drained
                    .iter()
                    .map(|node| (node.clone(), cluster.attached_to(node)))
                    .filter(|(_, volumes)| !volumes.is_empty())
                    .collect(),
                serving_requests: cluster
                    .csrs
                    .iter()
                    .filter(|(_, csr)| csr.approved.is_none())
                    .map(|(name, csr)| (name.clone(), csr.request.clone()))
                    .collect(),
                api_certificate: None,
                system_pods_ready: 1,
                system_pods: 1,
            };
            Ok(KubeSeen { world, leases })
        })
        .await
    }

    async fn deprecated_apis(&self, target: &KubeTarget) -> Result<BTreeSet<DeprecatedApi>, EffectError> {
        self.look_at_api(|state| {
            let asked = api(state, target)?.deprecated.clone();
            let is_it = |node: &str| {
                guest::any_serving(state, &target.cluster, |machine| {
                    machine.spec.node.name == node && machine.spec.node_address() == Some(target.dial.address)
                })
            };
            Ok(asked.into_iter().filter(|(node, _)| is_it(node)).flat_map(|(_, apis)| apis).collect())
        })
        .await
    }

    async fn put_bootstrap_token(
        &self,
        target: &KubeTarget,
        token_id: &str,
        token_secret: &Zeroizing<String>,
        expires: Timestamp,
        description: &str,
    ) -> Result<(), EffectError> {
        let (to, id, secret) = (target.clone(), token_id.to_owned(), token_secret.clone());
        let description = description.to_owned();
        self.effect("put_bootstrap_token", "an API server", move |state| {
            let (target, token_id, token_secret) = (&to, &id, &secret);
            let secret = token_secret.as_str().to_owned();
            let token = SimToken { expires, secret, description: description.clone() };
            api(state, target)?.tokens.insert(token_id.to_owned(), token);
            state.judge_token(&target.cluster, expires, token_secret);
            state.count_mutation("put_bootstrap_token");
            state.etcd_write(&target.cluster);
            state.note(format!("api {}: a join token was published", target.cluster));
            Ok(())
        })
        .await
    }

    async fn delete_bootstrap_token(&self, target: &KubeTarget, token_id: &str) -> Result<(), EffectError> {
        let (to, id) = (target.clone(), token_id.to_owned());
        self.effect("delete_bootstrap_token", "an API server", move |state| {
            let (target, token_id) = (&to, &id);
            if api(state, target)?.tokens.remove(token_id.as_str()).is_some() {
                state.note(format!("api {}: a join token was revoked", target.cluster));
            }
            state.count_mutation("delete_bootstrap_token");
            state.etcd_write(&target.cluster);
            Ok(())
        })
        .await
    }

    async fn exists(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<bool, EffectError> {
        let name =
            object.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        self.look_at_api(|state| {
            api(state, target)?;
            // What kubeadm's init makes in every cluster.
            Ok(matches!(name.as_str(), "kube-proxy" | "coredns"))
        })
        .await
    }

    async fn apply(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<(), EffectError> {
        let (to, what) = (target.clone(), object.clone());
        self.effect("apply", "an API server", move |state| {
            let (target, object) = (&to, &what);
            let text =
                |pointer: &str| object.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
            let id = format!("{}/{}", text("/kind"), text("/metadata/name"));
            let digest = object
                .pointer("/metadata/annotations/ashlar.dev~1addon-digest")
                .and_then(|value| value.as_str())
                .map(str::to_owned);
            let cluster = api(state, target)?;
            if id == "ConfigMap/kubeadm-config" {
                let text = text("/data/ClusterConfiguration");
                let version = text.lines().find_map(|line| line.strip_prefix("kubernetesVersion: "));
                version.unwrap_or_default().trim_matches('"').clone_into(&mut cluster.kubernetes_version);
            }
            cluster.objects.insert(id.clone(), digest);
            state.count_mutation("apply");
            state.etcd_write(&target.cluster);
            state.note(format!("api {}: applied {id}", target.cluster));
            Ok(())
        })
        .await
    }

    async fn node(&self, target: &KubeTarget, node: &str) -> Result<Option<NodeNow>, EffectError> {
        self.look_at_api(|state| {
            let node = api(state, target)?.nodes.get(node);
            Ok(node.map(|node| NodeNow {
                resource_version: "1".to_owned(),
                labels: node.labels.clone(),
                taints: node.taints.iter().map(|taint| serde_json::json!(taint)).collect(),
            }))
        })
        .await
    }

    async fn patch_node(
        &self,
        target: &KubeTarget,
        node: &str,
        patch: &NodePatch,
    ) -> Result<(), EffectError> {
        let (to, name, change) = (target.clone(), node.to_owned(), patch.clone());
        self.effect("patch_node", "an API server", move |state| {
            let (target, node, patch) = (&to, &name, &change);
            let gone = || EffectError::new(EffectErrorKind::NotFound, format!("there is no node {node}"));
            let found = api(state, target)?.nodes.get_mut(node.as_str()).ok_or_else(gone)?;
            for (key, value) in &patch.labels {
                match value {
                    Some(value) => drop(found.labels.insert(key.clone(), value.clone())),
                    None => drop(found.labels.remove(key)),
                }
            }
            let is_out = |taint: &ashlar_api::Taint| *taint == ashlar_plan::out_of_service();
            let was_out = found.taints.iter().any(is_out);
            if let Some(taints) = &patch.taints {
                found.taints =
                    taints.iter().filter_map(|taint| serde_json::from_value(taint.clone()).ok()).collect();
            }
            let goes_out = !was_out && found.taints.iter().any(is_out);
            state.count_mutation("patch_node");
            state.etcd_write(&target.cluster);
            if goes_out {
                state.judge_out_of_service(&target.cluster, node);
                state.note(format!("api {}: node {node} was tainted out of service", target.cluster));
            } else {
                state.note(format!("api {}: labels and taints of node {node} were set", target.cluster));
            }
            Ok(())
        })
        .await
    }

    async fn cordon(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError> {
        let (to, name) = (target.clone(), node.to_owned());
        self.effect("cordon", "an API server", move |state| {
            let gone = || EffectError::new(EffectErrorKind::NotFound, format!("there is no node {name}"));
            api(state, &to)?.nodes.get_mut(&name).ok_or_else(gone)?.unschedulable = true;
            state.count_mutation("cordon");
            state.etcd_write(&to.cluster);
            state.note(format!("api {}: node {name} was cordoned", to.cluster));
            Ok(())
        })
        .await
    }

    async fn evict(&self, target: &KubeTarget, pod: &NamespacedName) -> Result<(), EffectError> {
        let (to, pod) = (target.clone(), pod.clone());
        self.effect("evict", "an API server", move |state| {
            let now = state.now;
            let asked = api(state, &to)?.evict(&pod, now);
            state.count_mutation("evict");
            match asked {
                Ok(true) => {
                    state.etcd_write(&to.cluster);
                    state.note(format!("api {}: pod {pod} was evicted", to.cluster));
                }
                Ok(false) => {}
                Err(error) => {
                    state.note(format!("api {}: {}", to.cluster, error.message));
                    return Err(error);
                }
            }
            Ok(())
        })
        .await
    }

    async fn serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError> {
        self.look_at_api(|state| Ok(api(state, target)?.csr_now(csr))).await
    }

    async fn decide_serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
        _: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError> {
        let (to, csr, decision) = (target.clone(), csr.to_owned(), decision.clone());
        self.effect("decide_serving_request", "an API server", move |state| {
            api(state, &to)?;
            state.count_mutation("decide_serving_request");
            state.take_decision(&to.cluster, &csr, &decision)
        })
        .await
    }

    async fn delete_node(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError> {
        let (to, name) = (target.clone(), node.to_owned());
        self.effect("delete_node", "an API server", move |state| {
            let (target, node) = (&to, &name);
            state.judge_delete_node(&target.cluster, node);
            api(state, target)?.nodes.remove(node.as_str());
            state.count_mutation("delete_node");
            state.etcd_write(&target.cluster);
            state.note(format!("api {}: deleted node {node}", target.cluster));
            Ok(())
        })
        .await
    }
}
