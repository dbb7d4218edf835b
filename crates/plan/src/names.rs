//! How things are called. Names are derived, never looked up, so that a crash leaves nothing that could not be found.

use ashlar_api::{
    DEFAULT_NAMESPACE, ImagePart, Kind, MachineVolumeRole, NamespacedName, ObjectRef, SYSTEM_NAMESPACE,
};
use uuid::Uuid;

/// Annotation on a Cluster whose `record.stopped` is set: machines are turned off hard (`cluster stop --force`).
pub const FORCE_STOP_ANNOTATION: &str = "ashlar.dev/force-stop";

/// Label of nodes that came with or after an upgrade: the Kubernetes version whose images they hold.
pub const VERSION_LABEL: &str = "ashlar.dev/kubernetes-version";

/// Secret with a cluster's CAs.
pub fn pki_secret(cluster: &NamespacedName) -> NamespacedName {
    NamespacedName::new(&cluster.namespace, format!("{}-pki", cluster.name))
}

/// Secret with a machine's join token.
pub fn join_secret(machine: &NamespacedName) -> NamespacedName {
    NamespacedName::new(&machine.namespace, format!("{}-join", machine.name))
}

/// What a join token's description says, for people and for [`machine_of_token`].
pub fn token_description(machine: &NamespacedName) -> String {
    format!("{TOKEN_DESCRIPTION}{}", machine.name)
}

/// The machine, in its cluster's namespace, for whose join a token was published; none if it is not Ashlar's.
pub fn machine_of_token(description: &str) -> Option<&str> {
    description.strip_prefix(TOKEN_DESCRIPTION)
}

const TOKEN_DESCRIPTION: &str = "Ashlar: join of machine ";

/// Secret with a machine's SSH host key.
pub fn ssh_secret(machine: &NamespacedName) -> NamespacedName {
    NamespacedName::new(&machine.namespace, format!("{}-ssh", machine.name))
}

/// libvirt's name of a machine's domain.
pub fn domain(machine: &NamespacedName) -> String {
    if machine.namespace == DEFAULT_NAMESPACE {
        machine.name.clone()
    } else {
        format!("{}--{}", machine.namespace, machine.name)
    }
}

/// Volume object of a machine.
pub fn machine_volume(machine: &str, role: MachineVolumeRole) -> String {
    format!("{machine}-{}", role.serial())
}

/// Name of the volume that a machine gets on the host that it moves to. With the file's UUID: the one that it has on the host
/// that it leaves is in the store beside it.
pub fn moved_volume(machine: &str, role: MachineVolumeRole, file: Uuid) -> String {
    format!("{machine}-{}-{file}", role.serial())
}

/// File of a machine's volume. virt-aa-helper refuses other endings.
pub fn machine_volume_file(machine: &str, role: MachineVolumeRole, uuid: Uuid) -> String {
    let ending = match role {
        MachineVolumeRole::Root => "qcow2",
        MachineVolumeRole::Etcd => "raw",
        MachineVolumeRole::Seed => "iso",
    };
    format!("ashlar-{machine}-{}-{uuid}.{ending}", role.serial())
}

/// Whether a file is, or was, a machine's seed.
pub fn is_seed_file(file: &str, machine: &str) -> bool {
    let id = file.strip_prefix(&format!("ashlar-{machine}-{}-", MachineVolumeRole::Seed.serial()));
    id.and_then(|id| id.strip_suffix(".iso")).is_some_and(|id| Uuid::try_parse(id).is_ok())
}

/// The name of a file that takes the place of another one: the same with another UUID.
pub fn another_file(file: &str, uuid: Uuid) -> String {
    let (stem, ending) = file.rsplit_once('.').unwrap_or((file, "raw"));
    let stem = stem.len().checked_sub(uuid.hyphenated().to_string().len() + 1).map_or(stem, |at| &stem[..at]);
    format!("{stem}-{uuid}.{ending}")
}

/// Volume object of a file that a call without an answer may still make.
pub fn leftover(file: &str) -> NamespacedName {
    NamespacedName::new(SYSTEM_NAMESPACE, format!("left-{}", file.replace('.', "-")))
}

fn part_name(part: ImagePart) -> &'static str {
    match part {
        ImagePart::Disk => "disk",
        ImagePart::Kernel => "kernel",
        ImagePart::Initrd => "initrd",
    }
}

/// The first twelve hex digits of an image's digest.
pub fn short_digest(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// Volume object of an image's file on a host.
pub fn image_volume(digest: &str, host: &str, part: ImagePart) -> NamespacedName {
    NamespacedName::new(
        SYSTEM_NAMESPACE,
        format!("image-{}-{host}-{}", short_digest(digest), part_name(part)),
    )
}

/// File of an image's volume.
pub fn image_volume_file(digest: &str, part: ImagePart, uuid: Uuid) -> String {
    let ending = if part == ImagePart::Disk { "qcow2" } else { "raw" };
    format!("ashlar-{}-{}-{uuid}.{ending}", short_digest(digest), part_name(part))
}

/// A node's provider id.
pub fn provider_id(installation: Uuid, machine_uid: Uuid) -> String {
    format!("ashlar://{installation}/{machine_uid}")
}

/// The number at the end of a machine's name; names without one come first.
pub fn machine_number(name: &str) -> u32 {
    let digits = name.rfind('-').map_or(name, |at| &name[at + 1..]);
    digits.parse().unwrap_or(0)
}

/// A machine's reference.
pub fn machine_ref(machine: &NamespacedName) -> ObjectRef {
    ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name)
}

/// A cluster's reference.
pub fn cluster_ref(cluster: &NamespacedName) -> ObjectRef {
    ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name)
}
