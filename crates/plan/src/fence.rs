//! Hosts that are proved off. Not to answer proves nothing: a host behind a cut link runs its VMs all the same. Proof ends
//! with the first answer, and until then it is as good as having seen that nothing runs there.

use ashlar_api::*;
use jiff::Timestamp;

use crate::draft::Draft;
use crate::{Guard, HostSeen, Snapshot, lifecycle};

/// What stands for a proof where none is asked for.
static NO_PROOF: HostFence = HostFence { at: Timestamp::UNIX_EPOCH, confirmed_by: String::new() };

/// The proof that a host which does not answer is off.
pub fn proof<'s>(snapshot: &'s Snapshot, host: &str) -> Option<&'s HostFence> {
    let fence = snapshot.hosts.get(host)?.record.fence.as_ref();
    let fence = fence.or_else(|| (!Guard::ProvedOff.stands()).then_some(&NO_PROOF))?;
    matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Unreachable { .. })).then_some(fence)
}

/// Whether a host that stands in the store as off answers. Until that is taken away it would count as proved off at its next
/// silence, in which its VMs may run.
pub fn has_ended(snapshot: &Snapshot, host: &Host) -> bool {
    host.record.fence.is_some() && is_seen_to_answer(snapshot, &host.metadata.name)
}

/// Whether it was asked, and answered, whatever it said.
pub(crate) fn is_seen_to_answer(snapshot: &Snapshot, host: &str) -> bool {
    !matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Unreachable { .. }) | None)
}

/// Whether nothing is left to do about a machine that goes but what waits for its host, which is off: its member and its
/// node are gone, and others have taken its place or may.
pub(crate) fn is_left_behind(draft: &Draft<'_>, machine: &Machine) -> bool {
    machine.metadata.is_deleting()
        && proof(draft.snapshot, &machine.spec.host).is_some()
        && !lifecycle::node_may_be_left(draft, machine)
        && !lifecycle::member_may_be_left(draft, machine)
}
