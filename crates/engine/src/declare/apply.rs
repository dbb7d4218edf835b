//! `apply`: what people write replaces labels, annotations and spec of what is stored, and nothing else.

use ashlar_api::{
    FINALIZER, Kind, Object, ObjectRef,
    diff::{FieldChange, diff_objects},
    expand::{ObjectMap, expand, no_longer_inline, object_map},
    own_network::with_own_networks,
    validate::validate_apply,
};
use ashlar_plan::Snapshot;
use ashlar_store::{Precondition, Store, StoreError, Transaction, Write};

use super::{DeclareError, existing, spec_differs};
use crate::{
    EngineError,
    effects::{Clock, Entropy},
    ids::random_uuid,
    objects,
    read::insert_object,
};

/// Attempts against other writers.
const ATTEMPTS: u32 = 10;

/// What became of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, as it is stored now (or would be, in a dry run).
    pub object: Object,
    /// What was done.
    pub outcome: Outcome,
    /// Fields that changed; empty for a new one.
    pub changes: Vec<FieldChange>,
}

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It changed.
    Configured,
    /// It was so already; nothing was written.
    Unchanged,
}

/// What became of a declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Each object, inline worker groups written out, in the order in which they depend on each other.
    pub applied: Vec<Applied>,
    /// Worker groups that once stood in one of these Cluster files and do not any more: they stay until deleted.
    pub no_longer_inline: Vec<ObjectRef>,
}

/// Validates objects and writes them: all in one transaction where they are at most 100, so that a file takes effect
/// as a whole or not at all. Unchanged ones are not written; a generation counts changes of the spec.
///
/// # Errors
/// [`DeclareError::Invalid`] with everything that is wrong, before anything is written; the store failed.
pub async fn apply(
    store: &dyn Store,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    objects: Vec<Object>,
    dry_run: bool,
) -> Result<Declared, DeclareError> {
    for _ in 0..ATTEMPTS {
        let stored = existing(store).await?;
        let violations = validate_apply(&objects, &stored);
        if !violations.is_empty() {
            return Err(DeclareError::Invalid { violations });
        }
        let no_longer_inline = no_longer_inline(&objects, &stored);
        let applied = expand(with_own_networks(objects.clone(), &stored))
            .into_iter()
            .map(|object| merge(&stored, object, clock, entropy))
            .collect::<Result<Vec<_>, _>>()?;
        let declared = Declared { applied, no_longer_inline };
        if dry_run {
            return Ok(declared);
        }
        match write(store, &declared.applied, &stored).await {
            Ok(()) => return Ok(declared),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(EngineError::from(error).into()),
        }
    }
    Err(EngineError::Contended.into())
}

fn merge(
    stored: &ObjectMap,
    mut new: Object,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Applied, EngineError> {
    let name = new.object_ref();
    let unreadable = |source| EngineError::Unreadable { object: name.to_string(), source };
    let Some(old) = stored.get(&name) else {
        let metadata = new.metadata_mut();
        metadata.uid = Some(random_uuid(entropy));
        metadata.generation = 1;
        metadata.creation_timestamp = Some(clock.now());
        add_finalizer(&mut new);
        return Ok(Applied { object: new, outcome: Outcome::Created, changes: Vec::new() });
    };
    let object = take_over(old, new);
    let changes = diff_objects(old, &object).map_err(unreadable)?;
    let outcome = if changes.is_empty() { Outcome::Unchanged } else { Outcome::Configured };
    let mut object = if changes.is_empty() { old.clone() } else { object };
    if spec_differs(old, &object).map_err(unreadable)? {
        object.metadata_mut().generation += 1;
    }
    Ok(Applied { object, outcome, changes })
}

/// The new labels, annotations and spec, with everything else as it is stored.
fn take_over(old: &Object, mut new: Object) -> Object {
    let (labels, annotations) = (new.metadata().labels.clone(), new.metadata().annotations.clone());
    let mut metadata = old.metadata().clone();
    metadata.labels = labels;
    // Annotations in our own domain are not people's to take away.
    let ours = metadata.annotations.into_iter().filter(|(name, _)| name.starts_with("ashlar.dev/"));
    metadata.annotations = ours.chain(annotations).collect();
    *new.metadata_mut() = metadata;
    macro_rules! keep {
        ($($kind:ident),*) => {
            match (old, &mut new) {
                $((Object::$kind(old), Object::$kind(new)) => {
                    new.record = old.record.clone();
                    new.status = old.status.clone();
                })*
                // An object is looked up by its kind.
                _ => {}
            }
        };
    }
    keep!(
        Host,
        StoragePool,
        Network,
        Image,
        MachineClass,
        Cluster,
        WorkerGroup,
        Machine,
        Volume,
        Secret,
        Event
    );
    new
}

/// What stands for something in the world stays in the store until that is proved gone.
fn add_finalizer(object: &mut Object) {
    if matches!(object.kind(), Kind::Cluster | Kind::WorkerGroup) {
        let finalizers = &mut object.metadata_mut().finalizers;
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }
}

async fn write(store: &dyn Store, applied: &[Applied], stored: &ObjectMap) -> Result<(), StoreError> {
    let mut writes = Vec::new();
    for applied in applied.iter().filter(|applied| applied.outcome != Outcome::Unchanged) {
        let name = applied.object.object_ref();
        let expect = match stored.get(&name) {
            None => Precondition::Absent,
            Some(old) => objects::unchanged_since(&old.metadata().resource_version).map_err(internal)?,
        };
        let value = objects::to_stored(applied.object.clone()).map_err(internal)?;
        writes.push(Write::Put { key: objects::key_of(&name), value, expect });
    }
    // What others refer to comes first, so that a file of more than one transaction never dangles.
    for writes in writes.chunks(ashlar_store::MAX_OPERATIONS) {
        store.commit(Transaction { writes: writes.to_vec() }).await?;
    }
    Ok(())
}

fn internal(error: EngineError) -> StoreError {
    StoreError::unavailable(error.to_string())
}

/// Lays an object over a snapshot as if it had been applied: for `plan -f`.
pub(crate) fn lay_over(snapshot: &mut Snapshot, objects: Vec<Object>, entropy: &dyn Entropy) {
    let existing = object_map(
        (snapshot.networks.values().cloned().map(Object::from))
            .chain(snapshot.clusters.values().cloned().map(Object::from)),
    );
    for mut new in expand(with_own_networks(objects, &existing)) {
        let name = new.object_ref();
        let old = stored(snapshot, &name);
        let object = match old {
            Some(old) => take_over(&old, new),
            None => {
                let metadata = new.metadata_mut();
                metadata.uid = Some(random_uuid(entropy));
                metadata.generation = 1;
                metadata.creation_timestamp = Some(snapshot.now);
                add_finalizer(&mut new);
                new
            }
        };
        insert_object(snapshot, object);
    }
}

fn stored(snapshot: &Snapshot, object: &ObjectRef) -> Option<Object> {
    let key = object.key();
    match object.kind {
        Kind::Host => snapshot.hosts.get(&object.name).cloned().map(Object::from),
        Kind::StoragePool => snapshot.pools.get(&object.name).cloned().map(Object::from),
        Kind::Network => snapshot.networks.get(&object.name).cloned().map(Object::from),
        Kind::Image => snapshot.images.get(&object.name).cloned().map(Object::from),
        Kind::MachineClass => snapshot.classes.get(&object.name).cloned().map(Object::from),
        Kind::Cluster => snapshot.clusters.get(&key).cloned().map(Object::from),
        Kind::WorkerGroup => snapshot.groups.get(&key).cloned().map(Object::from),
        Kind::Machine => snapshot.machines.get(&key).cloned().map(Object::from),
        Kind::Volume => snapshot.volumes.get(&key).cloned().map(Object::from),
        Kind::Secret | Kind::Event => None,
    }
}
