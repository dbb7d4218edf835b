//! What machines suffer from is written down when it is first seen, so that no restart forgets it.

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use crate::draft::{Draft, Unit, cluster_of};
use crate::health::{self, Health};

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
            Health::Unknown => continue,
            Health::Well | Health::Off => None,
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

/// The record of an ailment that is seen now.
fn see(before: Option<&Ailment>, kind: AilmentKind, now: Timestamp, patience: SignedDuration) -> Ailment {
    let Some(before) = before.filter(|before| before.kind == kind) else {
        let sightings = if patience.is_zero() { Ailment::PATIENCE_SIGHTINGS } else { 0 };
        return Ailment { kind, since: now, seen_at: now, sightings };
    };
    let since_last = now.duration_since(before.seen_at);
    if since_last.is_negative() {
        // The clock was put back: the time that it showed before counts for nothing.
        return Ailment { seen_at: now, ..before.clone() };
    }
    if before.is_due() || since_last < patience / shares() {
        return before.clone();
    }
    Ailment { seen_at: now, sightings: before.sightings + 1, ..before.clone() }
}

fn shares() -> i32 {
    i32::try_from(Ailment::PATIENCE_SIGHTINGS).unwrap_or(i32::MAX)
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
        // Between two looks of a minute it is not counted at each.
        assert_eq!(seen_at(&[0, 60, 99]).sightings, 0);
    }

    #[test]
    fn a_clock_that_jumps_ahead_counts_for_a_quarter_of_the_patience() {
        assert_eq!(seen_at(&[0, 1_000_000]).sightings, 1);
        assert!(!seen_at(&[0, 1_000_000, 1_000_001, 1_000_002]).is_due());
    }

    #[test]
    fn a_clock_that_is_put_back_counts_anew_from_there() {
        let ailment = seen_at(&[1000, 1100, 500]);
        assert_eq!((ailment.sightings, ailment.seen_at), (1, at(500)));
        assert_eq!(seen_at(&[1000, 1100, 500, 599]).sightings, 1);
        assert_eq!(seen_at(&[1000, 1100, 500, 600]).sightings, 2);
    }

    #[test]
    fn another_ailment_counts_from_its_own_beginning() {
        let before = seen_at(&[0, 100, 200, 300, 400]);
        let other = see(Some(&before), AilmentKind::DiskLost, at(410), PATIENCE);
        assert_eq!((other.since, other.sightings), (at(410), 0));
    }
}
