//! Members of etcd: when a control plane may come, and how one goes.
//!
//! The rules are those of the Kubernetes project's own control-plane controller (Cluster API's KubeadmControlPlane):
//! one change at a time, none while anything is not healthy, an unhealthy member goes before its replacement comes, a
//! healthy one after.

use ashlar_api::*;

use super::chain::{Chain, block, wait};
use super::context::ClusterContext;
use super::host_view::{DomainView, HostViews};
use crate::etcd::{Change, Etcd, is_living};
use crate::{
    Action, ClusterSeen, DomainState, EtcdMember, EtcdSeen, Guard, StepState, elsewhere, health, network,
};

/// Whether the machine may have, or may yet get, a member that has to leave before the machine goes.
fn may_have_member(context: &ClusterContext<'_>, machine: &Machine) -> bool {
    machine.spec.role == MachineRole::ControlPlane
        && machine.record.first_started_at.is_some()
        && !machine.record.left_etcd
        && !machine.record.disks_only
        && is_living(context.cluster)
}

/// Whether the disks of a control plane that goes may be overwritten. Before that it is on record that it has left etcd: where
/// that is not heard later on, it would be started again as the vote that may lack, from what had been its disks.
pub(super) fn may_be_overwritten(context: &ClusterContext<'_>, machine: &Machine) -> Result<(), StepState> {
    // What is recorded only now may yet be lost.
    let read = context.draft.snapshot.machines.get(&machine.key());
    if read.is_none_or(|read| !may_have_member(context, read)) {
        return Ok(());
    }
    Err(wait("EarlierStep", "it is on record first that it has left etcd".to_owned()))
}

fn etcd<'d>(context: &ClusterContext<'d>) -> Result<Etcd<'d>, StepState> {
    if context.is_stopped() {
        let name = context.key();
        return Err(wait(
            "ClusterStopped",
            format!("{name} is stopped: nobody can leave its etcd before it is started again"),
        ));
    }
    Etcd::of(context.draft.snapshot, &context.key()).map_err(StepState::Waiting)
}

/// Those that stay and have joined.
fn staying<'c>(context: &'c ClusterContext<'_>) -> impl Iterator<Item = &'c Machine> + Clone {
    context.machines.iter().copied().filter(|machine| {
        machine.spec.role == MachineRole::ControlPlane
            && !machine.metadata.is_deleting()
            && machine.record.failure.is_none()
            && machine.record.joined_at.is_some()
    })
}

/// A control plane whose join is under way.
fn joining<'c>(context: &'c ClusterContext<'_>) -> Option<&'c Machine> {
    context.machines.iter().copied().find(|machine| {
        machine.spec.role == MachineRole::ControlPlane
            && machine.spec.bootstrap == Bootstrap::Join
            && !machine.metadata.is_deleting()
            && machine.record.failure.is_none()
            && machine.record.first_started_at.is_some()
            && machine.record.joined_at.is_none()
    })
}

/// Holds unless all that stay are healthy voters with Ready nodes.
fn all_healthy(context: &ClusterContext<'_>, etcd: Etcd<'_>) -> Result<(), StepState> {
    if !Guard::Quorum.stands() {
        return Ok(());
    }
    for machine in staying(context) {
        let name = machine.key();
        let ailment = match etcd.member_of(machine) {
            None => Some("it is no member of etcd".to_owned()),
            Some(member) if member.is_learner => Some("it has no vote in etcd yet".to_owned()),
            Some(member) => etcd.ailment(member).map(|why| format!("its etcd: {why}")),
        };
        let ailment =
            ailment.or_else(|| match context.draft.snapshot.observed.clusters.get(&context.key()) {
                Some(ClusterSeen::Seen(world)) => match world.nodes.get(&machine.spec.node.name) {
                    None => Some("it has no node".to_owned()),
                    Some(node) if !node.ready && machine.spec.node.cni != Cni::None => {
                        Some(format!("its node is not Ready: {}", node.message))
                    }
                    Some(node) => health::silence(context.draft.snapshot, world, node)
                        .map(|since| format!("its kubelet has not renewed its lease since {since}")),
                },
                _ => Some("the API does not answer".to_owned()),
            });
        if let Some(ailment) = ailment {
            return Err(wait(
                "ControlPlaneNotHealthy",
                format!(
                    "{name} has to be healthy first ({ailment}): mend it, or delete it to have another made"
                ),
            ));
        }
    }
    Ok(())
}

fn no_strangers(context: &ClusterContext<'_>, etcd: Etcd<'_>) -> Result<(), StepState> {
    match etcd.stranger(&context.machines) {
        None => Ok(()),
        Some(member) => Err(block(
            "UnknownEtcdMember",
            format!(
                "etcd of {} has the member `{}` ({}), which belongs to none of its machines: find out whose it is, and remove it with `etcdctl member remove {:x}` if it is nobody's",
                context.key(),
                member.name,
                member.peer_urls.join(", "),
                member.id
            ),
        )),
    }
}

/// Whether a control plane may begin to join.
pub(super) fn may_join(context: &ClusterContext<'_>, machine: &Machine) -> Result<(), StepState> {
    // One that has begun may be half in: only going on, or its end, makes that whole.
    if machine.record.first_started_at.is_some() {
        return Ok(());
    }
    context.api()?;
    context.is_prepared()?;
    let one_at_a_time = |other: &Machine| {
        Err(wait("OneAtATime", format!("control planes join one at a time: {} is first", other.object_ref())))
    };
    let is_open = |other: &&Machine| {
        other.record.joined_at.is_none()
            && other.record.failure.is_none()
            && !other.metadata.is_deleting()
            && other.key() != machine.key()
    };
    if Guard::OneJoinAtATime.stands()
        && let Some(other) = context
            .control_planes()
            .find(|other| is_open(other) && other.record.first_started_at.is_some())
            .or_else(|| {
                context.control_planes().take_while(|other| other.key() != machine.key()).find(is_open)
            })
    {
        return one_at_a_time(other);
    }
    let etcd = etcd(context)?;
    no_strangers(context, etcd)?;
    for other in context.control_planes().filter(|other| other.metadata.is_deleting()) {
        if let Some(member) = etcd.member_of(other)
            && (member.is_learner || leaves_first(etcd, other, member))
        {
            return Err(wait(
                "FormerMember",
                format!(
                    "{} leaves etcd first: it is not healthy, and goes before another comes",
                    other.object_ref()
                ),
            ));
        }
    }
    if let Some(learner) = etcd.learner().filter(|_| Guard::OneJoinAtATime.stands()) {
        let name = if learner.name.is_empty() { learner.peer_urls.join(", ") } else { learner.name.clone() };
        return Err(wait("Learner", format!("etcd has the learner {name}, which has to be gone first")));
    }
    all_healthy(context, etcd)?;
    etcd.allows(Change::Add).map_err(|message| wait("EtcdQuorum", message))
}

/// Whether a voter that goes has to be gone before another comes. One whose first boot failed and whose etcd works stays
/// until then if the others are no majority: it may be the only one.
fn leaves_first(etcd: Etcd<'_>, machine: &Machine, member: &EtcdMember) -> bool {
    etcd.ailment(member).is_some()
        || is_sick(etcd, machine, member) && etcd.allows(Change::Remove(member.id)).is_ok()
}

/// Whether a machine's member is to be replaced as one that does not work.
fn is_sick(etcd: Etcd<'_>, machine: &Machine, member: &EtcdMember) -> bool {
    machine.record.joined_at.is_none() || machine.record.failure.is_some() || etcd.ailment(member).is_some()
}

/// Whether a control plane that is being deleted may begin to go: a healthy one is not drained before another has taken
/// its place.
pub(super) fn may_go(context: &ClusterContext<'_>, machine: &Machine) -> Result<(), StepState> {
    if !may_have_member(context, machine) {
        return Ok(());
    }
    let etcd = etcd(context)?;
    match etcd.member_of(machine).filter(|member| !member.is_learner) {
        Some(member) => may_leave(context, etcd, machine, (member, is_sick(etcd, machine, member))),
        None => Ok(()),
    }
}

/// Steps by which a control plane that is being deleted leaves etcd; holds what comes after until it has.
pub(super) fn leave(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if !may_have_member(context, machine) {
        return;
    }
    let key = machine.key();
    let remove = Action::RemoveEtcdMember { machine: key.clone() };
    let etcd = match etcd(context) {
        Ok(etcd) => etcd,
        Err(hold) => {
            chain.hold(hold);
            chain.push_elsewhere(remove, "take it out of etcd, if it is still a member");
            return;
        }
    };
    let Some(member) = etcd.member_of(machine) else {
        // Members that are nobody's: this may be another etcd, and not the one that would miss it.
        if let Err(hold) = no_strangers(context, etcd) {
            chain.hold(hold);
        }
        return;
    };
    if member.is_learner {
        if Guard::LearnerCleanup.stands() {
            chain.push_elsewhere(remove, "take it out of etcd, where it has no vote yet");
        }
        return;
    }
    let sick = is_sick(etcd, machine, member);
    if let Err(hold) = may_leave(context, etcd, machine, (member, sick)) {
        chain.hold(hold);
    }
    if etcd.leader() == Some(member.id) {
        // The newest of the healthy: it is the least likely to be the next that goes.
        let heir = staying(context)
            .filter(|other| {
                etcd.member_of(other)
                    .is_some_and(|member| !member.is_learner && etcd.ailment(member).is_none())
            })
            .last();
        match heir {
            Some(heir) => chain.push_elsewhere(
                Action::MoveEtcdLeader { machine: key, to: heir.key() },
                format!(
                    "give etcd's leadership to {} first, so that no write waits for an election",
                    heir.key()
                ),
            ),
            None => chain.wait_for("NoHeir", "no other control plane is healthy enough to lead etcd"),
        }
    }
    let why = if sick { "take it out of etcd: it is not healthy" } else { "take it out of etcd" };
    chain.push_elsewhere(remove, why);
}

/// The power of a control plane that cannot leave etcd yet: off while its cluster is stopped, and on again where etcd
/// lacks a majority, which may be this one's vote. Without one nobody can leave, and it least of all.
pub(super) fn while_it_votes(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    if !may_have_member(context, machine) {
        return;
    }
    let view = |machine: &Machine| hosts.get(&machine.spec.host);
    let Ok(own) = view(machine) else { return };
    let snapshot = context.draft.snapshot;
    let domain = match own.domain(snapshot.installation, machine) {
        Ok(DomainView::Ours(domain)) => Some(domain),
        Ok(DomainView::Absent) => None,
        Err(_) => return,
    };
    let state = domain.map(|domain| domain.state);
    if context.is_stopped() {
        return super::power::stop(context, machine, chain, state);
    }
    let went_away = domain.is_some_and(|here| elsewhere::went_away(snapshot, machine, here).is_some());
    if went_away || elsewhere::rest(snapshot, machine).is_some() {
        return;
    }
    let is_off = matches!(state, None | Some(DomainState::ShutOff | DomainState::Crashed));
    let is_mute = matches!(
        context.draft.snapshot.observed.etcd.get(&context.key()),
        Some(EtcdSeen::Unreachable { .. })
    );
    // Where a host of theirs does not answer, that may be why nobody is heard.
    if is_off && is_mute && context.control_planes().all(|other| view(other).is_ok()) {
        if state.is_none() {
            super::joined::redefine(context, own, machine, chain);
        }
        super::boot::image_files(context, machine, chain);
        if let Err(hold) = network::ready(context.draft, machine) {
            chain.hold(hold);
        }
        chain.push(
            Action::StartDomain { machine: machine.key() },
            "start it again: etcd has no majority, and it may be what lacks; it goes once it has left etcd",
        );
    }
}

/// Whether a voter may go now.
fn may_leave(
    context: &ClusterContext<'_>,
    etcd: Etcd<'_>,
    machine: &Machine,
    (member, sick): (&EtcdMember, bool),
) -> Result<(), StepState> {
    no_strangers(context, etcd)?;
    if let Some(first) = first_to_leave(context, etcd).filter(|first| first.key() != machine.key()) {
        return Err(wait(
            "OneAtATime",
            format!("control planes leave one at a time: {} is first", first.object_ref()),
        ));
    }
    if let Some(other) = joining(context) {
        return Err(wait("OneAtATime", format!("{} joins first", other.object_ref())));
    }
    etcd.allows(Change::Remove(member.id)).map_err(|message| wait("EtcdQuorum", message))?;
    if sick {
        return Ok(());
    }
    let wanted = context.cluster.spec.control_plane.replicas;
    let there = u32::try_from(staying(context).count()).unwrap_or(u32::MAX);
    if there < wanted {
        return Err(wait(
            "ReplacementFirst",
            format!(
                "it is healthy, and goes when another has taken its place: {there} of {wanted} control planes that stay have joined"
            ),
        ));
    }
    // CoreDNS moves to the new version's nodes before the old ones go.
    context.is_prepared()?;
    all_healthy(context, etcd)
}

/// Of those that are being deleted and vote, the one that goes first: who is not healthy, then the lowest number.
fn first_to_leave<'c>(context: &'c ClusterContext<'_>, etcd: Etcd<'_>) -> Option<&'c Machine> {
    context
        .machines
        .iter()
        .copied()
        .filter(|machine| machine.spec.role == MachineRole::ControlPlane && machine.metadata.is_deleting())
        .filter_map(|machine| {
            let member = etcd.member_of(machine).filter(|member| !member.is_learner)?;
            Some((!is_sick(etcd, machine, member), machine))
        })
        .min_by_key(|(healthy, _)| *healthy)
        .map(|(_, machine)| machine)
}

/// A learner that a failed join left behind holds up every further join.
pub(super) fn clean_up(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if Guard::LearnerCleanup.stands()
        && may_have_member(context, machine)
        && let Ok(etcd) = etcd(context)
        && etcd.member_of(machine).is_some_and(|member| member.is_learner)
    {
        chain.push_elsewhere(
            Action::RemoveEtcdMember { machine: machine.key() },
            "take the learner out of etcd that its failed join left behind",
        );
    }
}

/// A node that joined and has no vote yet gets it.
pub(super) fn promote(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if may_have_member(context, machine)
        && let Ok(etcd) = etcd(context)
        && etcd.member_of(machine).is_some_and(|member| member.is_learner)
    {
        chain.push_elsewhere(
            Action::PromoteEtcdMember { machine: machine.key() },
            "give it its vote in etcd: it joined without one",
        );
    }
}
