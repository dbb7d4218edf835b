//! A machine with its volumes, decided to the last detail, in one commit with the ledgers that it claims from.

use std::collections::BTreeMap;

use ashlar_api::*;
use ipnet::Ipv4Net;

use super::{PoolTier, wiping};
use crate::bootstrap::kernel_arguments;
use crate::draft::{Draft, NetworkClaim, Unit, new_metadata, owner_reference};
use crate::explain::{PLACEMENT_ANNOTATION, verdict_lines};
use crate::place::{Request, SEED_MIB, image_files};
use crate::{Guard, Ids, names};

/// What is decided beside the host.
pub(super) struct NewMachine<'r> {
    pub(super) request: Request<'r>,
    pub(super) bootstrap: Bootstrap,
    pub(super) endpoint: AllocatedEndpoint,
    /// Labels and taints of the group.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
}

/// Creates the machine on the host. The caller adds its own writes (numbers, endpoint) to the unit and commits it.
/// None if the network has no address left.
pub(super) fn create(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    new: &NewMachine<'_>,
    host_name: &str,
) -> Option<Unit> {
    let request = &new.request;
    let key = &request.machine;
    let host = draft.hosts.get(&host_name.to_owned())?.clone();
    let on_host = request.pool.record.hosts.get(host_name)?.clone();
    let prefix_length = request.network.spec.cidrs.first()?.prefix_len();
    let accelerator = host.record.accelerator?;
    let address = tier.addresses.take(request.network, &names::machine_ref(key))?;
    let address = Ipv4Net::new(address, prefix_length).ok()?;
    let purpose = |what: &str| format!("machine/{}/{}/{what}", key.namespace, key.name);
    let mac = tier.addresses.take_mac(ids, &purpose("mac"));

    let mut unit = Unit::default();
    let binding = tier.fleet(draft).claim(draft, request, host_name);
    let image_volumes = ensure_image_volumes(draft, ids, &mut unit, request, host_name, &on_host);

    let uid = ids.uuid(&purpose("uid"));
    let now = draft.snapshot.now;
    let volumes = machine_volumes(request);
    let cluster = &request.cluster.spec;
    let network = request.network;
    let spec = MachineSpec {
        cluster: request.cluster.metadata.name.clone(),
        role: request.role,
        group: request.group.to_owned(),
        class: request.class.metadata.name.clone(),
        bootstrap: new.bootstrap,
        host: host_name.to_owned(),
        domain: DomainIdentity { uuid: ids.uuid(&purpose("domain")), name: request.domain_name.clone() },
        vcpus: request.class.spec.vcpus,
        memory: request.class.spec.memory,
        cpu_policy: request.class.spec.cpu_policy,
        shared_cpus: binding.shared_cpus,
        hugepages: request.class.spec.hugepages,
        numa: binding.numa,
        accelerator,
        machine_type: host.record.machine_type.clone(),
        virtual_time: cluster.virtual_time,
        image: machine_image(request.image, accelerator, &image_volumes),
        nics: vec![Nic {
            network: network.metadata.name.clone(),
            bridge: crate::network::bridge(network),
            mac,
            address,
            gateway: network.spec.gateway,
            dns: network.spec.dns.clone(),
            mtu: network.spec.mtu(),
            vlan: network
                .spec
                .attachment
                .vlan
                .as_ref()
                .map(|vlan| NicVlan { tag: vlan.tag, open_vswitch: vlan.open_vswitch }),
        }],
        volumes: volumes
            .iter()
            .map(|(role, ..)| MachineVolume { name: names::machine_volume(&key.name, *role), role: *role })
            .collect(),
        node: node_config(draft, new, &host, uid, accelerator),
    };
    let mut machine = Machine::new(&key.name, spec);
    machine.metadata = new_metadata(key, uid, now, Some(owner_reference(request.cluster)));
    if let Some(placement) =
        draft.report.placements.last().filter(|placement| placement.machine == names::machine_ref(key))
    {
        let why = verdict_lines(placement, RECORDED_HOSTS).join("\n");
        machine.metadata.annotations.insert(PLACEMENT_ANNOTATION.to_owned(), why);
    }
    machine.metadata.labels.insert(CLUSTER_LABEL.to_owned(), request.cluster.metadata.name.clone());

    for (role, format, capacity) in volumes {
        let name = names::machine_volume(&key.name, role);
        let file_id = ids.uuid(&purpose(&format!("{}-file", role.serial())));
        let backing = image_volumes
            .get(&ImagePart::Disk)
            .filter(|_| role == MachineVolumeRole::Root)
            .map(|volume| volume.name.clone());
        let mut volume = Volume::new(
            &name,
            VolumeSpec {
                host: host_name.to_owned(),
                pool: request.pool.metadata.name.clone(),
                pool_uuid: on_host.uuid,
                pool_path: on_host.path.clone(),
                file_name: names::machine_volume_file(&key.name, role, file_id),
                format,
                capacity,
                content: VolumeContent::MachineDisk { machine: key.name.clone(), role, backing },
                reclaim: ReclaimPolicy::Delete,
            },
        );
        volume.record.wipe = wiping::is_asked(request.cluster, role);
        let volume_uid = ids.uuid(&purpose(&format!("{}-uid", role.serial())));
        let volume_key = NamespacedName::new(&key.namespace, name);
        volume.metadata = new_metadata(&volume_key, volume_uid, now, Some(owner_reference(&machine)));
        unit.create(volume.clone());
        draft.volumes.insert(volume_key, volume);
    }

    unit.create(machine.clone());
    draft.put_machine(machine);
    bump_host(draft, &mut unit, host);
    bump_networks(draft, &mut unit, network, host_name);
    unit.check(request.image.object_ref(), &request.image.metadata.resource_version);
    unit.check(request.class.object_ref(), &request.class.metadata.resource_version);
    Some(unit)
}

/// Hosts whose verdicts are kept with a machine: it travels in its domain's metadata too.
pub(super) const RECORDED_HOSTS: usize = 10;

/// Label of machines with their cluster.
pub const CLUSTER_LABEL: &str = "ashlar.dev/cluster";

fn machine_volumes(request: &Request<'_>) -> Vec<(MachineVolumeRole, VolumeFormat, Mebibytes)> {
    let class = &request.class.spec;
    let mut volumes = vec![(MachineVolumeRole::Root, VolumeFormat::Qcow2, class.root_disk)];
    if request.role == MachineRole::ControlPlane {
        volumes.push((MachineVolumeRole::Etcd, VolumeFormat::Raw, class.etcd_disk));
    }
    volumes.push((MachineVolumeRole::Seed, VolumeFormat::Iso, Mebibytes(SEED_MIB)));
    volumes
}

fn machine_image(
    image: &Image,
    accelerator: Accelerator,
    volumes: &BTreeMap<ImagePart, NamespacedName>,
) -> MachineImage {
    let volume = |part| volumes.get(&part).map(|key| key.name.clone()).unwrap_or_default();
    let own = image.spec.command_line.trim();
    let more = kernel_arguments(accelerator);
    MachineImage {
        name: image.metadata.name.clone(),
        digest: image.spec.digest.clone(),
        kubernetes_version: image.spec.kubernetes_version.clone(),
        tags: image.spec.tags.clone(),
        command_line: if more.is_empty() { own.to_owned() } else { format!("{own} {more}") },
        disk_volume: volume(ImagePart::Disk),
        kernel_volume: volume(ImagePart::Kernel),
        initrd_volume: volume(ImagePart::Initrd),
    }
}

fn node_config(
    draft: &Draft<'_>,
    new: &NewMachine<'_>,
    host: &Host,
    uid: uuid::Uuid,
    accelerator: Accelerator,
) -> NodeConfig {
    let request = &new.request;
    let cluster = &request.cluster.spec;
    let mut labels = new.labels.clone();
    labels.insert("node.kubernetes.io/instance-type".to_owned(), request.class.metadata.name.clone());
    if !host.spec.zone.is_empty() {
        labels.insert("topology.kubernetes.io/zone".to_owned(), host.spec.zone.clone());
    }
    if !host.spec.rack.is_empty() {
        labels.insert("topology.ashlar.dev/rack".to_owned(), host.spec.rack.clone());
    }
    // What kubeadm's add-ons choose nodes by whose image holds theirs.
    if request.cluster.record.upgraded {
        labels.insert(names::VERSION_LABEL.to_owned(), request.image.spec.kubernetes_version.clone());
    }
    NodeConfig {
        name: request.machine.name.clone(),
        provider_id: names::provider_id(draft.snapshot.installation, uid),
        endpoint: new.endpoint.clone(),
        extra_sans: cluster.endpoint.extra_sans.clone(),
        pod_cidr: cluster.pod_cidr,
        service_cidr: cluster.service_cidr,
        dns_domain: cluster.dns_domain.clone(),
        cni: cluster.cni,
        labels,
        taints: new.taints.clone(),
        ssh_authorized_keys: cluster.ssh_authorized_keys.clone(),
        ntp_servers: cluster.ntp_servers.clone(),
        startup_timeout_s: cluster.node_startup_timeout_s.unwrap_or(match accelerator {
            Accelerator::Kvm => 600,
            Accelerator::Emulated => 1800,
        }),
    }
}

/// Volumes with the image's files on the host: found, or decided now.
pub(super) fn ensure_image_volumes(
    draft: &mut Draft<'_>,
    ids: &mut dyn Ids,
    unit: &mut Unit,
    request: &Request<'_>,
    host: &str,
    on_host: &PoolOnHost,
) -> BTreeMap<ImagePart, NamespacedName> {
    let image = request.image;
    let mut volumes = BTreeMap::new();
    for (part, file, mib) in image_files(image) {
        let key = names::image_volume(&image.spec.digest, host, part);
        volumes.insert(part, key.clone());
        if let Some(present) = draft.volumes.get(&key) {
            // Whoever decides at the same time that it is of no use any more conflicts with this commit.
            if present.record.unused_since.is_some() {
                let mut claimed = present.clone();
                claimed.record.unused_since = None;
                unit.update(claimed.clone());
                draft.volumes.insert(key, claimed);
            } else if !present.metadata.resource_version.is_empty() {
                unit.check(present.object_ref(), &present.metadata.resource_version);
            }
            continue;
        }
        let purpose = |what: &str| format!("image/{}/{host}/{part:?}/{what}", image.spec.digest);
        let file_name = names::image_volume_file(&image.spec.digest, part, ids.uuid(&purpose("file")));
        let mut volume = Volume::new(
            &key.name,
            VolumeSpec {
                host: host.to_owned(),
                pool: request.pool.metadata.name.clone(),
                pool_uuid: on_host.uuid,
                pool_path: on_host.path.clone(),
                file_name,
                format: if part == ImagePart::Disk { VolumeFormat::Qcow2 } else { VolumeFormat::Raw },
                capacity: Mebibytes(mib),
                content: VolumeContent::ImageFile {
                    image: image.metadata.name.clone(),
                    digest: image.spec.digest.clone(),
                    part,
                    sha256: file.sha256.clone(),
                    size_bytes: file.size_bytes,
                },
                reclaim: ReclaimPolicy::Delete,
            },
        );
        volume.metadata = new_metadata(&key, ids.uuid(&purpose("uid")), draft.snapshot.now, None);
        unit.create(volume.clone());
        draft.volumes.insert(key, volume);
    }
    volumes
}

/// Every claim bumps its host's ledger, so that two planners conflict instead of overfilling it.
pub(super) fn bump_host(draft: &mut Draft<'_>, unit: &mut Unit, mut host: Host) {
    if !Guard::Ledger.stands() {
        return;
    }
    host.record.ledger_sequence += 1;
    unit.update(host.clone());
    draft.hosts.insert(host.metadata.name.clone(), host);
}

/// Every address bumps the ledgers of all networks of its broadcast domain. The host is recorded with the network that
/// it will carry, before anything is made there.
pub(super) fn bump_networks(draft: &mut Draft<'_>, unit: &mut Unit, network: &Network, host: &str) {
    for name in draft.segments.get(&network.segment()).into_iter().flatten() {
        let own = *name == network.metadata.name;
        let claim = NetworkClaim { network: name.clone(), host: own.then(|| host.to_owned()) };
        if let Some(network) = draft.networks.get_mut(name) {
            if !Guard::Ledger.stands() && (!own || network.record.hosts.contains(host)) {
                continue;
            }
            claim.apply(network);
            unit.claim(claim);
        }
    }
}
