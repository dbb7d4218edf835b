//! What a cluster's API server says, in one bounded burst of reads.

use std::collections::BTreeMap;

use ashlar_engine::effects::{EffectError, KubeSeen, KubeTarget, NodeNow};
use ashlar_plan::{ClusterWorld, KubeletSeen, NodeSeen, StaticPodSeen, names};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use crate::{SYSTEM_NAMESPACE, dynamic_api, kubelets, resource_of};

/// The annotation that carries an applied add-on's digest.
const ADDON_DIGEST: &str = "ashlar.dev/addon-digest";

type AddonRef = (String, String, String, String, String);

pub(crate) async fn observe(
    client: Client,
    addons: &[AddonRef],
    drained: &[String],
) -> Result<KubeSeen, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let leases: Api<Lease> = Api::namespaced(client.clone(), kubelets::LEASE_NAMESPACE);
    let every = ListParams::default();
    let tokens = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    let (nodes, leases, pods, tokens, addons, serving_requests, attached, drained) = tokio::try_join!(
        nodes.list(&every),
        leases.list(&every),
        pods.list(&every),
        secrets.list(&tokens),
        observe_addons(client.clone(), addons),
        crate::serving::undecided(client.clone()),
        crate::attached::of_nodes(client.clone(), drained),
        crate::pods::of_nodes(client, drained)
    )?;
    let mut static_pods = kubelets::static_pods(&pods.items);
    let mut seen = |node: &Node| {
        let name = node.name_any();
        let static_pods = static_pods.remove(&name).unwrap_or_default();
        (name, node_seen(node, static_pods))
    };
    let world = ClusterWorld {
        nodes: nodes.items.iter().map(&mut seen).collect(),
        bootstrap_tokens: tokens.items.iter().filter_map(token_expiry).collect(),
        token_machines: tokens.items.iter().filter_map(token_machine).collect(),
        addons,
        pods: drained,
        attached,
        serving_requests,
        api_certificate: None,
        system_pods_ready: count(pods.items.iter().filter(|pod| kubelets::is_ready(pod)).count()),
        system_pods: count(pods.items.len()),
    };
    Ok(KubeSeen { world, leases: kubelets::leases(&leases.items) })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

async fn observe_addons(
    client: Client,
    addons: &[AddonRef],
) -> Result<BTreeMap<String, String>, kube::Error> {
    let mut digests = BTreeMap::new();
    for (addon, api_version, kind, namespace, name) in addons {
        let api = dynamic_api(client.clone(), &resource_of(api_version, kind), Some(namespace));
        if let Some(object) = api.get_metadata_opt(name).await?
            && let Some(digest) = object.annotations().get(ADDON_DIGEST)
        {
            digests.insert(addon.clone(), digest.clone());
        }
    }
    Ok(digests)
}

fn node_seen(node: &Node, static_pods: BTreeMap<String, StaticPodSeen>) -> NodeSeen {
    let status = node.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    NodeSeen {
        ready: ready.is_some_and(|condition| condition.status == "True"),
        message: ready.and_then(|condition| condition.message.clone()).unwrap_or_default(),
        provider_id: node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default(),
        kubelet_version: status
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default(),
        labels: node.labels().clone(),
        taints: taints_of(node)
            .iter()
            // Effects that are not known are nobody's that Ashlar could have set.
            .filter_map(|taint| serde_json::from_value(taint_alone(taint)).ok())
            .collect(),
        unschedulable: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        troubles: kubelets::troubles(node),
        kubelet: KubeletSeen::Unknown,
        static_pods,
    }
}

fn taints_of(node: &Node) -> Vec<serde_json::Value> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().filter_map(|taint| serde_json::to_value(taint).ok()).collect()
}

/// Key, value and effect, without what only Kubernetes writes.
fn taint_alone(taint: &serde_json::Value) -> serde_json::Value {
    let text = |field: &str| taint.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
    serde_json::json!({"key": text("key"), "value": text("value"), "effect": text("effect")})
}

/// A node as it is read for a change.
pub(crate) fn node_now(target: &KubeTarget, node: &Node) -> Result<NodeNow, EffectError> {
    let resource_version = node.resource_version();
    let resource_version = resource_version
        .ok_or_else(|| crate::client::refused(target, "read a node without a resourceVersion"))?;
    Ok(NodeNow { resource_version, labels: node.labels().clone(), taints: taints_of(node) })
}

/// Token id and expiry; the token's secret half is not looked at.
fn token_expiry(secret: &Secret) -> Option<(String, Timestamp)> {
    let expiry =
        token_text(secret, "expiration").and_then(|expiry| expiry.parse().ok()).unwrap_or(Timestamp::MAX);
    Some((token_text(secret, "token-id")?, expiry))
}

/// Token id and the machine of ours whose join it is for.
fn token_machine(secret: &Secret) -> Option<(String, String)> {
    let description = token_text(secret, "description")?;
    Some((token_text(secret, "token-id")?, names::machine_of_token(&description)?.to_owned()))
}

fn token_text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;

    /// A client whose server is a table: path (with query) prefix → answer.
    fn client(answers: &'static [(&'static str, &'static str)]) -> Client {
        let service = tower::service_fn(move |request: http::Request<Body>| async move {
            let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
            let body = answers.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, body)| *body);
            let (status, body) = match body {
                Some(body) => (200, body.to_owned()),
                None => (404, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not found","reason":"NotFound","code":404}"#.to_owned()),
            };
            http::Response::builder().status(status).body(Body::from(body.into_bytes()))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn reads_nodes_tokens_addons_and_pods() {
        let client = client(&[
            (
                "/api/v1/nodes",
                r#"{"kind":"NodeList","apiVersion":"v1","metadata":{},"items":[
                {"metadata":{"name":"demo-ctrl-1"},"spec":{"providerID":"ashlar://a/b"},
                 "status":{"conditions":[{"type":"Ready","status":"True","message":"fine"}],"nodeInfo":{"kubeletVersion":"v1.37.2",
                 "architecture":"","bootID":"","containerRuntimeVersion":"","kernelVersion":"","kubeProxyVersion":"","machineID":"","operatingSystem":"","osImage":"","systemUUID":""}}},
                {"metadata":{"name":"demo-wkr-1"},"spec":{},"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"Kubelet stopped posting"}]}}]}"#,
            ),
            (
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
                r#"{"kind":"LeaseList","apiVersion":"coordination.k8s.io/v1","metadata":{},"items":[
                {"metadata":{"name":"demo-ctrl-1"},"spec":{"renewTime":"2026-11-23T14:59:51.000000Z"}}]}"#,
            ),
            (
                "/api/v1/namespaces/kube-system/secrets?&fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken",
                r#"{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[
                {"metadata":{"name":"bootstrap-token-abcdef"},"data":{"token-id":"YWJjZGVm","expiration":"MjAyNi0xMS0yM1QxNTowMDowMFo=",
                 "description":"QXNobGFyOiBqb2luIG9mIG1hY2hpbmUgZGVtby13a3ItMQ=="}}]}"#,
            ),
            (
                "/api/v1/namespaces/kube-system/pods",
                r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[
                {"metadata":{"name":"etcd-demo-ctrl-1","annotations":{"kubernetes.io/config.mirror":"1"}},"spec":{"nodeName":"demo-ctrl-1","containers":[]},
                 "status":{"conditions":[{"type":"Ready","status":"True"}]}},{"metadata":{"name":"b"}}]}"#,
            ),
            (
                "/apis/certificates.k8s.io/v1/certificatesigningrequests?&fieldSelector=spec.signerName%3Dkubernetes.io%2Fkubelet-serving",
                r#"{"kind":"CertificateSigningRequestList","apiVersion":"certificates.k8s.io/v1","metadata":{},"items":[
                {"metadata":{"name":"csr-1"},"spec":{"signerName":"kubernetes.io/kubelet-serving","username":"system:node:demo-wkr-1",
                 "groups":["system:nodes"],"usages":["server auth"],"request":"bm9uZQ=="}},
                {"metadata":{"name":"csr-2"},"spec":{"signerName":"kubernetes.io/kubelet-serving","username":"system:node:demo-wkr-1",
                 "request":"bm9uZQ=="},"status":{"conditions":[{"type":"Denied","status":"True"}]}}]}"#,
            ),
            (
                "/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds",
                r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"kube-flannel-ds","annotations":{"ashlar.dev/addon-digest":"d1"}}}"#,
            ),
        ]);
        let addon = |name: &str, object: &str| {
            (
                name.to_owned(),
                "apps/v1".to_owned(),
                "DaemonSet".to_owned(),
                "kube-flannel".to_owned(),
                object.to_owned(),
            )
        };
        let seen = observe(client, &[addon("flannel", "kube-flannel-ds"), addon("absent", "nobody")], &[])
            .await
            .expect("answers");
        assert_eq!(seen.leases["demo-ctrl-1"].to_string(), "2026-11-23T14:59:51Z");
        let world = seen.world;
        assert!(world.nodes["demo-ctrl-1"].ready);
        assert!(world.nodes["demo-ctrl-1"].static_pods["etcd"].ready);
        assert!(world.nodes["demo-wkr-1"].static_pods.is_empty());
        assert_eq!(world.nodes["demo-ctrl-1"].provider_id, "ashlar://a/b");
        assert!(!world.nodes["demo-wkr-1"].ready);
        assert_eq!(world.nodes["demo-wkr-1"].message, "Kubelet stopped posting");
        assert_eq!(world.bootstrap_tokens["abcdef"].to_string(), "2026-11-23T15:00:00Z");
        assert_eq!(world.token_machines["abcdef"], "demo-wkr-1");
        assert_eq!(world.addons, BTreeMap::from([("flannel".to_owned(), "d1".to_owned())]));
        assert_eq!(world.serving_requests.keys().collect::<Vec<_>>(), ["csr-1"], "one is decided");
        assert_eq!(world.serving_requests["csr-1"].username, "system:node:demo-wkr-1");
        assert!(world.serving_requests["csr-1"].asked.is_err());
        assert_eq!((world.system_pods_ready, world.system_pods), (1, 2));
    }

    #[tokio::test]
    async fn a_missing_answer_is_an_error_and_never_an_empty_world() {
        let error = observe(
            client(&[("/api/v1/nodes", r#"{"kind":"NodeList","apiVersion":"v1","metadata":{},"items":[]}"#)]),
            &[],
            &[],
        )
        .await;
        assert!(error.is_err());
    }
}
