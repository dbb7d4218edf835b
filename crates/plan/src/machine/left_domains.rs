//! Domains that a call without an answer defined after their machines were gone, and what is left of those that moved.

use std::collections::BTreeMap;

use ashlar_api::{LeftDomain, Machine};
use uuid::Uuid;

use super::chain::Chain;
use crate::draft::Draft;
use crate::{Action, DomainSeen, DomainState, HostSeen, Step};

/// Removes those that are seen, and off. One that somebody started is theirs to explain: it is told as unrecorded.
/// What a machine that moved left behind goes once that was seen where it is.
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
            match machines.get(&left.uuid) {
                None if seen.state.is_active() => continue,
                None => undefine(
                    &mut chain,
                    name,
                    left,
                    seen,
                    "the call that defined it took effect after its machine was gone",
                ),
                Some(machine) if machine.hosts().any(|one| one == name) || !is_seen(draft, machine) => {
                    continue;
                }
                // It came by a move whose end nobody heard of, and was never let go on.
                Some(machine) if seen.state == DomainState::Paused && runs_at_home(draft, machine) => {
                    let why = format!("{} runs on {}, and never did here", machine.key(), machine.spec.host);
                    undefine(&mut chain, name, left, seen, &why);
                }
                Some(_) if seen.state.is_active() => continue,
                Some(machine) => {
                    let why = format!("{} moved to {}", machine.key(), machine.spec.host);
                    undefine(&mut chain, name, left, seen, &why);
                }
            }
            steps.extend(chain.finish());
        }
    }
    steps
}

fn undefine(chain: &mut Chain, host: &str, left: &LeftDomain, seen: &DomainSeen, why: &str) {
    chain.push(
        Action::UndefineLeft { host: host.to_owned(), domain: left.uuid },
        format!("remove domain {}: {why}", seen.name),
    );
}

/// Whether the machine was seen to run where it is.
fn runs_at_home(draft: &Draft<'_>, machine: &Machine) -> bool {
    let seen = draft.snapshot.observed.hosts.get(&machine.spec.host);
    matches!(seen, Some(HostSeen::Seen(world)) if world.domains.get(&machine.spec.domain.uuid).is_some_and(|seen| seen.state == DomainState::Running))
}

/// Whether the machine's domain was seen where the machine is.
fn is_seen(draft: &Draft<'_>, machine: &Machine) -> bool {
    let seen = draft.snapshot.observed.hosts.get(&machine.spec.host);
    matches!(seen, Some(HostSeen::Seen(world)) if world.domains.get(&machine.spec.domain.uuid).is_some_and(|seen| seen.persistent))
}
