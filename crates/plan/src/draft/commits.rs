//! Writes of a plan, grouped into commits that the store takes as a whole.

use std::collections::BTreeMap;

use ashlar_api::{Object, ObjectRef};

use crate::Decision;

/// The most operations in one commit: etcd's default limit is 128.
pub const MAX_COMMIT_WRITES: usize = 100;

/// Writes that make sense only together, such as a machine with its volumes and the ledgers that it claims from.
#[derive(Default)]
pub(crate) struct Unit {
    writes: BTreeMap<ObjectRef, Decision>,
}

impl Unit {
    pub(crate) fn create(&mut self, object: impl Into<Object>) {
        let object = object.into();
        self.writes.insert(object.object_ref(), Decision::Create(object));
    }

    /// An object that was read, or one that an earlier unit of this plan creates.
    pub(crate) fn update(&mut self, object: impl Into<Object>) {
        let object = object.into();
        self.writes.insert(object.object_ref(), Decision::Update(object));
    }

    pub(crate) fn remove(&mut self, object: ObjectRef, resource_version: &str) {
        let resource_version = resource_version.to_owned();
        self.writes.insert(object.clone(), Decision::Remove { object, resource_version });
    }

    /// No write, but the object must not have changed. A write of the same object says that already.
    pub(crate) fn check(&mut self, object: ObjectRef, resource_version: &str) {
        let resource_version = resource_version.to_owned();
        self.writes.entry(object.clone()).or_insert(Decision::Check { object, resource_version });
    }
}

/// All commits of a plan.
#[derive(Default)]
pub(crate) struct Commits {
    done: Vec<Vec<Decision>>,
    open: BTreeMap<ObjectRef, Decision>,
}

impl Commits {
    pub(crate) fn push(&mut self, unit: Unit) {
        let new = unit.writes.keys().filter(|object| !self.open.contains_key(object)).count();
        if self.open.len() + new > MAX_COMMIT_WRITES {
            self.close();
        }
        for (object, decision) in unit.writes {
            let merged = match (self.open.remove(&object), decision) {
                // Still new to the store, with the later content.
                (Some(Decision::Create(_)), Decision::Update(later)) => Decision::Create(later),
                // The write has the same precondition.
                (Some(write), Decision::Check { .. }) => write,
                (_, decision) => decision,
            };
            self.open.insert(object, merged);
        }
    }

    /// Ends the commit at hand: what comes next has nothing to do with it.
    pub(crate) fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into_values().collect());
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Vec<Decision>> {
        self.close();
        self.done
    }
}
