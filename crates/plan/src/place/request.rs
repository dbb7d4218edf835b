//! What a machine needs of a host.

use ashlar_api::*;

use crate::Snapshot;

/// Capacity of a seed: user data, certificates and add-on texts are some tens of KiB.
pub(crate) const SEED_MIB: u64 = 4;

/// A machine that looks for a host, with all that it refers to.
#[derive(Clone)]
pub(crate) struct Request<'r> {
    pub(crate) machine: NamespacedName,
    pub(crate) domain_name: String,
    pub(crate) cluster: &'r Cluster,
    pub(crate) role: MachineRole,
    pub(crate) group: &'r str,
    pub(crate) class: &'r MachineClass,
    pub(crate) image: &'r Image,
    pub(crate) network: &'r Network,
    pub(crate) pool: &'r StoragePool,
    /// Hosts of the cluster's other control planes.
    pub(crate) control_plane_hosts: Vec<String>,
    /// The machine's own domain, if it is there already and only asks again.
    pub(crate) own_domain: Option<uuid::Uuid>,
    /// The machine itself, if it is to be moved alive from the host that it is on.
    pub(crate) moves: Option<&'r Machine>,
}

impl Request<'_> {
    /// Capacity of the machine's own volumes.
    pub(crate) fn disks_mib(&self) -> u64 {
        self.class.spec.root_disk.0 + self.etcd_mib() + SEED_MIB
    }

    /// Capacity of etcd's own disk.
    pub(crate) fn etcd_mib(&self) -> u64 {
        if self.role == MachineRole::ControlPlane { self.class.spec.etcd_disk.0 } else { 0 }
    }
}

/// The pool of a class; one that names none gets the pool `default`, else the only one there is.
pub(crate) fn pool_of<'s>(snapshot: &'s Snapshot, class: &MachineClass) -> Result<&'s StoragePool, String> {
    let wanted = class.spec.storage_pool.as_str();
    let class = &class.metadata.name;
    if !wanted.is_empty() {
        return snapshot.pools.get(wanted).ok_or_else(|| {
            format!("machine class {class} names storage pool {wanted}, which does not exist: create it or name another")
        });
    }
    if let Some(pool) = snapshot.pools.get("default") {
        return Ok(pool);
    }
    let mut all = snapshot.pools.values();
    match (all.next(), all.next()) {
        (Some(pool), None) => Ok(pool),
        (None, _) => {
            Err("there is no storage pool: enrol a host with one (`ashlar host add --pool`)".to_owned())
        }
        (Some(_), Some(_)) => Err(format!(
            "machine class {class} names no storage pool, and there is none called default: name one in the class"
        )),
    }
}

/// An image's files with what they take in a pool.
pub(crate) fn image_files(image: &Image) -> impl Iterator<Item = (ImagePart, &ImageFile, u64)> {
    [
        (ImagePart::Disk, image.spec.disk.as_ref()),
        (ImagePart::Kernel, Some(&image.spec.kernel)),
        (ImagePart::Initrd, Some(&image.spec.initrd)),
    ]
    .into_iter()
    .filter_map(|(part, file)| file.map(|file| (part, file, file.size_bytes.div_ceil(1024 * 1024))))
}
