//! Which kubelets renew their leases, judged by whether what stands there changes.
//!
//! A lease says when it was renewed by its node's clock, which may be wrong, and so may be the clock here. That it is another
//! time than at the last look is proof of a kubelet that works; that it stays the same while looks go on is none of one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ashlar_api::NamespacedName;
use ashlar_plan::{ClusterWorld, KubeletSeen};
use jiff::{SignedDuration, Timestamp};

/// A kubelet renews its lease every 10 s, and kube-controller-manager says after 50 s that its node is not Ready: only where
/// that does not happen, this counts.
const SILENT_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// From one look to the next no more than this counts: a clock that jumps ahead makes nobody silent at once.
const LONGEST_GAP: SignedDuration = SignedDuration::from_secs(30);

/// Leases as they were last seen, by cluster and node; in memory only.
#[derive(Default)]
pub(crate) struct Kubelets {
    kept: Mutex<BTreeMap<NamespacedName, Seen>>,
}

struct Seen {
    looked_at: Timestamp,
    leases: BTreeMap<String, Lease>,
}

#[derive(Clone, Debug)]
struct Lease {
    renewed_at: Timestamp,
    /// When it was first seen so.
    since: Timestamp,
    /// For how long looks saw nothing else.
    unchanged: SignedDuration,
    /// It was once seen to change.
    changed: bool,
}

impl Kubelets {
    /// Says of each node what its lease says, now that they were seen once more.
    pub(super) fn judge(
        &self,
        cluster: &NamespacedName,
        leases: BTreeMap<String, Timestamp>,
        world: &mut ClusterWorld,
        now: Timestamp,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.remove(cluster).unwrap_or_else(|| Seen { looked_at: now, leases: BTreeMap::new() });
        let gap = now.duration_since(before.looked_at).clamp(SignedDuration::ZERO, LONGEST_GAP);
        let look = |(node, renewed_at): (String, Timestamp)| {
            let lease = match before.leases.get(&node) {
                Some(lease) if lease.renewed_at == renewed_at => {
                    Lease { unchanged: lease.unchanged.saturating_add(gap), ..lease.clone() }
                }
                other => Lease {
                    renewed_at,
                    since: now,
                    unchanged: SignedDuration::ZERO,
                    changed: other.is_some(),
                },
            };
            (node, lease)
        };
        let leases: BTreeMap<String, Lease> = leases.into_iter().map(look).collect();
        for (node, seen) in &mut world.nodes {
            seen.kubelet = leases.get(node).map_or(KubeletSeen::Unknown, Lease::says);
        }
        kept.insert(cluster.clone(), Seen { looked_at: now, leases });
    }

    /// Of clusters that are gone nothing is kept.
    pub(super) fn keep(&self, is_there: impl Fn(&NamespacedName) -> bool) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|cluster, _| is_there(cluster));
    }

    /// The API gave no answer: kubelets may not have had one either, and begin anew.
    pub(super) fn forget(&self, cluster: &NamespacedName) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }
}

impl Lease {
    fn says(&self) -> KubeletSeen {
        if self.unchanged >= SILENT_AFTER {
            // People read it.
            let since = Timestamp::from_second(self.since.as_second()).unwrap_or(self.since);
            return KubeletSeen::Silent { since };
        }
        if self.changed { KubeletSeen::Heard } else { KubeletSeen::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_plan::NodeSeen;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    /// Looks at one node's lease: when, by our clock, and what it said.
    fn look(kubelets: &Kubelets, second: i64, renewed: Option<i64>) -> KubeletSeen {
        let cluster = NamespacedName::new("default", "demo");
        let leases = renewed.map(|renewed| ("demo-wkr-1".to_owned(), at(renewed)));
        let nodes = [("demo-wkr-1".to_owned(), NodeSeen::default())].into();
        let mut world = ClusterWorld { nodes, ..ClusterWorld::default() };
        kubelets.judge(&cluster, leases.into_iter().collect(), &mut world, at(second));
        world.nodes["demo-wkr-1"].kubelet.clone()
    }

    #[test]
    fn a_lease_that_changes_is_heard_and_one_that_does_not_is_silent_after_a_minute() {
        let kubelets = Kubelets::default();
        assert_eq!(look(&kubelets, 0, Some(7_000)), KubeletSeen::Unknown);
        assert_eq!(look(&kubelets, 30, Some(7_030)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 60, Some(7_030)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 89, Some(7_030)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 90, Some(7_030)), KubeletSeen::Silent { since: at(30) });
        assert_eq!(look(&kubelets, 120, Some(7_030)), KubeletSeen::Silent { since: at(30) });
        // A node whose clock was put back is heard as well.
        assert_eq!(look(&kubelets, 150, Some(12)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 180, None), KubeletSeen::Unknown, "somebody deleted it");
    }

    #[test]
    fn who_was_never_heard_is_silent_after_a_minute_too() {
        let kubelets = Kubelets::default();
        for second in [0, 20, 40, 59] {
            assert_eq!(look(&kubelets, second, Some(1)), KubeletSeen::Unknown);
        }
        assert_eq!(look(&kubelets, 60, Some(1)), KubeletSeen::Silent { since: at(0) });
    }

    #[test]
    fn no_clock_that_is_wrong_makes_anybody_silent() {
        let kubelets = Kubelets::default();
        look(&kubelets, 0, Some(1));
        assert_eq!(look(&kubelets, 10, Some(2)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 90_000, Some(2)), KubeletSeen::Heard, "ours jumped ahead");
        assert_eq!(look(&kubelets, 90_001, Some(2)), KubeletSeen::Heard);
        assert_eq!(look(&kubelets, 100, Some(2)), KubeletSeen::Heard, "and was put right");
        assert_eq!(look(&kubelets, 105, Some(3)), KubeletSeen::Heard);
    }

    #[test]
    fn an_api_that_gave_no_answer_has_everybody_begin_anew() {
        let kubelets = Kubelets::default();
        look(&kubelets, 0, Some(1));
        look(&kubelets, 30, Some(1));
        kubelets.forget(&NamespacedName::new("default", "demo"));
        assert_eq!(look(&kubelets, 60, Some(1)), KubeletSeen::Unknown);
        assert_eq!(look(&kubelets, 90, Some(1)), KubeletSeen::Unknown);
        assert_eq!(look(&kubelets, 120, Some(1)), KubeletSeen::Silent { since: at(60) });
    }
}
