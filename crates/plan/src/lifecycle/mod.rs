//! The pool tier: from clusters and groups to machines and volumes that leave no choice open.

mod ailments;
mod api_use;
mod cluster;
mod control_plane;
mod create;
mod elsewhere;
mod facts;
mod groups;
mod image_files;
mod in_place;
mod leases;
mod leftovers;
mod migration;
mod notices;
mod remediation;
mod removal;
mod replicas;
mod rolling;
mod upgrade;
mod wiping;

use std::collections::BTreeSet;

use ashlar_api::*;

use crate::address::Addresses;
use crate::draft::{Draft, cluster_of};
use crate::place::Fleet;
use crate::{Ids, PlanError, fencing};

pub use create::CLUSTER_LABEL;
pub(crate) use image_files::in_use as image_files_in_use;
pub(crate) use leftovers::REMEMBERED as LEFTOVERS_REMEMBERED;
pub(crate) use migration::MOVE_ALIVE;
pub(crate) use removal::{left_behind, member_may_be_left, node_may_be_left};
pub(crate) use rolling::ROLLOUT_GOES_ON;
pub(crate) use wiping::{is_disks_only, is_due as is_wiping_due};

/// What has been given out, with the claims of this plan.
struct PoolTier {
    addresses: Addresses,
    /// Made when the first machine looks for a host: most passes place none.
    fleet: Option<Fleet>,
}

impl PoolTier {
    fn fleet(&mut self, draft: &Draft<'_>) -> &mut Fleet {
        self.fleet.get_or_insert_with(|| Fleet::new(draft, None))
    }
}

/// Makes all decisions that can be made now.
pub(crate) fn decide(draft: &mut Draft<'_>, ids: &mut dyn Ids) -> Result<(), PlanError> {
    check_consistency(draft)?;
    let mut tier = PoolTier { addresses: Addresses::new(draft.snapshot)?, fleet: None };
    facts::record(draft);
    leases::record(draft);
    fencing::record(draft);
    ailments::record(draft);
    facts::forget_lost_files(draft);
    wiping::record(draft);
    migration::settle(draft);
    elsewhere::record(draft);
    leftovers::rename_half_made(draft, ids);
    leftovers::forget(draft);
    leftovers::forget_domains(draft);
    removal::cascade(draft);
    removal::remove(draft);
    groups::note_orphans(draft);
    let living: Vec<NamespacedName> = draft
        .clusters
        .iter()
        .filter(|(_, cluster)| !cluster.metadata.is_deleting())
        .map(|(key, _)| key.clone())
        .collect();
    for key in &living {
        draft.end_commit();
        decide_cluster(draft, &mut tier, ids, key);
    }
    image_files::retire(draft);
    Ok(())
}

fn decide_cluster(draft: &mut Draft<'_>, tier: &mut PoolTier, ids: &mut dyn Ids, key: &NamespacedName) {
    let Some(cluster) = draft.clusters.get(key).cloned() else { return };
    groups::ensure_inline(draft, ids, &cluster);
    let Some(parts) = cluster::parts(draft, tier, &cluster) else { return };
    remediation::of_cluster(draft, key, parts.image);
    migration::of_cluster(draft, tier, ids, key, parts);
    // What a control plane lacks is said there; workers of a cluster that has an endpoint go on without.
    let _ = control_plane::control_plane(draft, tier, ids, key, parts);
    for group in draft.groups_of(key) {
        let deleting = draft.groups.get(&group).is_none_or(|group| group.metadata.is_deleting());
        if !deleting {
            in_place::nodes(draft, &group, key);
            let _ = replicas::workers(draft, tier, ids, &group, key, parts);
        }
    }
    notices::of_cluster(draft, key);
}

/// Keeps the object in the store until what it stands for is proved gone.
fn ensure_finalizer(metadata: &mut ObjectMeta) {
    if !metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        metadata.finalizers.push(FINALIZER.to_owned());
    }
}

/// A store that contradicts itself was edited or restored by hand: nothing good can be planned from it.
fn check_consistency(draft: &Draft<'_>) -> Result<(), PlanError> {
    let mut domains = BTreeSet::new();
    let mut uids = BTreeSet::new();
    for machine in draft.snapshot.machines.values() {
        let name = machine.object_ref();
        let cluster = cluster_of(machine);
        if !draft.snapshot.clusters.contains_key(&cluster) {
            return Err(PlanError::Inconsistent(format!(
                "{name} belongs to cluster {cluster}, which is not there"
            )));
        }
        if !domains.insert(machine.spec.domain.uuid) {
            return Err(PlanError::Inconsistent(format!("{name} has the domain UUID of another machine")));
        }
        let Some(uid) = machine.metadata.uid else {
            return Err(PlanError::Inconsistent(format!("{name} has no uid")));
        };
        if !uids.insert(uid) {
            return Err(PlanError::Inconsistent(format!("{name} has the uid of another machine")));
        }
    }
    let mut files = BTreeSet::new();
    for volume in draft.snapshot.volumes.values() {
        if !files.insert((volume.spec.pool_uuid, &volume.spec.file_name, &volume.spec.host)) {
            return Err(PlanError::Inconsistent(format!(
                "{} has the file {} of another volume",
                volume.object_ref(),
                volume.spec.file_name
            )));
        }
    }
    Ok(())
}
