//! Members of etcd: in, out, and who leads.
//!
//! What the plan was made from may be seconds old, and in those a member may have died. So each change begins with
//! fresh answers of all members, and is only made if it still leaves a majority.

use std::collections::BTreeMap;

use ashlar_api::{Machine, MachineRole, NamespacedName};
use ashlar_plan::{EtcdMember, EtcdStatus, Guard, names};

use super::{Failure, Job, Outcome, fine_if_gone, secret};
use crate::effects::EtcdTarget;

/// etcd as it is right now.
struct Fresh {
    cluster: NamespacedName,
    /// Who answered that there is a leader, and is asked on.
    speaker: EtcdTarget,
    members: Vec<EtcdMember>,
    /// What each node said, if anything.
    statuses: BTreeMap<String, Option<EtcdStatus>>,
}

impl Fresh {
    fn member_of(&self, machine: &Machine) -> Option<&EtcdMember> {
        self.members.iter().find(|member| member.is_of(machine))
    }

    fn is_healthy(&self, member: &EtcdMember) -> bool {
        let status = self.statuses.get(&member.name).and_then(Option::as_ref);
        status.is_some_and(|status| status.ailment_as(member).is_none())
    }
}

fn cluster_of(machine: &Machine) -> NamespacedName {
    NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

/// Asks all members; those who stay are spoken to rather than `machine` itself, which is about to change.
async fn look(job: Job<'_>, machine: &Machine) -> Result<Fresh, Failure> {
    let cluster = cluster_of(machine);
    let name = names::pki_secret(&cluster);
    let pki = secret::read(job, &name)
        .await?
        .ok_or_else(|| Failure::NotNow(format!("secret {name} is not in the store")))?;
    let mut statuses = BTreeMap::new();
    let mut speakers = Vec::new();
    let others = job.snapshot.machines.values().filter(|other| {
        other.spec.role == MachineRole::ControlPlane
            && cluster_of(other) == cluster
            && other.record.first_started_at.is_some()
    });
    for other in others {
        let Some(target) = job.engine.etcd_target(job.snapshot, &pki, other)? else { continue };
        let node = other.spec.node.name.clone();
        let what = format!("asking the etcd of {node}");
        // One that cannot be asked counts as not healthy.
        let status = match job.observe(&what, job.engine.world.etcd.status(&target)).await {
            Ok(status) => Some(status),
            Err(Failure::Effect(_)) => None,
            Err(failure) => return Err(failure),
        };
        if let Some(status) = status.as_ref().filter(|status| status.leader.is_some() && !status.is_learner) {
            let rank = (other.key() == machine.key(), other.metadata.is_deleting());
            let leads = status.leader == Some(status.member_id);
            speakers.push(((rank, !leads), target));
        }
        statuses.insert(node, status);
    }
    speakers.sort_by_key(|(rank, _)| *rank);
    let speaker = speakers.into_iter().map(|(_, target)| target).next().ok_or_else(|| {
        Failure::NotNow(format!("no member of the etcd of {cluster} answers and knows a leader"))
    })?;
    let what = format!("asking the etcd of {cluster} for its members");
    let members = job.observe(&what, job.engine.world.etcd.members(&speaker)).await?;
    Ok(Fresh { cluster, speaker, members, statuses })
}

pub(super) async fn remove(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let fresh = look(job, machine).await?;
    let Some(member) = fresh.member_of(machine) else { return Ok(()) };
    if !member.is_learner {
        let staying = fresh.members.iter().filter(|other| !other.is_learner && other.id != member.id);
        let (voters, healthy) = staying.fold((0, 0), |(voters, healthy), other| {
            (voters + 1, healthy + usize::from(fresh.is_healthy(other)))
        });
        let majority = voters / 2 + 1;
        if healthy < majority && Guard::Quorum.stands() {
            return Err(Failure::NotNow(format!(
                "without {name} the etcd of {} would have {voters} voters, of which {healthy} are healthy and {majority} are needed",
                fresh.cluster
            )));
        }
    }
    let what = format!("taking {name} out of the etcd of {}", fresh.cluster);
    fine_if_gone(job.call(&what, job.engine.world.etcd.remove_member(&fresh.speaker, member.id)).await)
}

pub(super) async fn promote(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let fresh = look(job, machine).await?;
    match fresh.member_of(machine) {
        Some(member) if member.is_learner => {
            let what = format!("giving {name} its vote in the etcd of {}", fresh.cluster);
            job.call(&what, job.engine.world.etcd.promote_member(&fresh.speaker, member.id)).await
        }
        _ => Ok(()),
    }
}

pub(super) async fn move_leader(job: Job<'_>, name: &NamespacedName, to: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let fresh = look(job, machine).await?;
    let member = fresh.member_of(machine);
    let leader = fresh.statuses.values().flatten().find_map(|status| status.leader);
    let leads = member.is_some_and(|member| leader == Some(member.id));
    if !leads {
        return Ok(());
    }
    let heir = fresh
        .member_of(job.machine(to)?)
        .filter(|heir| !heir.is_learner && fresh.is_healthy(heir))
        .ok_or_else(|| Failure::NotNow(format!("{to} is not healthy enough to lead etcd")))?;
    let pki = names::pki_secret(&fresh.cluster);
    let pki = secret::read(job, &pki)
        .await?
        .ok_or_else(|| Failure::NotNow(format!("secret {pki} is not in the store")))?;
    // Only the leader itself can give leadership away.
    let target = job
        .engine
        .etcd_target(job.snapshot, &pki, machine)?
        .ok_or_else(|| Failure::NotNow(format!("machine {name} has no address")))?;
    let what = format!("giving the leadership of the etcd of {} to {to}", fresh.cluster);
    job.call(&what, job.engine.world.etcd.move_leader(&target, heir.id)).await
}

/// Right before a control plane of a living cluster is turned off for good: it must be out of etcd. Between the plan
/// and now a join may have brought it in, and turning off one of two voters would end the cluster.
pub(super) async fn ensure_out(job: Job<'_>, machine: &Machine) -> Outcome {
    let cluster = job.snapshot.clusters.get(&cluster_of(machine));
    let has_etcd = cluster.is_some_and(|cluster| {
        cluster.record.initialized && !cluster.metadata.is_deleting() && !cluster.record.stopped
    });
    if !has_etcd
        || machine.spec.role != MachineRole::ControlPlane
        || machine.record.first_started_at.is_none()
        || !machine.metadata.is_deleting()
    {
        return Ok(());
    }
    let fresh = look(job, machine).await?;
    let machines = || job.snapshot.machines.values().filter(|other| cluster_of(other) == fresh.cluster);
    let is_strange = |member: &&EtcdMember| !machines().any(|machine| member.is_of(machine));
    match fresh.member_of(machine) {
        None => match fresh.members.iter().find(is_strange) {
            None => Ok(()),
            Some(member) => Err(Failure::NotNow(format!(
                "the etcd of {} tells of a member `{}` that is nobody's: it may be another etcd than that of {}",
                fresh.cluster,
                member.name,
                machine.key()
            ))),
        },
        Some(_) => Err(Failure::NotNow(format!(
            "{} is a member of the etcd of {}: it is taken out first",
            machine.key(),
            fresh.cluster
        ))),
    }
}
