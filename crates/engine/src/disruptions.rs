//! What disturbs the control planes of a cluster now, in this process: steps, or the defragmentation of one of etcd's members.
//!
//! What stands in the store keeps passes that begin from then on away, and other processes. A step that follows from an earlier
//! look may be about to begin, or be under way: those are seen here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ashlar_api::NamespacedName;

/// By cluster.
#[derive(Default)]
pub(crate) struct Disruptions(Mutex<BTreeMap<NamespacedName, Kind>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// So many steps; that they are not too many is the plan's affair.
    Steps(usize),
    Defragmentation,
}

/// It goes on until this is dropped.
#[must_use]
pub(crate) struct Disruption<'a> {
    all: &'a Disruptions,
    cluster: NamespacedName,
}

impl Disruptions {
    /// A step begins; not while a member is defragmented.
    pub(crate) fn step(&self, cluster: &NamespacedName) -> Option<Disruption<'_>> {
        self.begin(cluster, |before| match before {
            None => Some(Kind::Steps(1)),
            Some(Kind::Steps(count)) => Some(Kind::Steps(count + 1)),
            Some(Kind::Defragmentation) => None,
        })
    }

    /// A member is going to be defragmented; not beside anything else.
    pub(crate) fn defragmentation(&self, cluster: &NamespacedName) -> Option<Disruption<'_>> {
        self.begin(cluster, |before| before.is_none().then_some(Kind::Defragmentation))
    }

    fn begin(
        &self,
        cluster: &NamespacedName,
        next: impl FnOnce(Option<Kind>) -> Option<Kind>,
    ) -> Option<Disruption<'_>> {
        let mut all = self.lock();
        let next = next(all.get(cluster).copied())?;
        all.insert(cluster.clone(), next);
        Some(Disruption { all: self, cluster: cluster.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NamespacedName, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Disruption<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        match all.get_mut(&self.cluster) {
            Some(Kind::Steps(count)) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.cluster)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_defragmentation_is_alone_and_steps_are_not() {
        let all = Disruptions::default();
        let (demo, other) = (NamespacedName::new("default", "demo"), NamespacedName::new("default", "other"));
        let one = all.step(&demo).unwrap();
        let two = all.step(&demo).unwrap();
        assert!(all.defragmentation(&demo).is_none());
        let elsewhere = all.defragmentation(&other).unwrap();
        assert!(all.step(&other).is_none() && all.defragmentation(&other).is_none());
        drop(one);
        assert!(all.defragmentation(&demo).is_none(), "the other step goes on");
        drop((two, elsewhere));
        assert!(all.step(&other).is_some(), "and ends at once");
        let alone = all.defragmentation(&demo).unwrap();
        assert!(all.step(&demo).is_none());
        drop(alone);
        assert!(all.step(&demo).is_some());
    }
}
