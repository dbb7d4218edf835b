//! Domains that a call without an answer defined after their machines were gone, and what is left of those that moved.

use std::collections::BTreeMap;

use ashlar_api::Machine;
use uuid::Uuid;

use super::chain::Chain;
use crate::draft::Draft;
use crate::{Action, HostSeen, Step};

/// Removes those that are seen, and off, or stand still since a move. One that somebody started is theirs to explain: it is
/// told as unrecorded. What a machine that moved left behind goes once that was seen where it is, or is to go itself.
pub(crate) fn steps(draft: &Draft<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let is_remembering = |host: &&ashlar_api::Host| !host.record.left_domains.is_empty();
    if !draft.hosts.values().any(|host| is_remembering(&host)) {
        return steps;
    }
    let machines: BTreeMap<Uuid, &Machine> =
        draft.machines.values().map(|machine| (machine.spec.domain.uuid, machine)).collect();
    for host in draft.hosts.values().filter(is_remembering) {
        let name = &host.metadata.name;
        let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(name) else { continue };
        // What is decided only now is no record yet: its host may have been seen before the move came to its end.
        let recorded = draft.snapshot.hosts.get(name).map_or(&[][..], |host| &host.record.left_domains);
        for left in &host.record.left_domains {
            if !recorded.iter().any(|one| one.uuid == left.uuid) {
                continue;
            }
            let Some(seen) = world.domains.get(&left.uuid) else { continue };
            if !seen.is_left(draft.snapshot.installation, left) {
                continue;
            }
            let mut chain = Chain::new(host.object_ref(), name);
            let stands_still = seen.stands_still_since_a_move(left);
            if seen.state.is_active() && !stands_still {
                continue;
            }
            let why = match machines.get(&left.uuid) {
                None if left.by_move => "a move left it, and its machine is gone".to_owned(),
                None => "the call that defined it took effect after its machine was gone".to_owned(),
                Some(machine) if machine.hosts().any(|one| one == name) => continue,
                // One that goes may be gone already where it was, and its record waits for this one.
                Some(machine) if machine.metadata.is_deleting() && left.by_move => {
                    format!("a move left it, and {} is being deleted", machine.key())
                }
                Some(machine) if !is_seen(draft, machine) => continue,
                // It came by a move whose end nobody heard of, and was never let go on.
                Some(machine) if stands_still => {
                    format!("{} is on {}, and nothing of it goes on here", machine.key(), machine.spec.host)
                }
                Some(machine) => format!("{} moved to {}", machine.key(), machine.spec.host),
            };
            chain.push(
                Action::UndefineLeft { host: name.clone(), domain: left.uuid },
                format!("remove domain {}: {why}", seen.name),
            );
            steps.extend(chain.finish());
        }
    }
    steps
}

/// Whether the machine's domain was seen where the machine is.
fn is_seen(draft: &Draft<'_>, machine: &Machine) -> bool {
    let seen = draft.snapshot.observed.hosts.get(&machine.spec.host);
    matches!(seen, Some(HostSeen::Seen(world)) if world.domains.get(&machine.spec.domain.uuid).is_some_and(|seen| seen.persistent))
}
