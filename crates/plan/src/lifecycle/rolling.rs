//! Machines of another class than their group's: each is replaced, one at a time, the new one first.

use ashlar_api::*;

use crate::NoteKind;
use crate::draft::Draft;

/// Whether a machine is made of what is asked for.
fn is_current(machine: &Machine, class: &str) -> bool {
    machine.spec.class == class
}

/// Tells each machine's fate before anything happens.
pub(super) fn announce(draft: &mut Draft<'_>, present: &[Machine], class: &str) {
    for machine in present.iter().filter(|machine| !is_current(machine, class)) {
        draft.note(
            machine.object_ref(),
            NoteKind::Notice,
            "Replaced",
            format!(
                "its class changes from {} to {class}: another machine takes its place, one at a time, and its disks go with it",
                machine.spec.class
            ),
        );
    }
}

/// Workers that go where there are more than wanted: those of another class once the new ones have joined, else the
/// newest.
pub(super) fn surplus(present: &[Machine], class: &str, surplus: usize) -> Vec<Machine> {
    let (current, outdated): (Vec<&Machine>, Vec<&Machine>) =
        present.iter().partition(|machine| is_current(machine, class));
    if outdated.is_empty() {
        return current.into_iter().rev().take(surplus).cloned().collect();
    }
    if current.iter().all(|machine| machine.record.joined_at.is_some()) {
        let newest = current.into_iter().rev();
        return outdated.into_iter().chain(newest).take(surplus).cloned().collect();
    }
    // One of the surplus is the new one, which is on its way.
    outdated.into_iter().rev().take(surplus.saturating_sub(1)).cloned().collect()
}

/// Whether one machine more than wanted is made, to take the place of another.
pub(super) fn wants_one_more(
    draft: &mut Draft<'_>,
    group: &WorkerGroup,
    present: &[Machine],
    going: &[Machine],
) -> bool {
    let class = &group.spec.class;
    if present.iter().all(|machine| is_current(machine, class)) {
        return false;
    }
    let about = group.object_ref();
    if group.spec.replicas.is_none() {
        draft.note(
            about,
            NoteKind::Notice,
            "NotReplaced",
            format!(
                "machines of another class than {class} stay: the group has no number of replicas, so that nobody can tell a \
                 replacement from growth; set spec.replicas to have them replaced"
            ),
        );
        return false;
    }
    let open =
        present.iter().find(|machine| is_current(machine, class) && machine.record.joined_at.is_none());
    if let Some(other) = open.or(going.first()) {
        let verb = if open.is_some() { "joins" } else { "goes" };
        let message = format!("machines are replaced one at a time: {} {verb} first", other.key());
        draft.note(about, NoteKind::Waiting, "OneAtATime", message);
        return false;
    }
    true
}
