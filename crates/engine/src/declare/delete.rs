//! `delete`: the recorded intent without which nothing is destroyed.

use ashlar_api::{Kind, Object, ObjectRef, validate::validate_delete};
use ashlar_store::{Store, Transaction, Write};

use super::{DeclareError, existing};
use crate::{EngineError, effects::Clock, objects};

/// Attempts against other writers.
const ATTEMPTS: u32 = 10;

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The object.
    pub object: ObjectRef,
    /// Whether it is gone from the store at once; else it goes when the world was seen without it.
    pub at_once: bool,
}

/// Deletes objects. What stands for something in the world gets the intent to delete it recorded, which the engine then
/// carries out; the rest is removed at once. All in one transaction where they are at most 100. Deleting what is being
/// deleted changes nothing.
///
/// # Errors
/// [`DeclareError::Invalid`] if something still uses one of them; [`DeclareError::NoSuchObject`].
pub async fn delete(
    store: &dyn Store,
    clock: &dyn Clock,
    objects: &[ObjectRef],
) -> Result<Vec<Deleted>, DeclareError> {
    for _ in 0..ATTEMPTS {
        let stored = existing(store).await?;
        let mut violations = Vec::new();
        let mut left = stored.clone();
        for object in objects {
            if !stored.contains_key(object) {
                return Err(DeclareError::NoSuchObject(object.clone()));
            }
        }
        // What goes in the same command keeps nothing.
        for object in objects {
            left.remove(object);
        }
        for object in objects {
            let mut seen = left.clone();
            seen.extend(stored.get(object).map(|found| (object.clone(), found.clone())));
            violations.extend(validate_delete(object, &seen));
        }
        if !violations.is_empty() {
            return Err(DeclareError::Invalid { violations });
        }
        let mut deleted = Vec::new();
        let mut writes = Vec::new();
        for name in objects {
            let Some(object) = stored.get(name) else { continue };
            let (write, at_once) = intent(object, clock)?;
            writes.extend(write);
            deleted.push(Deleted { object: name.clone(), at_once });
        }
        match commit(store, writes).await {
            Ok(()) => return Ok(deleted),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(EngineError::from(error).into()),
        }
    }
    Err(EngineError::Contended.into())
}

/// The write that says that the object is to go, if none says so yet.
fn intent(object: &Object, clock: &dyn Clock) -> Result<(Option<Write>, bool), EngineError> {
    let name = object.object_ref();
    let key = objects::key_of(&name);
    let expect = objects::unchanged_since(&object.metadata().resource_version)?;
    // Clusters, groups and machines stand for something in the world even if their finalizer was not written yet.
    let at_once = object.metadata().finalizers.is_empty()
        && !matches!(name.kind, Kind::Cluster | Kind::WorkerGroup | Kind::Machine | Kind::Volume);
    if at_once {
        return Ok((Some(Write::Delete { key, expect }), true));
    }
    if object.metadata().is_deleting() {
        return Ok((None, false));
    }
    let mut object = object.clone();
    object.metadata_mut().deletion_timestamp = Some(clock.now());
    Ok((Some(Write::Put { key, value: objects::to_stored(object)?, expect }), false))
}

async fn commit(store: &dyn Store, writes: Vec<Write>) -> Result<(), ashlar_store::StoreError> {
    for writes in writes.chunks(ashlar_store::MAX_OPERATIONS) {
        store.commit(Transaction { writes: writes.to_vec() }).await?;
    }
    Ok(())
}
