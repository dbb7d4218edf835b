//! What runs in the clusters' control planes: their API servers and their etcd, reached through
//! [`Dial`](ashlar_engine::effects::Dial).
//!
//! One client per cluster, and one per etcd member, is kept; its connections are opened through a host of the cluster's network, so that
//! overlapping CIDRs of different clusters do not matter and the machine that runs Ashlar needs no route to them.
//! Every request has a deadline. This crate makes no decisions: it reads, applies and deletes what it is told.

mod attached;
mod client;
mod connector;
mod deprecated;
mod etcd;
mod kubelets;
mod observe;
mod peer;
mod pods;
mod serving;
mod stranger;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    EffectError, KubeApi, KubeSeen, KubeTarget, NodeNow, NodePatch, ServingDecision, ServingRequestNow,
};
use ashlar_plan::DeprecatedApi;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use zeroize::Zeroizing;

pub use client::{Clients, REQUEST_DEADLINE};
pub use etcd::EtcdClients;

/// Who applies: server-side apply's field manager.
const FIELD_MANAGER: &str = "ashlar";
/// Where kubeadm and we keep what belongs to the cluster itself.
const SYSTEM_NAMESPACE: &str = "kube-system";

fn resource_of(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Namespaced or not, as the object itself says: what names a namespace lives in one.
fn dynamic_api(client: kube::Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) if !namespace.is_empty() => Api::namespaced_with(client, namespace, resource),
        _ => Api::all_with(client, resource),
    }
}

impl Clients {
    /// Where an object belongs, its kind and its name.
    fn api_of<'o>(
        &self,
        target: &KubeTarget,
        object: &'o serde_json::Value,
    ) -> Result<(Api<DynamicObject>, &'o str, &'o str), EffectError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(|value| value.as_str());
        let (Some(api_version), Some(kind), Some(name)) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"))
        else {
            return Err(client::refused(target, "apply an object without apiVersion, kind or name"));
        };
        let resource = resource_of(api_version, kind);
        Ok((dynamic_api(self.client(target)?, &resource, text("/metadata/namespace")), kind, name))
    }
}

#[async_trait]
impl KubeApi for Clients {
    async fn observe(
        &self,
        target: &KubeTarget,
        addons: &[(String, String, String, String, String)],
        drained: &[String],
    ) -> Result<KubeSeen, EffectError> {
        let client = self.client(target)?;
        let mut seen = self.asked(target, "observe", observe::observe(client, addons, drained)).await;
        if let Ok(seen) = &mut seen {
            seen.world.api_certificate = self.peer(&target.cluster);
        } else {
            // A client whose host went away must not be asked for ever: the next call dials anew.
            self.forget(&target.cluster);
        }
        seen
    }

    async fn deprecated_apis(&self, target: &KubeTarget) -> Result<BTreeSet<DeprecatedApi>, EffectError> {
        // A connection of its own: the kept one goes to whichever API server answers.
        let client = self.client_for_once(target)?;
        self.bounded(target, "read the figures of the API server", deprecated::read(client)).await
    }

    async fn put_bootstrap_token(
        &self,
        target: &KubeTarget,
        token_id: &str,
        token_secret: &Zeroizing<String>,
        expires: Timestamp,
        description: &str,
    ) -> Result<(), EffectError> {
        let secrets: Api<Secret> = Api::namespaced(self.client(target)?, SYSTEM_NAMESPACE);
        let name = format!("bootstrap-token-{token_id}");
        // The fields of https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.
        let data = [
            ("token-id", token_id.to_owned()),
            ("token-secret", token_secret.as_str().to_owned()),
            ("expiration", expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("usage-bootstrap-authentication", "true".to_owned()),
            ("usage-bootstrap-signing", "true".to_owned()),
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token".to_owned()),
            ("description", description.to_owned()),
        ];
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            type_: Some("bootstrap.kubernetes.io/token".to_owned()),
            string_data: Some(
                data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
            ),
            ..Secret::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.bounded(target, "put the join token", async {
            secrets.patch(&name, &params, &Patch::Apply(&secret)).await.map(drop)
        })
        .await
    }

    async fn delete_bootstrap_token(&self, target: &KubeTarget, token_id: &str) -> Result<(), EffectError> {
        let secrets: Api<Secret> = Api::namespaced(self.client(target)?, SYSTEM_NAMESPACE);
        let name = format!("bootstrap-token-{token_id}");
        let params = DeleteParams::default();
        let gone = self.bounded(target, "delete the join token", secrets.delete(&name, &params)).await;
        client::absent_is_fine(gone.map(drop))
    }

    async fn exists(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<bool, EffectError> {
        let (api, kind, name) = self.api_of(target, object)?;
        let what = format!("look for {kind} {name}");
        Ok(self.bounded(target, &what, api.get_metadata_opt(name)).await?.is_some())
    }

    async fn apply(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<(), EffectError> {
        let (api, kind, name) = self.api_of(target, object)?;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = format!("apply {kind} {name}");
        self.bounded(target, &what, async { api.patch(name, &params, &Patch::Apply(object)).await.map(drop) })
            .await
    }

    async fn node(&self, target: &KubeTarget, node: &str) -> Result<Option<NodeNow>, EffectError> {
        let nodes: Api<Node> = Api::all(self.client(target)?);
        let found = self.bounded(target, &format!("read node {node}"), nodes.get_opt(node)).await?;
        found.map(|node| observe::node_now(target, &node)).transpose()
    }

    async fn patch_node(
        &self,
        target: &KubeTarget,
        node: &str,
        patch: &NodePatch,
    ) -> Result<(), EffectError> {
        let nodes: Api<Node> = Api::all(self.client(target)?);
        // A merge patch that names a resourceVersion is refused (409) if the object is another one by now.
        let mut change = serde_json::json!({
            "metadata": {"resourceVersion": patch.resource_version, "labels": patch.labels},
        });
        if let Some(taints) = &patch.taints {
            change["spec"] = serde_json::json!({"taints": taints});
        }
        let what = format!("set labels and taints of node {node}");
        let params = PatchParams::default();
        self.bounded(target, &what, async {
            nodes.patch(node, &params, &Patch::Merge(&change)).await.map(drop)
        })
        .await
    }

    async fn cordon(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError> {
        let nodes: Api<Node> = Api::all(self.client(target)?);
        let what = format!("cordon node {node}");
        self.bounded(target, &what, async { nodes.cordon(node).await.map(drop) }).await
    }

    async fn evict(&self, target: &KubeTarget, pod: &NamespacedName) -> Result<(), EffectError> {
        let pods: Api<Pod> = Api::namespaced(self.client(target)?, &pod.namespace);
        let params = EvictParams::default();
        let what = format!("evict pod {pod}");
        // 429 says that a budget refuses now, and its details name it.
        let gone =
            self.bounded(target, &what, async { pods.evict(&pod.name, &params).await.map(drop) }).await;
        client::absent_is_fine(gone)
    }

    async fn serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError> {
        self.read_serving_request(target, csr).await
    }

    async fn decide_serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
        resource_version: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError> {
        self.write_serving_decision(target, csr, resource_version, decision).await
    }

    async fn delete_node(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError> {
        let nodes: Api<Node> = Api::all(self.client(target)?);
        let params = DeleteParams::default();
        let gone = self.bounded(target, &format!("delete node {node}"), nodes.delete(node, &params)).await;
        client::absent_is_fine(gone.map(drop))
    }
}
