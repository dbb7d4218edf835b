//! The machine tier: what is left to do for each machine, volume and cluster, and what it waits for.

mod boot;
mod chain;
mod cluster;
mod context;
mod delete;
pub(crate) mod drain;
mod host_view;
mod image_files;
mod joined;
pub(crate) mod left_domains;
mod membership;
mod migration;
mod node;
pub(crate) mod out_of_service;
mod power;
mod serving;

use ashlar_api::*;

use crate::draft::Draft;
use crate::{Action, Block, Note, NoteKind, Step, StepState, Wait, elsewhere, fence, lost, names};

pub(crate) use chain::{Chain, block, wait};
use context::ClusterContext;
use host_view::HostViews;

/// All steps that are left: image files, then cluster by cluster.
pub(crate) fn steps(draft: &Draft<'_>) -> Vec<Step> {
    let hosts = HostViews::new(draft.snapshot);
    let mut steps = image_files::steps(draft, &hosts);
    // A machine that is being made has some ten, one that is there has none.
    steps.reserve(2 * draft.snapshot.machines.len());
    for cluster in draft.clusters.values() {
        let context = ClusterContext::new(draft, cluster);
        let mut chain = Chain::new(cluster.object_ref(), "");
        cluster::before(&context, &mut chain);
        steps.extend(chain.finish());
        for machine in &context.machines {
            steps.extend(machine_steps(&context, &hosts, machine));
        }
        steps.extend(serving::steps(&context));
        let mut chain = Chain::new(cluster.object_ref(), "");
        cluster::addons(&context, &mut chain);
        cluster::tokens(&context, &mut chain);
        steps.extend(chain.finish());
    }
    for held in &draft.held {
        let mut chain = Chain::new(held.object.clone(), "");
        chain.push_wait(held.what.clone(), held.state.clone());
        steps.extend(chain.finish());
    }
    // A stopped cluster is not made whole: that it lacks machines is no reason to wait.
    let is_stopped = |cluster| draft.clusters.get(cluster).is_some_and(|cluster| cluster.record.stopped);
    for machine in draft.pending.iter().filter(|machine| !is_stopped(&machine.cluster)) {
        let mut chain = Chain::new(names::machine_ref(&machine.machine), "");
        chain.push_wait(
            format!("{} gets a host", machine.machine),
            wait(&machine.reason, machine.message.clone()),
        );
        steps.extend(chain.finish());
    }
    steps.extend(orphan_volumes(draft, &hosts));
    steps
}

fn machine_steps(context: &ClusterContext<'_>, hosts: &HostViews<'_>, machine: &Machine) -> Vec<Step> {
    let mut chain = Chain::new(machine.object_ref(), &machine.spec.host);
    if machine.record.migration.is_some() {
        // Neither end is right while a third host has it.
        match elsewhere::of(context.draft.snapshot, machine) {
            Some(elsewhere) => {
                chain.push_wait(format!("see where {} is", machine.key()), elsewhere.hold(machine));
            }
            None => migration::steps(context, hosts, machine, &mut chain),
        }
    } else if machine.metadata.is_deleting() {
        delete::steps(context, hosts, machine, &mut chain);
    } else if machine.record.joined_at.is_some() {
        joined::steps(context, hosts, machine, &mut chain);
    } else {
        if context.is_stopped() {
            power::stop_unfinished(context, hosts, machine, &mut chain);
        } else {
            boot::steps(context, hosts, machine, &mut chain);
        }
    }
    chain.finish()
}

/// Volumes of machines that are gone from the store, with the recorded intent to delete them.
fn orphan_volumes(draft: &Draft<'_>, hosts: &HostViews<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for volume in draft.volumes.values().filter(|volume| volume.metadata.is_deleting()) {
        if fence::proof(draft.snapshot, &volume.spec.host).is_some() {
            continue;
        }
        let why = match &volume.spec.content {
            VolumeContent::ImageFile { .. } => continue,
            VolumeContent::MachineDisk { machine, .. } => {
                let owner = NamespacedName::new(&volume.metadata.namespace, machine);
                match draft.machines.get(&owner) {
                    Some(owner) if owner.volume_names().any(|name| name == volume.metadata.name) => continue,
                    Some(owner) => {
                        steps.extend(migration::left_volume(
                            draft,
                            hosts.get(&volume.spec.host),
                            owner,
                            volume,
                        ));
                        continue;
                    }
                    None => "its machine is gone".to_owned(),
                }
            }
            // Nothing waits for what may never be there.
            VolumeContent::Leftover { of } => {
                if !hosts.get(&volume.spec.host).is_ok_and(|view| matches!(view.volume(volume), Ok(Some(_))))
                {
                    continue;
                }
                format!("a call about volume {of} took effect after nobody waited for it any more")
            }
        };
        let mut chain = Chain::new(volume.object_ref(), &volume.spec.host);
        let path = volume.spec.path();
        let mut left = lost::left_on(draft.snapshot, &volume.spec.host);
        let left = left.find(|domain| domain.disk_paths.contains(&path));
        if let Some(domain) = left {
            chain.wait_for("DomainFirst", format!("what is left of {} there goes first", domain.name));
        }
        match hosts.get(&volume.spec.host).and_then(|view| {
            view.unused_by_others(volume, left.map_or(uuid::Uuid::nil(), |domain| domain.uuid))?;
            view.volume(volume)
        }) {
            Ok(None) => continue,
            Ok(Some(_)) => {}
            Err(hold) => chain.hold(hold),
        }
        delete::wipe(volume, None, &mut chain);
        let unwiped = delete::unwiped(volume);
        chain.push(
            Action::DeleteVolume { volume: volume.key() },
            format!("delete {}{unwiped}: {why}", volume.spec.path()),
        );
        steps.extend(chain.finish());
    }
    steps
}

/// What is waited for or blocked, as notes: one for each object, its first.
pub(crate) fn notes(steps: &[Step]) -> Vec<Note> {
    let mut notes = Vec::new();
    for step in steps {
        let (kind, reason, message) = match &step.state {
            StepState::Ready => continue,
            StepState::Waiting(Wait { reason, .. }) if reason == "EarlierStep" => continue,
            StepState::Waiting(Wait { reason, message }) => (NoteKind::Waiting, reason, message),
            StepState::Blocked(Block { reason, message }) => (NoteKind::Blocked, reason, message),
        };
        notes.push(Note {
            object: step.object.clone(),
            kind,
            reason: reason.clone(),
            message: message.clone(),
        });
    }
    notes
}
