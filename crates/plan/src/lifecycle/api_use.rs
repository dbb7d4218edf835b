//! What clients of a cluster lose by an upgrade: said before it begins, and reason enough not to begin.

use std::collections::BTreeSet;

use ashlar_api::{Cluster, upgrade};

use crate::draft::Draft;
use crate::machine::{block, wait};
use crate::{ApiUseSeen, DeprecatedApi, NoteKind, StepState, api_use_matters};

/// Names deprecated APIs that are in use. Those that the wanted version does not serve hold it up, unless somebody said that it
/// may take them.
pub(super) fn judge(draft: &mut Draft<'_>, cluster: &Cluster) -> Result<(), StepState> {
    if !api_use_matters(draft.snapshot, cluster) {
        return Ok(());
    }
    let to = &cluster.spec.kubernetes_version;
    let used = match draft.snapshot.observed.api_use.get(&cluster.key()) {
        Some(ApiUseSeen::Seen(used)) => used,
        Some(ApiUseSeen::Unknown { reason }) => {
            let message = format!("which deprecated APIs are in use is not known: {reason}");
            return Err(wait("ApiUseUnknown", message));
        }
        None => {
            let message = "its API servers were not asked yet which deprecated APIs are in use";
            return Err(wait("ApiUseUnknown", message));
        }
    };
    let (removed, kept): (BTreeSet<_>, BTreeSet<_>) = used.iter().partition(|api| api.is_removed_in(to));
    if !kept.is_empty() {
        let message = format!(
            "clients asked for APIs that Kubernetes gives up, and that {to} still serves: {}",
            list(&kept)
        );
        draft.note(cluster.object_ref(), NoteKind::Notice, "DeprecatedApis", message);
    }
    if removed.is_empty() {
        return Ok(());
    }
    let accepted = cluster.spec.accept_removed_apis.as_deref().and_then(upgrade::release_of);
    if accepted.is_some() && accepted == upgrade::release_of(to) {
        let message = format!("{to} does not serve any more, as acceptRemovedApis says: {}", list(&removed));
        draft.note(cluster.object_ref(), NoteKind::Notice, "RemovedApis", message);
        return Ok(());
    }
    let release =
        upgrade::release_of(to).map(|(major, minor)| format!("{major}.{minor}")).unwrap_or_default();
    Err(block(
        "RemovedApisInUse",
        format!(
            "clients asked for APIs that {to} does not serve any more: {}; change those clients first. An API server remembers \
             what it was asked for until it starts anew: if nobody needs them any more, `acceptRemovedApis: \"{release}\"` in \
             the cluster says so",
            list(&removed)
        ),
    ))
}

fn list(apis: &BTreeSet<&DeprecatedApi>) -> String {
    apis.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
