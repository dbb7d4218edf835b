//! What machines suffer from is written down when it is first seen, so that no restart forgets it.

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use crate::draft::{Draft, Unit, cluster_of};
use crate::health::{self, Health};
use crate::patience::Count;

/// Records who fell ill, who still is, and who is well again.
pub(super) fn record(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let mut changed = Vec::new();
    for machine in snapshot.machines.values().filter(|machine| !machine.metadata.is_deleting()) {
        let Some(cluster) = draft.clusters.get(&cluster_of(machine)).filter(|one| health::is_judged(one))
        else {
            continue;
        };
        let before = machine.record.ailment.as_ref();
        let ailment = match health::judge(snapshot, machine) {
            Health::Unknown => match before.filter(|before| before.is_due()) {
                Some(before) => Some(lose_sight(before, snapshot.now)),
                None => continue,
            },
            Health::Well => None,
            Health::Off => Some(off(before, snapshot.now)),
            Health::Sick(kind, _) => {
                let patience = SignedDuration::from_secs(cluster.spec.health.patience_s(kind).into());
                Some(see(before, kind, snapshot.now, patience))
            }
        };
        if before != ailment.as_ref() {
            changed.push((machine.key(), ailment));
        }
    }
    for (key, ailment) in changed {
        // A fact of this pass may have changed it already.
        let Some(mut machine) = draft.machines.get(&key).cloned() else { continue };
        machine.record.ailment = ailment;
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// The record of a machine that is off. It is started first, so that nothing is counted now; one that goes off again and again
/// begins no new count.
fn off(before: Option<&Ailment>, now: Timestamp) -> Ailment {
    let kind = AilmentKind::GuestNotUp;
    match before.filter(|before| before.kind == kind) {
        Some(before) => before.clone(),
        None => Ailment { kind, since: now, seen_at: now, sightings: 0 },
    }
}

/// The record of an ailment whose patience is over, and of which nobody can tell now whether it lasts: once somebody can
/// again, its last quarter is watched anew. One that still counts needs no word of it: its next look comes too late to count.
fn lose_sight(before: &Ailment, now: Timestamp) -> Ailment {
    Ailment { seen_at: now, sightings: Ailment::PATIENCE_SIGHTINGS - 1, ..before.clone() }
}

/// What was counted of an ailment.
pub(super) fn count(ailment: &Ailment) -> Count {
    Count { seen_at: ailment.seen_at, sightings: ailment.sightings }
}

/// The record of an ailment that is seen now.
fn see(before: Option<&Ailment>, kind: AilmentKind, now: Timestamp, patience: SignedDuration) -> Ailment {
    match before.filter(|before| before.kind == kind) {
        None => {
            // Where no patience is asked for, none is needed.
            let sightings = if patience.is_zero() { Ailment::PATIENCE_SIGHTINGS } else { 0 };
            Ailment { kind, since: now, seen_at: now, sightings }
        }
        Some(before) => {
            let Count { seen_at, sightings } = count(before).again(now, patience);
            Ailment { kind, since: before.since, seen_at, sightings }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: SignedDuration = SignedDuration::from_secs(400);
    const KIND: AilmentKind = AilmentKind::NodeNotReady;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn seen_at(seconds: &[i64]) -> Ailment {
        let mut ailment = None;
        for second in seconds {
            ailment = Some(see(ailment.as_ref(), KIND, at(*second), PATIENCE));
        }
        ailment.unwrap_or_else(|| unreachable!("somebody looked"))
    }

    #[test]
    fn patience_is_over_after_it_was_seen_all_the_time() {
        assert!(!seen_at(&[0, 100, 200, 300, 399]).is_due());
        let due = seen_at(&[0, 100, 200, 300, 400]);
        assert!(due.is_due());
        assert_eq!(due.since, at(0));
    }

    #[test]
    fn a_machine_that_is_off_has_its_time_once_it_runs() {
        let ailment = off(Some(&seen_at(&[0, 100, 200, 300])), at(310));
        assert_eq!((ailment.kind, ailment.since, ailment.sightings), (AilmentKind::GuestNotUp, at(310), 0));
        assert_eq!(off(Some(&ailment), at(900)), ailment, "nothing is counted while it is off");
        let runs = see(Some(&ailment), AilmentKind::GuestNotUp, at(410), PATIENCE);
        assert_eq!((runs.since, runs.sightings), (at(310), 1));
        assert_eq!(
            off(Some(&runs), at(420)),
            runs,
            "a guest that panics again and again is seen all the time"
        );
    }

    #[test]
    fn what_was_due_is_watched_for_its_last_quarter_once_nobody_could_tell() {
        let lost = lose_sight(&seen_at(&[0, 100, 200, 300, 400]), at(500));
        assert!(!lost.is_due());
        assert_eq!((lost.since, lost.seen_at), (at(0), at(500)));
        let see = |lost, second| see(Some(lost), KIND, at(second), PATIENCE);
        assert!(!see(&lost, 599).is_due());
        assert!(see(&lost, 600).is_due(), "it was a short silence");
        let again = see(&lost, 7500);
        assert!(!again.is_due());
        assert!(!see(&again, 7599).is_due() && see(&again, 7600).is_due());
    }

    #[test]
    fn another_ailment_counts_from_its_own_beginning() {
        let before = seen_at(&[0, 100, 200, 300, 400]);
        let other = see(Some(&before), AilmentKind::DiskLost, at(410), PATIENCE);
        assert_eq!((other.since, other.sightings), (at(410), 0));
    }
}
