//! Steps of a cluster as a whole: its certificates, and what is applied to its API.

use ashlar_api::NamespacedName;

use super::chain::{Chain, block};
use super::context::ClusterContext;
use crate::{Action, names};

/// Before the machines: the certificates.
pub(super) fn before(context: &ClusterContext<'_>, chain: &mut Chain) {
    let cluster = context.key();
    if context.is_deleting()
        || context.machines.is_empty()
        || context.draft.has_secret(&names::pki_secret(&cluster))
    {
        return;
    }
    let used = context.cluster.record.initialized
        || context.machines.iter().any(|machine| machine.record.first_started_at.is_some());
    if used {
        chain.hold(block(
            "PkiMissing",
            format!(
                "secret {} is gone, and {cluster} runs on its certificates: they are never made anew; restore the store",
                names::pki_secret(&cluster)
            ),
        ));
    }
    chain.push_elsewhere(
        Action::CreateClusterPki { cluster },
        "make its certificate authorities and service-account key",
    );
}

/// Beside the machines: what is applied to its API. A node becomes Ready only with a pod network.
pub(super) fn addons(context: &ClusterContext<'_>, chain: &mut Chain) {
    if context.is_deleting() || context.is_stopped() {
        return;
    }
    let initialized = context.cluster.record.initialized;
    let wanted = context.wanted_addons();
    match context.api() {
        Ok(world) => {
            for addon in wanted.iter() {
                let present = world.addons.get(addon.name);
                if present != Some(&addon.digest) {
                    let why = if present.is_some() { "bring it up to date" } else { "it is not there yet" };
                    apply(context, addon.name, why, chain);
                }
            }
        }
        // What runs in a cluster that nobody could ask is not known.
        Err(_) if initialized && !context.api_was_asked() => {}
        Err(hold) if initialized && !wanted.is_empty() => {
            chain.push_wait(format!("the API of {} answers", context.key()), hold);
        }
        Err(hold) => {
            chain.hold(hold);
            for addon in wanted.iter() {
                apply(context, addon.name, "the API answers", chain);
            }
        }
    }
}

/// Join tokens of ours that no join needs: one whose publishing was given up, and took effect after all. It would end by
/// itself, by Kubernetes' clock; until then whoever has it could join.
pub(super) fn tokens(context: &ClusterContext<'_>, chain: &mut Chain) {
    let Some(world) = context.heard() else { return };
    let cluster = context.key();
    for (token_id, machine) in &world.token_machines {
        let machine = NamespacedName::new(&cluster.namespace, machine);
        let is_over =
            world.bootstrap_tokens.get(token_id).is_none_or(|end| *end <= context.draft.snapshot.now);
        if !is_over && !context.draft.has_secret(&names::join_secret(&machine)) {
            chain.push_elsewhere(
                Action::RevokeStrayToken { cluster: cluster.clone(), token_id: token_id.clone() },
                format!("take a join token of {machine} out of the cluster that came late"),
            );
        }
    }
}

fn apply(context: &ClusterContext<'_>, addon: &str, why: &str, chain: &mut Chain) {
    chain.push_elsewhere(
        Action::ApplyAddon { cluster: context.key(), addon: addon.to_owned() },
        format!("apply add-on {addon}: {why}"),
    );
}
