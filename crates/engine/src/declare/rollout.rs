//! `cluster pause`, `cluster resume`, `machine replace` and its `--cancel`: wishes that the engine carries out.

use ashlar_api::expand::ObjectMap;
use ashlar_api::validate::Violation;
use ashlar_api::{
    Cluster, ClusterSpec, ConditionStatus, Kind, Machine, MachineRole, MachineSpec, NamespacedName, Object,
    ObjectRef,
};
use ashlar_store::Store;

use super::{DeclareError, delete, existing};
use crate::{effects::Clock, objects};

/// Records whether a cluster's rollout rests.
///
/// # Errors
/// There is no such cluster, or the store failed.
pub async fn set_paused(
    store: &dyn Store,
    cluster: &NamespacedName,
    paused: bool,
) -> Result<Cluster, DeclareError> {
    let name = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
    let missing = || DeclareError::NoSuchObject(name.clone());
    let seen = objects::read::<ClusterSpec>(store, &name).await?.ok_or_else(missing)?;
    let updated = objects::update(store, &seen, |cluster| {
        let changes = cluster.spec.paused != paused;
        if changes {
            cluster.spec.paused = paused;
            cluster.metadata.generation += 1;
        }
        changes
    });
    updated.await?.ok_or_else(missing)
}

/// Records that another machine is to take a machine's place.
///
/// # Errors
/// [`DeclareError::Invalid`] if none would, or not now; there is no such machine; the store failed.
pub async fn replace_machine(
    store: &dyn Store,
    clock: &dyn Clock,
    machine: &NamespacedName,
) -> Result<(), DeclareError> {
    let name = ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name);
    let stored = existing(store).await?;
    let Some(Object::Machine(found)) = stored.get(&name) else {
        return Err(DeclareError::NoSuchObject(name));
    };
    // Once it goes, or is to go, the same command only waits for the end.
    let is_asked_for = found.record.replacement_asked_at.is_some();
    if found.metadata.is_deleting() || is_asked_for && is_well(found) {
        return Ok(());
    }
    if let Some(message) = refusal(&stored, found) {
        let violations = vec![Violation { object: name, path: String::new(), message }];
        return Err(DeclareError::Invalid { violations });
    }
    if !comes_first(&stored, found) {
        return delete(store, clock, &[name]).await.map(drop);
    }
    let asked_at = clock.now();
    let updated = objects::update(store, &**found, |machine| {
        machine.record.replacement_asked_at.get_or_insert(asked_at);
        true
    });
    updated.await?.map(drop).ok_or(DeclareError::NoSuchObject(name))
}

/// Takes back the wish that another machine takes a machine's place, and says whether anybody had it. A successor that came
/// meanwhile is one too many of its group, as any other is.
///
/// # Errors
/// [`DeclareError::Invalid`] if it goes already; there is no such machine; the store failed.
pub async fn keep_machine(store: &dyn Store, machine: &NamespacedName) -> Result<bool, DeclareError> {
    let name = ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name);
    let missing = || DeclareError::NoSuchObject(name.clone());
    let found = objects::read::<MachineSpec>(store, &name).await?.ok_or_else(missing)?;
    // The rollout that takes it in its turn may be quicker than this.
    let (mut goes, mut was_asked_for) = (false, false);
    let updated = objects::update(store, &found, |machine| {
        goes = machine.metadata.is_deleting();
        was_asked_for = !goes && machine.record.replacement_asked_at.take().is_some();
        was_asked_for
    });
    updated.await?.ok_or_else(missing)?;
    if goes {
        let message = "goes already, and who goes does not come back; another takes its place".to_owned();
        return Err(DeclareError::Invalid {
            violations: vec![Violation { object: name, path: String::new(), message }],
        });
    }
    Ok(was_asked_for)
}

/// Whether its successor joins before it is drained: a worker that is missed, of a group that may have one more meanwhile. (A
/// control plane that goes waits for its successor itself.)
fn comes_first(stored: &ObjectMap, machine: &Machine) -> bool {
    let (namespace, spec) = (&machine.metadata.namespace, &machine.spec);
    let may_surge = match stored.get(&ObjectRef::new(Kind::WorkerGroup, namespace, &spec.group)) {
        Some(Object::WorkerGroup(group)) => group.spec.rollout.max_surge > 0,
        _ => false,
    };
    let rests = match stored.get(&ObjectRef::new(Kind::Cluster, namespace, &spec.cluster)) {
        Some(Object::Cluster(cluster)) => cluster.spec.paused,
        _ => true,
    };
    spec.role == MachineRole::Worker && may_surge && !rests && is_well(machine)
}

fn is_well(machine: &Machine) -> bool {
    let record = &machine.record;
    record.joined_at.is_some() && record.failure.is_none() && record.ailment.is_none()
}

/// Why no other machine would take its place, or not now.
fn refusal(stored: &ObjectMap, machine: &Machine) -> Option<String> {
    let namespace = &machine.metadata.namespace;
    let cluster = match stored.get(&ObjectRef::new(Kind::Cluster, namespace, &machine.spec.cluster)) {
        Some(Object::Cluster(cluster)) => cluster,
        _ => return Some(format!("cannot be replaced: its cluster {} is not there", machine.spec.cluster)),
    };
    let name = &cluster.metadata.name;
    if cluster.metadata.is_deleting() {
        return Some(format!("cannot be replaced: cluster {name} is being deleted"));
    }
    if cluster.record.stopped {
        return Some(format!(
            "cannot be replaced: cluster {name} is stopped; `ashlar cluster start {name}` first"
        ));
    }
    let others: Vec<&Machine> = stored
        .values()
        .filter_map(|object| match object {
            Object::Machine(other) => Some(&**other),
            _ => None,
        })
        .filter(|other| {
            other.metadata.namespace == *namespace
                && other.spec.cluster == *name
                && other.metadata.name != machine.metadata.name
        })
        .collect();
    let goes =
        |other: &&&Machine| other.metadata.is_deleting() || other.record.replacement_asked_at.is_some();
    let going = others.iter().find(goes);
    let coming =
        others.iter().find(|other| other.record.joined_at.is_none() && other.record.failure.is_none());
    if let Some(other) = going.or(coming) {
        let what = if going.is_some() { "goes" } else { "joins" };
        return Some(format!(
            "cannot be replaced now: {} {what}, and machines are replaced one after the other; wait for it (`ashlar cluster \
             status {name}`)",
            other.metadata.name
        ));
    }
    match machine.spec.role {
        MachineRole::Worker => {
            let group = stored.get(&ObjectRef::new(Kind::WorkerGroup, namespace, &machine.spec.group));
            let counted = matches!(group, Some(Object::WorkerGroup(group)) if group.spec.replicas.is_some());
            (!counted).then(|| {
                format!(
                    "cannot be replaced: group {} has no number of replicas, so that it would only shrink; set spec.replicas, \
                     or delete the machine",
                    machine.spec.group
                )
            })
        }
        MachineRole::ControlPlane => {
            let only = !others.iter().any(|other| other.spec.role == MachineRole::ControlPlane);
            let answers = cluster.status.conditions.iter().any(|condition| {
                condition.kind == "ControlPlaneReady" && condition.status == ConditionStatus::True
            });
            (only && !answers).then(|| {
                format!(
                    "cannot be replaced: it is the only control plane and not healthy, so that what is in its etcd is nowhere \
                     else; mend it (`ashlar console {}`), or restore a backup into a new cluster",
                    machine.metadata.name
                )
            })
        }
    }
}
