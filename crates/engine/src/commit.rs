//! Committing a plan's decisions.

use std::collections::BTreeMap;

use ashlar_api::{Object, ObjectRef};
use ashlar_plan::{Decision, Guard, Snapshot};
use ashlar_store::{Precondition, Revision, Transaction, Write};

use crate::{
    CommittedWrite, Engine, EngineError, EngineEvent, WriteVerb, audit::Deed, ids::random_uuid, objects,
};

/// What became of a plan's decisions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// There was nothing to commit.
    Nothing,
    /// So many commits were made; plan again.
    Some(u32),
    /// Somebody else changed what was read, after so many commits; read and plan again.
    Conflict(u32),
}

impl Engine {
    /// Commits decisions, commit by commit, each with what it was decided from as precondition.
    ///
    /// A plan is decided as a whole: a later commit builds on the earlier ones. Where one writes what an earlier one
    /// wrote, it expects just that write.
    pub(crate) async fn commit(
        &self,
        snapshot: &Snapshot,
        decisions: Vec<Vec<Decision>>,
    ) -> Result<Committed, EngineError> {
        let mut ours: BTreeMap<ObjectRef, Revision> = BTreeMap::new();
        let mut commits = 0;
        for decisions in decisions {
            let (transaction, told) = self.transaction(snapshot, decisions, &ours)?;
            let written: Vec<ObjectRef> = told.iter().map(|write| write.object.clone()).collect();
            let plan = snapshot.now;
            self.audit.record(self.world.clock.now(), &Deed::decided(&told, plan))?;
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    ours.extend(written.into_iter().map(|object| (object, revision)));
                    commits += 1;
                    self.sink.event(&EngineEvent::Committed { writes: told });
                }
                Err(error) if error.is_conflict() => {
                    self.audit.record(self.world.clock.now(), &Deed::Conflicted { plan })?;
                    return Ok(Committed::Conflict(commits));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if commits == 0 { Committed::Nothing } else { Committed::Some(commits) })
    }

    fn transaction(
        &self,
        snapshot: &Snapshot,
        decisions: Vec<Decision>,
        ours: &BTreeMap<ObjectRef, Revision>,
    ) -> Result<(Transaction, Vec<CommittedWrite>), EngineError> {
        let expect = |object: &ObjectRef, version: &str| match ours.get(object) {
            _ if !Guard::CompareAndSet.stands() => Ok(Precondition::Any),
            Some(revision) => Ok(Precondition::Revision(*revision)),
            None => objects::unchanged_since(version),
        };
        let mut transaction = Transaction::new();
        let mut told = Vec::new();
        for decision in decisions {
            let (write, verb) = match decision {
                Decision::Create(mut object) => {
                    self.complete(&mut object, snapshot);
                    let key = objects::key_of(&object.object_ref());
                    let value = objects::to_stored(object.clone())?;
                    let expect =
                        if Guard::CompareAndSet.stands() { Precondition::Absent } else { Precondition::Any };
                    let write = Write::Put { key, value, expect };
                    (write, Some((object.object_ref(), WriteVerb::Created)))
                }
                Decision::Update(object) => {
                    let name = object.object_ref();
                    let expect = expect(&name, &object.metadata().resource_version)?;
                    let write = Write::Put {
                        key: objects::key_of(&name),
                        value: objects::to_stored(object)?,
                        expect,
                    };
                    (write, Some((name, WriteVerb::Updated)))
                }
                Decision::Remove { object, resource_version } => {
                    let expect = expect(&object, &resource_version)?;
                    let write = Write::Delete { key: objects::key_of(&object), expect };
                    (write, Some((object, WriteVerb::Removed)))
                }
                Decision::Check { object, resource_version } => {
                    let expect = expect(&object, &resource_version)?;
                    (Write::Check { key: objects::key_of(&object), expect }, None)
                }
            };
            transaction.writes.push(write);
            told.extend(verb.map(|(object, verb)| CommittedWrite { object, verb }));
        }
        Ok((transaction, told))
    }

    /// What every new object has, where the planner left it out.
    fn complete(&self, object: &mut Object, snapshot: &Snapshot) {
        let metadata = object.metadata_mut();
        metadata.creation_timestamp.get_or_insert(snapshot.now);
        metadata.generation = metadata.generation.max(1);
        if metadata.uid.is_none() {
            metadata.uid = Some(random_uuid(self.world.entropy.as_ref()));
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "planners_tests.rs"]
mod planners_tests;
