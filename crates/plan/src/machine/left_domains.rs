//! Domains that a call without an answer defined after their machines were gone.

use super::chain::Chain;
use crate::draft::Draft;
use crate::{Action, HostSeen, Step};

/// Removes those that are seen, and off. One that somebody started is theirs to explain: it is told as unrecorded.
pub(super) fn steps(draft: &Draft<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for host in draft.hosts.values().filter(|host| !host.record.left_domains.is_empty()) {
        let name = &host.metadata.name;
        let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(name) else { continue };
        for left in &host.record.left_domains {
            let seen = world.domains.get(&left.uuid).filter(|seen| !seen.state.is_active());
            let Some(seen) = seen.filter(|seen| seen.is_left(draft.snapshot.installation, left)) else {
                continue;
            };
            let mut chain = Chain::new(host.object_ref(), name);
            chain.push(
                Action::UndefineLeft { host: name.clone(), domain: left.uuid },
                format!(
                    "remove domain {}: the call that defined it took effect after its machine was gone",
                    seen.name
                ),
            );
            steps.extend(chain.finish());
        }
    }
    steps
}
