//! Making secrets: in memory, sealed, and into the store. Nothing outside the store is touched.

use std::collections::BTreeMap;

use ashlar_api::{
    Kind, Machine, NamespacedName, Object, ObjectRef, OwnerReference, Secret, SecretPurpose, SecretSpec,
};
use ashlar_plan::names;
use ashlar_store::{Precondition, Transaction};
use zeroize::Zeroizing;

use super::{Failure, Job, Outcome};
use crate::{
    ids::random_uuid,
    objects, pki,
    read::TOKEN_ID_LABEL,
    vault::{SecretValues, VaultError},
};

/// Annotation of a machine's SSH host key Secret with the public half, by which `ashlar ssh` pins it.
pub(crate) const SSH_PUBLIC_KEY_ANNOTATION: &str = "ashlar.dev/ssh-host-public-key";
/// The value's name in a join token's Secret.
pub(super) const TOKEN: &str = "token";
/// The values' names in an SSH host key's Secret, as the node's own file is called.
const SSH_HOST_KEY: &str = "ssh_host_ed25519_key";
const SSH_HOST_PUBLIC_KEY: &str = "ssh_host_ed25519_key.pub";

/// Reads and opens a secret. Read afresh: an earlier step of this run may have made it.
pub(super) async fn open(job: Job<'_>, name: &NamespacedName) -> Result<SecretValues, Failure> {
    let secret = read(job, name)
        .await?
        .ok_or_else(|| Failure::NotNow(format!("secret {name} is not in the store (yet)")))?;
    Ok(job.engine.vault.open_secret(&secret)?)
}

pub(super) async fn read(job: Job<'_>, name: &NamespacedName) -> Result<Option<Secret>, Failure> {
    let name = ObjectRef::new(Kind::Secret, &name.namespace, &name.name);
    Ok(objects::read::<SecretSpec>(job.engine.store.as_ref(), &name).await?)
}

pub(super) async fn create_pki(job: Job<'_>, cluster: &NamespacedName) -> Outcome {
    let name = names::pki_secret(cluster);
    if read(job, &name).await?.is_some() {
        return Ok(());
    }
    let Some(object) = job.snapshot.clusters.get(cluster) else {
        return Err(Failure::NotNow(format!("cluster {cluster} is not in the store any more")));
    };
    if object.record.initialized {
        return Err(Failure::Blocked {
            reason: "PkiLost",
            message: format!(
                "cluster {cluster} was initialized and its secret {name} is gone: new CAs would not be the cluster's. \
                 Restore the store from a copy"
            ),
        });
    }
    let now = job.engine.world.clock.now();
    let owner = owner(Kind::Cluster, &cluster.name, object.metadata.uid);
    let purpose = SecretPurpose::ClusterPki { cluster: cluster.name.clone() };
    // The cluster must not have become initialized, or deleted, meanwhile.
    let check = (object.object_ref(), object.metadata.resource_version.as_str());
    let new = NewSecret { name, purpose, owner, values: pki::create(now)?, ..NewSecret::default() };
    create(job, new, Some(check)).await
}

pub(super) async fn create_join_token(job: Job<'_>, machine: &NamespacedName) -> Outcome {
    let object = job.machine(machine)?;
    let token = pki::join_token(job.engine.world.entropy.as_ref());
    let full = Zeroizing::new(token.full().as_bytes().to_vec());
    let new = NewSecret {
        name: names::join_secret(machine),
        purpose: SecretPurpose::JoinToken { machine: machine.name.clone() },
        owner: machine_owner(object),
        values: BTreeMap::from([(TOKEN.to_owned(), full)]),
        labels: BTreeMap::from([(TOKEN_ID_LABEL.to_owned(), token.id)]),
        annotations: BTreeMap::new(),
    };
    create(job, new, None).await
}

pub(super) async fn create_ssh_host_key(job: Job<'_>, machine: &NamespacedName) -> Outcome {
    let object = job.machine(machine)?;
    let key = pki::ssh_host_key(job.engine.world.entropy.as_ref())?;
    let public = key.public.clone();
    let new = NewSecret {
        name: names::ssh_secret(machine),
        purpose: SecretPurpose::MachineSshHostKey { machine: machine.name.clone() },
        owner: machine_owner(object),
        values: BTreeMap::from([
            (SSH_HOST_KEY.to_owned(), Zeroizing::new(key.private.as_bytes().to_vec())),
            (SSH_HOST_PUBLIC_KEY.to_owned(), Zeroizing::new(public.clone().into_bytes())),
        ]),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([(SSH_PUBLIC_KEY_ANNOTATION.to_owned(), public)]),
    };
    create(job, new, None).await
}

struct NewSecret {
    name: NamespacedName,
    purpose: SecretPurpose,
    owner: Option<OwnerReference>,
    values: SecretValues,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Default for NewSecret {
    fn default() -> Self {
        NewSecret {
            name: NamespacedName::new("", ""),
            purpose: SecretPurpose::JoinToken { machine: String::new() },
            owner: None,
            values: SecretValues::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// Seals and stores a secret unless there is one: the first one made counts.
async fn create(job: Job<'_>, new: NewSecret, check: Option<(ObjectRef, &str)>) -> Outcome {
    let world = &job.engine.world;
    let spec = job.engine.vault.seal(&new.name, new.purpose, &new.values, world.entropy.as_ref())?;
    let mut secret = Secret::new(&new.name.name, spec);
    secret.metadata.namespace.clone_from(&new.name.namespace);
    secret.metadata.uid = Some(random_uuid(world.entropy.as_ref()));
    secret.metadata.generation = 1;
    secret.metadata.creation_timestamp = Some(world.clock.now());
    secret.metadata.labels = new.labels;
    secret.metadata.annotations = new.annotations;
    secret.metadata.owner_references = new.owner.into_iter().collect();
    let key = objects::key_of(&secret.object_ref());
    let value = objects::to_stored(Object::from(secret))?;
    let mut transaction = Transaction::new().put(key, value, Precondition::Absent);
    if let Some((object, version)) = check {
        transaction = transaction.check(objects::key_of(&object), objects::unchanged_since(version)?);
    }
    match job.engine.store.commit(transaction).await {
        Ok(_) => Ok(()),
        // Whoever was first counts.
        Err(error) if error.is_conflict() && read(job, &new.name).await?.is_some() => Ok(()),
        Err(error) if error.is_conflict() => {
            Err(Failure::NotNow("the store changed meanwhile; the next pass sees how".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

fn owner(kind: Kind, name: &str, uid: Option<uuid::Uuid>) -> Option<OwnerReference> {
    uid.map(|uid| OwnerReference { kind, name: name.to_owned(), uid })
}

fn machine_owner(machine: &Machine) -> Option<OwnerReference> {
    owner(Kind::Machine, &machine.metadata.name, machine.metadata.uid)
}

/// A value of an opened secret as text.
pub(super) fn text(
    name: &NamespacedName,
    values: &SecretValues,
    key: &str,
) -> Result<Zeroizing<String>, VaultError> {
    let missing = || VaultError::Missing { secret: name.to_string(), value: key.to_owned() };
    let bytes = values.get(key).ok_or_else(missing)?;
    std::str::from_utf8(bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| missing())
}
