//! Hosts on which the domain of a machine was seen that is not theirs: written down when it is seen, struck out when they answer
//! without it.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use uuid::Uuid;

use super::leftovers::remember_moved;
use crate::draft::{Draft, Unit};
use crate::{HostSeen, elsewhere, fence};

/// Records where domains are that people moved by hand.
pub(super) fn record(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let machines: BTreeMap<Uuid, &Machine> =
        snapshot.machines.values().map(|machine| (machine.spec.domain.uuid, machine)).collect();
    let mut seen: BTreeMap<NamespacedName, BTreeSet<String>> = BTreeMap::new();
    for (host, answer) in &snapshot.observed.hosts {
        let HostSeen::Seen(world) = answer else { continue };
        for (uuid, domain) in &world.domains {
            if let Some(machine) = machines.get(uuid)
                && elsewhere::counts(snapshot, machine, host, domain)
            {
                seen.entry(machine.key()).or_default().insert(host.clone());
            }
        }
    }
    let mut changed = Vec::new();
    for machine in snapshot.machines.values() {
        let key = machine.key();
        let before = &machine.record.seen_elsewhere;
        let mut after = seen.remove(&key).unwrap_or_default();
        after.extend(before.iter().filter(|host| !elsewhere::is_over(snapshot, machine, host)).cloned());
        if after != *before {
            changed.push((key, after));
        }
    }
    for (key, hosts) in changed {
        // A fact of this pass may have changed it already.
        let Some(mut machine) = draft.machines.get(&key).cloned() else { continue };
        let mut unit = Unit::default();
        // It goes on without what is on a host that is off: that goes when the host is on again.
        let is_off = |host: &&String| fence::proof(snapshot, host).is_some();
        for host in machine.record.seen_elsewhere.difference(&hosts).filter(is_off) {
            remember_moved(draft, &mut unit, host, &machine);
        }
        machine.record.seen_elsewhere = hosts;
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}
