//! An upgrade begins: what has to hold before, and the one commit that records that it did.

use ashlar_api::*;

use super::control_plane;
use super::{PoolTier, api_use, cluster::Parts, replicas, wiping};
use crate::draft::Draft;
use crate::draft::Unit;
use crate::etcd::{Etcd, is_living};
use crate::machine::{block, wait};
use crate::place::{self, Request};
use crate::{ClusterSeen, NoteKind, StepState, lost};

/// The image for new machines: the wanted one once the upgrade has begun, until then the recorded one.
pub(super) fn begin<'s>(
    draft: &mut Draft<'s>,
    tier: &mut PoolTier,
    cluster: &Cluster,
    (recorded, network): (&'s Image, &'s Network),
    wanted: Result<&'s Image, String>,
) -> &'s Image {
    let about = cluster.object_ref();
    let why = format!("upgrade to Kubernetes {}", cluster.spec.kubernetes_version);
    if cluster.spec.paused {
        draft.note(
            about,
            NoteKind::Notice,
            "Paused",
            format!("{why}: does not begin before `ashlar cluster resume {}`", cluster.metadata.name),
        );
        return recorded;
    }
    let key = cluster.key();
    let verdict = versions(draft, cluster)
        .and_then(|()| wanted.map_err(|message| block("NoImage", message)))
        .and_then(|image| health(draft, cluster).map(|()| image))
        .and_then(|image| api_use::judge(draft, cluster).map(|()| image))
        .and_then(|image| surge(draft, tier, cluster, Parts { image, network }).map(|()| image));
    let image = match verdict {
        Ok(image) => image,
        Err(state) => {
            draft.hold(about, why, state);
            return recorded;
        }
    };
    let Some(mut changed) = draft.clusters.get(&key).cloned() else { return recorded };
    changed.record.image = image.metadata.name.clone();
    changed.record.upgraded |= recorded.spec.kubernetes_version != image.spec.kubernetes_version;
    draft.note(
        about,
        NoteKind::Notice,
        "UpgradeBegins",
        format!(
            "from {} to {}: control planes first, one by one, then each worker group; all that is asked for before it begins was seen",
            recorded.spec.kubernetes_version, image.spec.kubernetes_version
        ),
    );
    let mut unit = Unit::default();
    unit.update(changed.clone());
    unit.check(image.object_ref(), &image.metadata.resource_version);
    draft.clusters.insert(key, changed);
    draft.commit(unit);
    image
}

fn versions(draft: &Draft<'_>, cluster: &Cluster) -> Result<(), StepState> {
    let machines = draft.machines_of(&cluster.key());
    let of = |role| {
        machines
            .iter()
            .filter(move |machine| machine.spec.role == role)
            .map(|machine| machine.spec.image.kubernetes_version.as_str())
    };
    let problem = upgrade::upgrade_problem(
        of(MachineRole::ControlPlane),
        of(MachineRole::Worker),
        &cluster.spec.kubernetes_version,
    );
    problem.map_or(Ok(()), |message| Err(block("VersionRefused", message)))
}

/// Everything works, and nothing else is under way.
fn health(draft: &Draft<'_>, cluster: &Cluster) -> Result<(), StepState> {
    let key = cluster.key();
    if cluster.record.stopped {
        let message = format!("it is stopped: `ashlar cluster start {}` first", cluster.metadata.name);
        return Err(block("ClusterStopped", message));
    }
    if !is_living(cluster) {
        return Err(wait("NotInitialized", "its first control plane is not up yet"));
    }
    let world = match draft.snapshot.observed.clusters.get(&key) {
        Some(ClusterSeen::Seen(world)) => world,
        Some(ClusterSeen::Unreachable { reason }) => {
            return Err(wait("ApiNotAnswering", format!("its API does not answer: {reason}")));
        }
        Some(ClusterSeen::NotOurs { reason }) => {
            let lost = lost::api_of_another(cluster, reason);
            return Err(wait(lost.reason, lost.message));
        }
        None => return Err(wait("ApiNotAnswering", "its API was not asked yet")),
    };
    for machine in draft.machines_of(&key) {
        let name = machine.key();
        if wiping::is_past(draft, machine) {
            continue;
        }
        if machine.metadata.is_deleting() {
            return Err(wait("MachinesChanging", format!("{name} goes first")));
        }
        if let Some(failure) = &machine.record.failure {
            return Err(block(
                "MachineFailed",
                format!("{name} failed, and goes first: {}", failure.message),
            ));
        }
        if machine.record.joined_at.is_none() {
            return Err(wait("MachinesChanging", format!("{name} joins first")));
        }
        if machine.record.migration.is_some() {
            return Err(wait("MachinesChanging", format!("{name} is moved to another host first")));
        }
        if let Some(ailment) = super::rolling::node_ailment(draft.snapshot, world, machine) {
            return Err(wait("NodeNotHealthy", format!("{name} has to be healthy first: {ailment}")));
        }
    }
    // One member alone is not asked: it lives as long as the API does that stands on it.
    if control_plane::members(draft, &key).len() == 1 && !draft.snapshot.observed.etcd.contains_key(&key) {
        return Ok(());
    }
    let etcd = Etcd::of(draft.snapshot, &key).map_err(StepState::Waiting)?;
    if let Some(sick) = etcd.sick() {
        return Err(wait("EtcdNotHealthy", format!("etcd has to be healthy first: {sick}")));
    }
    Ok(())
}

/// Whether there is room for the one machine more that each of the steps has.
fn surge(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    cluster: &Cluster,
    parts: Parts<'_>,
) -> Result<(), StepState> {
    let key = cluster.key();
    let control_planes = control_plane::members(draft, &key);
    // The first that goes may leave its host to its successor.
    let hosts = control_planes.iter().skip(1).map(|machine| machine.spec.host.clone()).collect();
    let class = &cluster.spec.control_plane.class;
    one_more(draft, tier, cluster, parts, (MachineRole::ControlPlane, "", class), hosts)?;
    for group in draft.groups_of(&key) {
        let Some(group) = draft.groups.get(&group).cloned() else { continue };
        let has_machines =
            draft.machines_of(&key).iter().any(|machine| machine.spec.group == group.metadata.name);
        if has_machines && group.spec.rollout.max_surge > 0 {
            let what = (MachineRole::Worker, group.metadata.name.as_str(), group.spec.class.as_str());
            one_more(draft, tier, cluster, parts, what, Vec::new())?;
        }
    }
    Ok(())
}

fn one_more(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    cluster: &Cluster,
    parts: Parts<'_>,
    (role, group, class): (MachineRole, &str, &str),
    control_plane_hosts: Vec<String>,
) -> Result<(), StepState> {
    let who = if group.is_empty() { "the control plane".to_owned() } else { format!("group {group}") };
    let class = draft
        .snapshot
        .classes
        .get(class)
        .ok_or_else(|| block("NoSuchClass", format!("machine class {class} of {who} does not exist")))?;
    if class.spec.root_disk < parts.image.spec.virtual_size {
        return Err(block(
            "RootDiskTooSmall",
            format!(
                "machine class {} has a root disk of {}, image {} needs {}: enlarge rootDisk",
                class.metadata.name,
                class.spec.root_disk,
                parts.image.metadata.name,
                parts.image.spec.virtual_size
            ),
        ));
    }
    let pool = place::pool_of(draft.snapshot, class).map_err(|message| block("NoStoragePool", message))?;
    let mut request = Request {
        machine: cluster.key(),
        domain_name: String::new(),
        cluster,
        role,
        group,
        class,
        image: parts.image,
        network: parts.network,
        pool,
        control_plane_hosts,
        own_domain: None,
        moves: None,
    };
    let prefix = match role {
        MachineRole::ControlPlane => format!("{}-{}", cluster.metadata.name, names::CONTROL_PLANE_GROUP),
        MachineRole::Worker => group.to_owned(),
    };
    // A replacement's number: those use the room that is kept for the lost.
    replicas::name(&mut request, &cluster.key(), &prefix, u32::MAX);
    let fleet = tier.fleet(draft);
    let saved = fleet.save();
    let placement = place::place(draft, fleet, &request);
    let help = placement.host.is_none().then(|| place::what_would_help(fleet, &request, &placement.verdicts));
    fleet.undo(saved);
    match help {
        None => Ok(()),
        Some(help) => {
            let less = match role {
                MachineRole::ControlPlane => "",
                MachineRole::Worker => {
                    " (or `rollout: {maxSurge: 0, maxUnavailable: 1}` in the group, to have one less meanwhile)"
                }
            };
            Err(block(
                "NoSurgeCapacity",
                format!(
                    "{who} needs room for one machine more of class {} while the others are replaced{less}: {help}",
                    class.metadata.name
                ),
            ))
        }
    }
}
