//! No step is ready before what it stands on is there: seen, recorded, or made by an earlier ready step of its object.

use std::collections::BTreeSet;

use ashlar_api::*;

use super::{Findings, Projected};
use crate::{Action, Guard, HostSeen, NetworksSeen, Plan, Snapshot, StepState, names};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    let mut before: BTreeSet<(&ObjectRef, &Action)> = BTreeSet::new();
    for step in &plan.steps {
        let Some(action) = step.action.as_ref().filter(|_| step.state == StepState::Ready) else {
            if step.state == StepState::Ready {
                findings.add("Precondition", &step.object, "a step is ready and has nothing to do");
            }
            continue;
        };
        let made = |action: Action| before.contains(&(&step.object, &action));
        if !step.host.is_empty()
            && !matches!(snapshot.observed.hosts.get(&step.host), Some(HostSeen::Seen(_)))
        {
            findings.add("Precondition", &step.object, format!("host {} was not seen", step.host));
        }
        match action {
            Action::CreateVolume { volume } => {
                if let Some(volume) = projected.volumes.get(volume)
                    && let VolumeContent::MachineDisk { backing: Some(backing), .. } = &volume.spec.content
                    && !is_filled(projected, backing)
                {
                    findings.add("Precondition", &step.object, format!("{backing} is not filled yet"));
                }
            }
            Action::FillVolume { volume } => {
                let owner = projected.volumes.get(volume).and_then(|volume| projected.owner_of(volume));
                if let Some(machine) = owner {
                    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
                    if !snapshot.secrets.contains_key(&names::pki_secret(&cluster)) {
                        findings.add("Precondition", &step.object, "its cluster has no certificates yet");
                    }
                }
            }
            Action::DefineDomain { machine } => {
                if let Some(machine) = projected.machines.get(machine) {
                    let image = &machine.spec.image;
                    for name in [&image.kernel_volume, &image.initrd_volume] {
                        if !is_filled(projected, name) {
                            findings.add("Precondition", &step.object, format!("{name} is not filled yet"));
                        }
                    }
                }
            }
            Action::RedefineDomain { machine } => {
                let is_ours = projected.machines.get(machine).is_some_and(|machine| {
                    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else {
                        return false;
                    };
                    let domain = world.domains.get(&machine.spec.domain.uuid);
                    domain.and_then(|domain| domain.mark.as_ref()).is_some_and(|mark| {
                        mark.installation == snapshot.installation
                            && Some(mark.machine_uid) == machine.metadata.uid
                    })
                });
                if !is_ours {
                    findings.add("Identity", &step.object, "a domain is defined again that is not its own");
                }
            }
            Action::StartDomain { machine } => {
                if let Some(machine) = projected.machines.get(machine) {
                    let image = &machine.spec.image;
                    for name in [&image.disk_volume, &image.kernel_volume, &image.initrd_volume] {
                        if !is_filled(projected, name) {
                            findings.add("Precondition", &step.object, format!("{name} is not filled yet"));
                        }
                    }
                }
                let defined = projected.machines.get(machine).is_some_and(|machine| {
                    match snapshot.observed.hosts.get(&machine.spec.host) {
                        Some(HostSeen::Seen(world)) => world.domains.contains_key(&machine.spec.domain.uuid),
                        _ => false,
                    }
                });
                if !defined && !made(Action::DefineDomain { machine: machine.clone() }) {
                    findings.add("Precondition", &step.object, "its domain is not defined");
                }
                if let Some(machine) = projected.machines.get(machine)
                    && !is_filtered(snapshot, machine)
                    && Guard::NetworkFilter.stands()
                {
                    findings.add("Filter", &step.object, "its taps would come up without their filter");
                }
            }
            _ => {}
        }
        // The only one that is asked for.
        if matches!(action, Action::DefineDomain { .. }) {
            before.insert((&step.object, action));
        }
    }
}

/// Whether every interface has a filter on the host that was seen intact.
fn is_filtered(snapshot: &Snapshot, machine: &Machine) -> bool {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else { return false };
    let NetworksSeen::Seen { networks, .. } = &world.networks else { return false };
    machine.spec.nics.iter().all(|nic| {
        networks.values().filter(|network| network.intact).filter_map(|network| network.applied.as_ref()).any(
            |network| {
                network.name == nic.network && network.taps.values().any(|filter| filter.mac == nic.mac)
            },
        )
    })
}

fn is_filled(projected: &Projected<'_>, image_volume: &str) -> bool {
    projected
        .volumes
        .get(&NamespacedName::new(SYSTEM_NAMESPACE, image_volume))
        .is_some_and(|volume| volume.record.filled)
}
