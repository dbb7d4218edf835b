//! `host add`.

use ashlar_api::{
    Host, HostSpec, Kind, Object, ObjectRef, PoolOnHost, PoolType, StoragePool, StoragePoolSpec,
    validate::validate_object,
};
use ashlar_plan::{PoolSeen, Snapshot};
use ashlar_store::{Precondition, Transaction};
use jiff::Timestamp;
use uuid::Uuid;

use super::{EnrolError, Enrolled, accelerator};
use crate::{
    Engine, EngineError, Scope,
    deadline::within,
    effects::{EffectErrorKind, HostProbe, HostTarget},
    ids::random_uuid,
    objects,
};

/// A host to enrol.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct NewHost {
    /// Its name.
    pub name: String,
    /// How to reach it.
    pub spec: HostSpec,
    /// Its storage pools, by libvirt's name; each becomes, or joins, a StoragePool object of that name.
    pub pools: Vec<String>,
    /// Image object that a probe VM boots; without one the accelerator stays unproved, and nothing is placed there.
    pub test_image: Option<String>,
}

/// Enrols a host, or goes on with an enrolment that was cut off, or looks again at one that is enrolled.
///
/// # Errors
/// It is another installation's, or was enrolled under another name; a pool is missing; no VM runs there; it does not
/// answer.
pub async fn add(engine: &Engine, new: &NewHost) -> Result<Enrolled, EnrolError> {
    let mut host = Host::new(&new.name, new.spec.clone());
    let violations = validate_object(&Object::from(host.clone()));
    if !violations.is_empty() {
        return Err(EnrolError::Invalid { violations });
    }
    let now = engine.world.clock.now();
    let mut snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let is_known = snapshot.hosts.contains_key(&new.name);
    if let Some(old) = snapshot.hosts.get(&new.name) {
        // The host will remember the token that it is shown: it is in the store before, so that whatever fails in
        // between, the next command shows a newer one.
        objects::update(engine.store.as_ref(), old, |host| {
            host.record.lease_token = next_token(host.record.lease_token, now);
            true
        })
        .await?;
        snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    }
    if let Some(old) = snapshot.hosts.get(&new.name) {
        host.metadata = old.metadata.clone();
        host.record = old.record.clone();
        host.status = old.status.clone();
        if old.spec != new.spec {
            host.metadata.generation += 1;
        }
    } else {
        host.metadata.uid = Some(random_uuid(engine.world.entropy.as_ref()));
        host.metadata.generation = 1;
        host.metadata.creation_timestamp = Some(now);
        host.record.lease_token = next_token(0, now);
    }
    let target = engine.host_target(&host);
    let (pools, kvm_claimed) = match look_and_store(engine, &snapshot, new, &mut host, &target).await {
        Ok(found) => found,
        Err(error) => {
            if !is_known {
                give_back(engine, &target, &error).await;
            }
            return Err(error);
        }
    };
    engine.leases.hold(&new.name, host.record.lease_token);

    let proof = match &new.test_image {
        None => None,
        Some(image) => Some(accelerator::prove(engine, &new.name, image, &pools, kvm_claimed).await?),
    };
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let host = snapshot.hosts.get(&new.name).cloned().unwrap_or(host);
    let pools = new.pools.iter().filter_map(|pool| snapshot.pools.get(pool).cloned()).collect();
    Ok(Enrolled { host, pools, proof })
}

/// A host that was enrolled, removed and is enrolled again has seen higher tokens than a new object would begin with:
/// seconds are ahead of any number of runs.
fn next_token(last: u64, now: Timestamp) -> u64 {
    (last + 1).max(u64::try_from(now.as_second()).unwrap_or_default())
}

/// Asks the host what it is, and records it. Gives its pools, and whether it claims to have KVM.
async fn look_and_store(
    engine: &Engine,
    snapshot: &Snapshot,
    new: &NewHost,
    host: &mut Host,
    target: &HostTarget,
) -> Result<(Vec<StoragePool>, bool), EnrolError> {
    let probe = probe(engine, target).await?;
    refuse_other(snapshot, &new.name, &probe)?;
    host.record.capacity = Some(probe.capacity);
    host.record.hostname = probe.hostname;
    host.record.host_uuid = Some(probe.host_uuid);
    host.record.architecture = ashlar_plan::go_architecture(&probe.architecture).to_owned();
    host.record.machine_type = probe.machine_type;
    host.record.libvirt_version = probe.libvirt_version;
    host.record.qemu_version = probe.qemu_version;
    let target = HostTarget { host_uuid: Some(probe.host_uuid), ..target.clone() };
    let mut pools = Vec::new();
    for name in &new.pools {
        pools.push(joined_pool(engine, snapshot, &target, name).await?);
    }
    store(engine, snapshot, host, &pools).await?;
    Ok((pools, probe.kvm_claimed))
}

/// A host that was not enrolled after all is nobody's again: else whoever tries next, or enrolled it under another name,
/// would be told that a newer Ashlar has it. The enrolment's own error is what matters; a host that cannot be told
/// keeps the lease, which this installation can take over at any time.
async fn give_back(engine: &Engine, target: &HostTarget, error: &EnrolError) {
    if let EnrolError::Engine(EngineError::Effect { source, .. }) = error
        && source.kind == EffectErrorKind::Unreachable
    {
        return;
    }
    let doing = format!("giving back the lease of host {}", target.name);
    let call = engine.world.shell.release_lease(target);
    let released = within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call).await;
    if let Err(error) = released {
        tracing::debug!(host = target.name, %error, "the lease was not given back");
    }
}

async fn probe(engine: &Engine, target: &HostTarget) -> Result<HostProbe, EnrolError> {
    let doing = format!("probing host {} ({})", target.name, target.uri);
    let call = engine.world.hypervisor.probe(target);
    let probed = within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call).await;
    probed.map_err(|error| match error.kind {
        EffectErrorKind::NotOurs => EnrolError::Refused(error.message),
        _ => EngineError::Effect { doing, source: error }.into(),
    })
}

/// One host has one object, and one object one host.
fn refuse_other(snapshot: &Snapshot, name: &str, probe: &HostProbe) -> Result<(), EnrolError> {
    if probe.architecture != "x86_64" {
        return Err(EnrolError::Refused(format!(
            "host {name} is {}: this version of Ashlar runs x86_64 only",
            probe.architecture
        )));
    }
    let other = snapshot
        .hosts
        .iter()
        .find(|(other, host)| other.as_str() != name && host.record.host_uuid == Some(probe.host_uuid));
    if let Some((other, _)) = other {
        return Err(EnrolError::Refused(format!(
            "host {name} is enrolled already, as {other} (libvirt's host UUID is {}); two machines with one UUID need \
             a host_uuid of their own in libvirtd.conf",
            probe.host_uuid
        )));
    }
    let enrolled = snapshot.hosts.get(name).and_then(|host| host.record.host_uuid);
    match enrolled {
        Some(uuid) if uuid != probe.host_uuid => Err(EnrolError::Refused(format!(
            "what answers as host {name} is not the host that was enrolled (its UUID is {}, and was {uuid}); if it was \
             exchanged on purpose, remove host {name} first",
            probe.host_uuid
        ))),
        _ => Ok(()),
    }
}

/// The StoragePool object with this host's pool in its record.
async fn joined_pool(
    engine: &Engine,
    snapshot: &Snapshot,
    target: &HostTarget,
    name: &str,
) -> Result<StoragePool, EnrolError> {
    let host = &target.name;
    let doing = format!("looking for pool {name} on host {host}");
    let call = engine.world.hypervisor.pool_by_name(target, name);
    let found = within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call)
        .await
        .map_err(|source| EngineError::Effect { doing, source })?;
    let (uuid, seen) = found.ok_or_else(|| {
        EnrolError::Refused(format!(
            "host {host} has no active pool {name}; `virsh pool-list --all` there shows what it has"
        ))
    })?;
    let mut pool = match snapshot.pools.get(name) {
        Some(pool) => pool.clone(),
        None => new_pool(engine, name),
    };
    if pool.spec.libvirt_name != name {
        return Err(EnrolError::Refused(format!(
            "storagepool {name} stands for libvirt's pool {}; name that one",
            pool.spec.libvirt_name
        )));
    }
    let violations = validate_object(&Object::from(pool.clone()));
    if !violations.is_empty() {
        return Err(EnrolError::Invalid { violations });
    }
    if let Some(before) = pool.record.hosts.get(host).filter(|before| before.uuid != uuid) {
        let is_used = snapshot
            .volumes
            .values()
            .any(|volume| volume.spec.host == *host && volume.spec.pool_uuid == before.uuid);
        if is_used {
            return Err(EnrolError::Refused(format!(
                "pool {name} of host {host} is another one (its UUID is {uuid}, and was {}), and volumes lie in the \
                 former: bring that back",
                before.uuid
            )));
        }
    }
    if !pool.spec.hosts.is_empty() && !pool.spec.hosts.contains(host) {
        pool.spec.hosts.push(host.clone());
        pool.metadata.generation += 1;
    }
    pool.record.hosts.insert(host.clone(), on_host(uuid, &seen));
    Ok(pool)
}

fn new_pool(engine: &Engine, name: &str) -> StoragePool {
    let spec = StoragePoolSpec {
        pool_type: PoolType::Dir,
        libvirt_name: name.to_owned(),
        hosts: Vec::new(),
        max_fill_percent: 90,
    };
    let mut pool = StoragePool::new(name, spec);
    pool.metadata.uid = Some(random_uuid(engine.world.entropy.as_ref()));
    pool.metadata.generation = 1;
    pool.metadata.creation_timestamp = Some(engine.world.clock.now());
    pool
}

fn on_host(uuid: Uuid, seen: &PoolSeen) -> PoolOnHost {
    PoolOnHost { uuid, path: seen.path.clone(), capacity_mib: seen.capacity_mib }
}

/// Writes host and pools, all or nothing.
async fn store(
    engine: &Engine,
    snapshot: &Snapshot,
    host: &Host,
    pools: &[StoragePool],
) -> Result<(), EnrolError> {
    let mut transaction = Transaction::new();
    let host_before = snapshot.hosts.get(&host.metadata.name).cloned().map(Object::from);
    let mut put = |object: Object, before: Option<Object>| -> Result<(), EngineError> {
        let expect = match before {
            None => Precondition::Absent,
            Some(before) => objects::unchanged_since(&before.metadata().resource_version)?,
        };
        let key = objects::key_of(&object.object_ref());
        transaction = std::mem::take(&mut transaction).put(key, objects::to_stored(object)?, expect);
        Ok(())
    };
    put(Object::from(host.clone()), host_before)?;
    for pool in pools {
        put(Object::from(pool.clone()), snapshot.pools.get(&pool.metadata.name).cloned().map(Object::from))?;
    }
    match engine.store.commit(transaction).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Err(EnrolError::Engine(EngineError::Contended)),
        Err(error) => Err(EngineError::from(error).into()),
    }
}

/// The host's reference.
pub(super) fn host_ref(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Host, "", name)
}
