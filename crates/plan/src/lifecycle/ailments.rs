//! What machines suffer from is written down when it is first seen, so that no restart forgets it.

use std::collections::BTreeSet;

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use crate::Snapshot;
use crate::draft::{Draft, Unit, cluster_of};
use crate::health::{self, Health};
use crate::patience::Count;

/// A machine, and what it suffers from now.
type Change = (NamespacedName, Option<Ailment>);

/// Records who fell ill, who still is, and who is well again.
pub(super) fn record(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let mut changed: Vec<Change> = Vec::new();
    for machine in snapshot.machines.values().filter(|machine| !machine.metadata.is_deleting()) {
        let Some(cluster) = draft.clusters.get(&cluster_of(machine)) else { continue };
        let before = machine.record.ailment.as_ref();
        if cluster.record.stopped && before.is_some() {
            // All of its machines are turned off, and have their time anew once they are started.
            changed.push((machine.key(), None));
        }
        if !health::is_judged(cluster) {
            continue;
        }
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
    let beside = beside_recovered(snapshot, &changed);
    for (key, ailment) in changed.into_iter().chain(beside) {
        // A fact of this pass may have changed it already.
        let Some(mut machine) = draft.machines.get(&key).cloned() else { continue };
        machine.record.ailment = ailment;
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// The record of a machine that is off. It is started first, so that nothing is counted now, and what was counted before is
/// given back: who was not up for minutes when its host was started anew has not had its time since. Each further time it goes
/// off a quarter less is given back, and never the last one, so that a guest that panics again and again is given up.
fn off(before: Option<&Ailment>, now: Timestamp) -> Ailment {
    let kind = AilmentKind::GuestNotUp;
    let Some(before) = before.filter(|before| before.kind == kind) else {
        return Ailment { kind, since: now, seen_at: now, sightings: 0, restarts: 0 };
    };
    let kept = before.restarts.min(Ailment::PATIENCE_SIGHTINGS - 1);
    if before.sightings <= kept {
        return before.clone();
    }
    Ailment { seen_at: now, sightings: kept, restarts: before.restarts.saturating_add(1), ..before.clone() }
}

/// The record of an ailment whose patience is over, and of which nobody can tell now whether it lasts: once somebody can
/// again, its last quarter is watched anew. One that still counts needs no word of it: its next look comes too late to count.
fn lose_sight(before: &Ailment, now: Timestamp) -> Ailment {
    Ailment { seen_at: now, sightings: Ailment::PATIENCE_SIGHTINGS - 1, ..before.clone() }
}

/// Machines beside those that are well again, in a group or among a cluster's control planes: what ailed all of them may be
/// mended, and one is up before the other. Those whose patience is over, and which others held up, are watched for a quarter.
fn beside_recovered(snapshot: &Snapshot, changed: &[Change]) -> Vec<Change> {
    let place = |machine: &Machine| (cluster_of(machine), machine.spec.role, machine.spec.group.clone());
    let well = changed.iter().filter(|(_, ailment)| ailment.is_none());
    let recovered: BTreeSet<_> = well.filter_map(|(key, _)| snapshot.machines.get(key)).map(&place).collect();
    if recovered.is_empty() {
        return Vec::new();
    }
    // These have causes of their own, which no other machine shares.
    let is_own = |kind| matches!(kind, AilmentKind::HostOff | AilmentKind::FirstBootFailed);
    let held_up = |machine: &Machine| {
        let key = machine.key();
        if machine.metadata.is_deleting() || changed.iter().any(|(changed, _)| *changed == key) {
            return None;
        }
        let ailment = machine.record.ailment.as_ref().filter(|it| it.is_due() && !is_own(it.kind))?;
        recovered.contains(&place(machine)).then(|| (key, Some(lose_sight(ailment, snapshot.now))))
    };
    snapshot.machines.values().filter_map(held_up).collect()
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
            Ailment { kind, since: now, seen_at: now, sightings, restarts: 0 }
        }
        Some(before) => {
            let Count { seen_at, sightings } = count(before).again(now, patience);
            Ailment { seen_at, sightings, ..before.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DomainState;

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
    }

    /// What is recorded of a guest that is seen running and not up at these seconds, and off at the others.
    fn seen_not_up(looks: &[(i64, DomainState)]) -> Ailment {
        let mut ailment = None;
        for (second, state) in looks {
            let (before, now) = (ailment.as_ref(), at(*second));
            ailment = Some(match state {
                DomainState::Running => see(before, AilmentKind::GuestNotUp, now, PATIENCE),
                _ => off(before, now),
            });
        }
        ailment.unwrap_or_else(|| unreachable!("somebody looked"))
    }

    #[test]
    fn a_machine_that_goes_off_again_has_its_time_once_more() {
        use DomainState::{Running, ShutOff};
        // Seen off last, with so many counted until then: what is left of that, and how often it went off.
        let off_after = |counted: i64| {
            let runs = (1..=counted).map(|count| (100 * count, Running));
            let looks: Vec<_> = std::iter::once((0, ShutOff)).chain(runs).chain([(450, ShutOff)]).collect();
            seen_not_up(&looks)
        };
        for counted in 0..=4 {
            let ailment = off_after(counted);
            assert_eq!((ailment.sightings, ailment.restarts), (0, u32::from(counted > 0)), "{counted}");
            assert_eq!(off(Some(&ailment), at(9000)), ailment, "nothing is counted while it is off");
            // A moment after it was started nothing of that is left, however long it was off.
            for second in [452, 600, 9000] {
                let runs = see(Some(&ailment), AilmentKind::GuestNotUp, at(second), PATIENCE);
                assert!(runs.sightings <= 1, "{counted} {second}");
            }
        }
    }

    #[test]
    fn a_guest_that_goes_off_again_and_again_is_given_up() {
        use DomainState::{Running, ShutOff};
        // It panics 10 s after each start, or holds out for most of its patience.
        for (runs_s, due_s) in [(10, 770), (150, 780), (390, 1100)] {
            let looks: Vec<_> = (0..2000)
                .step_by(10)
                .map(|second| (second, if second % (runs_s + 10) == 0 { ShutOff } else { Running }))
                .collect();
            let due = (1..looks.len()).find(|count| seen_not_up(&looks[..*count]).is_due());
            assert_eq!(due.map(|count| looks[count - 1].0), Some(due_s), "{runs_s}");
        }
        // However often: whoever has its patience used up and goes off is watched for a quarter more.
        let often = Ailment { restarts: 9, ..seen_not_up(&[(0, ShutOff), (100, Running)]) };
        let due = Ailment { sightings: Ailment::PATIENCE_SIGHTINGS, ..often };
        let runs = see(Some(&off(Some(&due), at(500))), AilmentKind::GuestNotUp, at(510), PATIENCE);
        assert!(!runs.is_due());
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
