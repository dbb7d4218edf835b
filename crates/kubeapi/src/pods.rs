//! Pods that would have to leave their nodes, and the budgets that speak for them.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_plan::{BudgetSeen, PodSeen};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

/// The annotation of a mirror pod: the node's own, which nobody can evict.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// For each of the nodes its pods that have to go elsewhere before it goes.
pub(crate) async fn of_nodes(
    client: Client,
    nodes: &[String],
) -> Result<BTreeMap<String, Vec<PodSeen>>, kube::Error> {
    let mut seen = BTreeMap::new();
    if nodes.is_empty() {
        return Ok(seen);
    }
    let budgets: Api<PodDisruptionBudget> = Api::all(client.clone());
    let budgets = budgets.list(&ListParams::default()).await?.items;
    let pods: Api<Pod> = Api::all(client);
    for node in nodes {
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let found = pods.list(&on_node).await?.items;
        let leaving = found.iter().filter(|pod| has_to_leave(pod)).map(|pod| pod_seen(pod, &budgets));
        seen.insert(node.clone(), leaving.collect());
    }
    Ok(seen)
}

/// Not what a DaemonSet or the kubelet itself keeps on each node, and not what has ended.
fn has_to_leave(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let stays = pod.annotations().contains_key(MIRROR)
        || pod
            .owner_references()
            .iter()
            .any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    !stays && !matches!(phase, "Succeeded" | "Failed")
}

fn pod_seen(pod: &Pod, budgets: &[PodDisruptionBudget]) -> PodSeen {
    let namespace = pod.namespace().unwrap_or_default();
    let speaks = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        budget.namespace().as_deref() == Some(&namespace)
            && selector.is_some_and(|selector| selects(selector, pod.labels()))
    };
    PodSeen {
        name: pod.name_any(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        budgets: budgets.iter().filter(speaks).map(budget_seen).collect(),
        namespace,
    }
}

fn budget_seen(budget: &PodDisruptionBudget) -> BudgetSeen {
    let status = budget.status.as_ref();
    let number = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    BudgetSeen {
        name: budget.name_any(),
        disruptions_allowed: number(status.and_then(|status| status.disruptions_allowed)),
        desired_healthy: number(status.and_then(|status| status.desired_healthy)),
        expected_pods: number(status.and_then(|status| status.expected_pods)),
    }
}

/// Kubernetes' label selectors; an empty one selects everything.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|rule| fulfils(rule, labels))
}

fn fulfils(rule: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let values: BTreeSet<&String> = rule.values.iter().flatten().collect();
    let value = labels.get(&rule.key);
    match rule.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // One that is not known is not taken for one that lets the pod go.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Pod {
        serde_json::from_str(text).expect("a pod")
    }

    fn budget(selector: &str) -> PodDisruptionBudget {
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"b","namespace":"n"}},"spec":{{"selector":{selector}}},
                 "status":{{"disruptionsAllowed":1,"desiredHealthy":2,"expectedPods":3,"currentHealthy":3}}}}"#
        ))
        .expect("a budget")
    }

    #[test]
    fn daemons_mirrors_and_what_ended_stay() {
        let stay = [
            r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}}"#,
            r#"{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","name":"d","uid":"u","controller":true}]}}"#,
            r#"{"metadata":{},"status":{"phase":"Succeeded"}}"#,
        ];
        assert!(stay.iter().all(|text| !has_to_leave(&pod(text))));
        assert!(has_to_leave(&pod(r#"{"metadata":{},"status":{"phase":"Running"}}"#)));
    }

    #[test]
    fn budgets_speak_for_what_they_select() {
        let web = pod(r#"{"metadata":{"name":"p","namespace":"n","labels":{"app":"web"}}}"#);
        let selecting = [
            r#"{"matchLabels":{"app":"web"}}"#,
            r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web","db"]}]}"#,
            r#"{"matchExpressions":[{"key":"tier","operator":"DoesNotExist"}]}"#,
            "{}",
        ];
        for selector in selecting {
            let seen = pod_seen(&web, &[budget(selector)]);
            assert_eq!(seen.budgets.len(), 1, "{selector}");
            assert_eq!(seen.budgets[0].disruptions_allowed, 1);
        }
        let other = [
            r#"{"matchLabels":{"app":"db"}}"#,
            r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#,
        ];
        assert!(other.iter().all(|selector| pod_seen(&web, &[budget(selector)]).budgets.is_empty()));
        let elsewhere = pod(r#"{"metadata":{"name":"p","namespace":"m","labels":{"app":"web"}}}"#);
        assert!(pod_seen(&elsewhere, &[budget("{}")]).budgets.is_empty());
    }
}
