//! References by name, and what an object wants of those that it refers to.

use super::World;
use crate::expand::{ObjectMap, inline_groups};
use crate::host_uri::HostUri;
use crate::names::{quoted, some_of};
use crate::validate::{Report, class, parse_version, syntax, syntax::overlap};
use crate::{Cluster, Host, Kind, MachineClass, Network, Object, StoragePool, WorkerGroup};

fn refer(
    report: &mut Report<'_>,
    world: &World<'_>,
    path: &str,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> bool {
    // An empty name was reported as such.
    if name.is_empty() {
        return false;
    }
    match world.refer(kind, namespace, name) {
        Ok(()) => true,
        Err(message) => {
            report.add(path, message);
            false
        }
    }
}

fn refer_hosts(report: &mut Report<'_>, world: &World<'_>, path: &str, hosts: &[String]) {
    for (index, host) in hosts.iter().enumerate() {
        refer(report, world, &format!("{path}[{index}]"), Kind::Host, "", host);
    }
}

pub(super) fn host(report: &mut Report<'_>, world: &World<'_>, host: &Host) {
    let Ok(uri) = host.spec.uri.parse::<HostUri>() else { return };
    let own = host.object_ref();
    for other in world.hosts().filter(|other| world.is_reported_at(&own, &other.object_ref())) {
        // Another user on the same address and port is the same machine all the same.
        let is_same = other
            .spec
            .uri
            .parse::<HostUri>()
            .is_ok_and(|other| other.address == uri.address && other.port == uri.port);
        if is_same {
            let message =
                format!("is the address of host {} too: its capacity would count twice", other.metadata.name);
            report.add("spec.uri", message);
        }
    }
}

/// One BMC belongs to one host: to turn off the wrong one, and to take its word for the other's, is the worst that can
/// happen there.
pub(super) fn bmc(report: &mut Report<'_>, world: &World<'_>, host: &Host) {
    let bmc = |host: &Host| {
        let ipmi = host.spec.fencing.as_ref()?.ipmi.as_ref()?;
        Some((ipmi.address.to_ascii_lowercase(), ipmi.port))
    };
    let Some(own) = bmc(host) else { return };
    let name = host.object_ref();
    for other in world.hosts().filter(|other| world.is_reported_at(&name, &other.object_ref())) {
        if bmc(other).as_ref() == Some(&own) {
            let message = format!(
                "is the BMC of host {} too: to fence one of them would turn off the other",
                other.metadata.name
            );
            report.add("spec.fencing.ipmi.address", message);
        }
    }
}

/// Whether two lists of hosts have one in common; an empty list means all.
fn share_hosts(a: &[String], b: &[String]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|host| b.contains(host))
}

pub(super) fn pool(report: &mut Report<'_>, world: &World<'_>, pool: &StoragePool) {
    refer_hosts(report, world, "spec.hosts", &pool.spec.hosts);
    let own = pool.object_ref();
    for other in world.pools().filter(|other| world.is_reported_at(&own, &other.object_ref())) {
        if other.spec.libvirt_name == pool.spec.libvirt_name
            && share_hosts(&other.spec.hosts, &pool.spec.hosts)
        {
            let message =
                format!("is storagepool {} too: its capacity would count twice", other.metadata.name);
            report.add("spec.libvirtName", message);
        }
    }
}

pub(super) fn network(report: &mut Report<'_>, world: &World<'_>, network: &Network) {
    refer_hosts(report, world, "spec.attachment.hosts", &network.spec.attachment.hosts);
    let spec = &network.spec;
    let own = network.object_ref();
    for other in world.networks().filter(|other| world.is_reported_at(&own, &other.object_ref())) {
        if !share_hosts(&spec.attachment.hosts, &other.spec.attachment.hosts) {
            continue;
        }
        if let (Some(a), Some(b)) = (&spec.attachment.vxlan, &other.spec.attachment.vxlan)
            && a.vni == b.vni
        {
            let message = format!(
                "{} is the VNI of network {} too: the two would be one; choose another",
                a.vni, other.metadata.name
            );
            report.add("spec.attachment.vxlan.vni", message);
        }
        let segment = network.segment();
        if segment != other.segment() {
            continue;
        }
        for cidr in &spec.cidrs {
            for theirs in other.spec.cidrs.iter().filter(|theirs| overlap(**theirs, *cidr) && *theirs != cidr)
            {
                let message = format!(
                    "{cidr} overlaps with {theirs} of network {} on the same bridge {segment}: write the same CIDR, or \
                     one that is apart",
                    other.metadata.name
                );
                report.add("spec.cidrs[0]", message);
            }
        }
        let name = &other.metadata.name;
        for (index, range) in spec.ranges.iter().enumerate() {
            if other.spec.ranges.iter().any(|o| o.first <= range.last && range.first <= o.last) {
                let message = format!(
                    "overlaps with a range of network {name} on the same bridge {segment}: addresses would be given twice"
                );
                report.add(format!("spec.ranges[{index}]"), message);
            }
        }
        let (ids, others) = (&spec.vrrp_ids, &other.spec.vrrp_ids);
        if ids.first <= others.last && others.first <= ids.last {
            let message = format!(
                "{} to {} overlaps with {} to {} of network {name} on the same bridge {segment}: two clusters would fight for \
                 one VRRP id; give each network a part of its own, as 1 to 127 and 128 to 255",
                ids.first, ids.last, others.first, others.last
            );
            report.add("spec.vrrpIds", message);
        }
    }
}

pub(super) fn class(report: &mut Report<'_>, world: &World<'_>, class: &MachineClass) {
    refer(report, world, "spec.storagePool", Kind::StoragePool, "", &class.spec.storage_pool);
    let name = &class.metadata.name;
    for cluster in world.other_clusters() {
        let is_control_plane = cluster.spec.control_plane.class == *name;
        let is_worker = world.groups().any(|group| {
            group.spec.class == *name
                && group.spec.cluster == cluster.metadata.name
                && group.metadata.namespace == cluster.metadata.namespace
        });
        let mut problems = Vec::new();
        if is_control_plane {
            problems = class::control_plane_problems(name, &class.spec, cluster);
        }
        if is_control_plane || is_worker {
            problems.extend(class::machine_problems(name, &class.spec, cluster));
        }
        for problem in problems {
            report.add("spec", format!("cluster {} uses it: {problem}", cluster.key()));
        }
    }
}

pub(super) fn cluster(report: &mut Report<'_>, world: &World<'_>, existing: &ObjectMap, cluster: &Cluster) {
    let spec = &cluster.spec;
    refer(report, world, "spec.network", Kind::Network, "", &spec.network);
    let disk = image(report, world, cluster);
    use_class(report, world, cluster, "spec.controlPlane.class", &spec.control_plane.class, true, disk);
    for (index, (inline, object)) in spec.workers.iter().zip(inline_groups(cluster)).enumerate() {
        let path = format!("spec.workers[{index}]");
        use_class(report, world, cluster, &format!("{path}.class"), &inline.class, false, disk);
        // `a` with group `b-c` and `a-b` with group `c` mean the same object.
        if let Some(Object::WorkerGroup(stored)) = existing.get(&object.object_ref())
            && stored.spec.cluster != cluster.metadata.name
        {
            let message = format!(
                "workergroup {} belongs to cluster {}: choose another name",
                stored.key(),
                stored.spec.cluster
            );
            report.add(format!("{path}.name"), message);
        }
    }
}

/// Checks the image of a cluster; returns the largest root disk that it needs.
fn image(report: &mut Report<'_>, world: &World<'_>, cluster: &Cluster) -> Option<crate::Mebibytes> {
    let spec = &cluster.spec;
    let version = spec.kubernetes_version.as_str();
    if !spec.image.is_empty() {
        if !refer(report, world, "spec.image", Kind::Image, "", &spec.image) {
            return None;
        }
        let image = world.image("", &spec.image)?;
        if image.spec.kubernetes_version != version {
            let has = match image.spec.kubernetes_version.as_str() {
                "" => "no Kubernetes",
                other => other,
            };
            let message =
                format!("{} holds {has}, and spec.kubernetesVersion is {version}", quoted(&spec.image));
            report.add("spec.image", message);
        }
        return Some(image.spec.virtual_size);
    }
    // A malformed version was reported as such.
    if syntax::version_problem(version).is_some() {
        return None;
    }
    let sizes = world.images().filter(|image| image.spec.kubernetes_version == version);
    let size = sizes.map(|image| image.spec.virtual_size).min();
    if size.is_none() {
        let mut versions: Vec<&str> =
            world.images().map(|image| image.spec.kubernetes_version.as_str()).collect();
        versions.retain(|version| !version.is_empty());
        versions.sort_by_key(|version| parse_version(version));
        versions.dedup();
        let have = if versions.is_empty() {
            "there are no images yet".to_owned()
        } else {
            format!("there are images of {}", some_of(versions))
        };
        let message = format!(
            "there is no image of {version}: build one with `ashlar image build --kubernetes {version}` ({have})"
        );
        report.add("spec.kubernetesVersion", message);
    }
    size
}

fn use_class(
    report: &mut Report<'_>,
    world: &World<'_>,
    cluster: &Cluster,
    path: &str,
    name: &str,
    is_control_plane: bool,
    disk: Option<crate::Mebibytes>,
) {
    if !refer(report, world, path, Kind::MachineClass, "", name) {
        return;
    }
    let Some(class) = world.class("", name) else { return };
    if is_control_plane {
        for problem in class::control_plane_problems(name, &class.spec, cluster) {
            report.add(path, problem);
        }
    }
    report.check(path, class::machine_problems(name, &class.spec, cluster));
    if let Some(disk) = disk.filter(|disk| class.spec.root_disk < *disk) {
        let message =
            format!("class {name} has a root disk of {}, and the image needs {disk}", class.spec.root_disk);
        report.add(path, message);
    }
}

pub(super) fn worker_group(report: &mut Report<'_>, world: &World<'_>, group: &WorkerGroup) {
    let namespace = &group.metadata.namespace;
    let has_cluster = refer(report, world, "spec.cluster", Kind::Cluster, namespace, &group.spec.cluster);
    let cluster = world.cluster(namespace, &group.spec.cluster);
    match cluster.filter(|_| has_cluster) {
        Some(cluster) => {
            let images = world.images().filter(|image| match cluster.spec.image.as_str() {
                "" => image.spec.kubernetes_version == cluster.spec.kubernetes_version,
                name => image.metadata.name == name,
            });
            let disk = images.map(|image| image.spec.virtual_size).min();
            use_class(report, world, cluster, "spec.class", &group.spec.class, false, disk);
        }
        None => {
            refer(report, world, "spec.class", Kind::MachineClass, "", &group.spec.class);
        }
    }
}
