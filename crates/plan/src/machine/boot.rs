//! From nothing to a node that joined.

use ashlar_api::*;
use jiff::SignedDuration;

use super::chain::{Chain, block, wait};
use super::context::ClusterContext;
use super::host_view::{DomainView, HostView, HostViews};
use crate::{Action, DomainState, Guard, StepState, elsewhere, lifecycle, names, network};

/// A published token that has less than this left is published anew, while its join runs.
const TOKEN_RENEWAL: SignedDuration = SignedDuration::from_mins(5);

/// Steps of a machine that has not joined yet.
pub(super) fn steps(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let key = machine.key();
    if let Some(failure) = &machine.record.failure {
        super::membership::clean_up(context, machine, chain);
        chain.push_wait(
            format!("first boot of {key} failed in phase {}", failure.phase),
            block("FirstBootFailed", failure.message.clone()),
        );
        return;
    }
    let started = machine.record.first_started_at.is_some();
    let view = match hosts.get(&machine.spec.host) {
        Ok(view) => Some(view),
        Err(hold) => {
            chain.hold(hold);
            None
        }
    };
    if started && view.is_none() {
        chain.push_wait(format!("see whether {key} runs"), wait("EarlierStep", ""));
        return;
    }
    if !started {
        secrets(context, machine, chain);
    }
    let domain = match view.map(|view| view.domain(context.draft.snapshot.installation, machine)) {
        Some(Ok(DomainView::Ours(domain))) => Some(domain),
        Some(Err(hold)) => {
            chain.push_wait(
                format!("domain {} on {} is its own", machine.spec.domain.name, machine.spec.host),
                hold,
            );
            None
        }
        Some(Ok(DomainView::Absent)) => {
            if let Some(hold) = elsewhere::unheard(context.draft.snapshot, machine) {
                chain.hold(hold);
            }
            None
        }
        None => None,
    };
    disks(context, view, machine, chain, started);
    seed(context, view, machine, chain);
    if domain.is_none() {
        for name in [&machine.spec.image.kernel_volume, &machine.spec.image.initrd_volume] {
            image_file(context, name, chain);
        }
        let name = &machine.spec.domain.name;
        chain.push(
            Action::DefineDomain { machine: key.clone() },
            format!("define domain {name}: {} vCPUs, {}", machine.spec.vcpus, machine.spec.memory),
        );
    }
    let state = domain.map(|domain| domain.state);
    start(context, machine, chain, state);
    token(context, machine, chain, state.is_some_and(DomainState::is_active));
    let boot = progress(context, machine);
    chain.push_wait(format!("node {} becomes Ready", machine.spec.node.name), boot);
    afterwards(machine, chain);
}

fn secrets(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    let key = machine.key();
    if !context.draft.has_secret(&names::ssh_secret(&key)) {
        chain.push_elsewhere(
            Action::CreateSshHostKey { machine: key.clone() },
            "make its SSH host key, so that it can be pinned before first boot",
        );
    }
    if machine.spec.bootstrap == Bootstrap::Join && !context.draft.has_secret(&names::join_secret(&key)) {
        chain.push_elsewhere(Action::CreateJoinToken { machine: key }, "make its own join token");
    }
}

fn disks(
    context: &ClusterContext<'_>,
    view: Option<&HostView<'_>>,
    machine: &Machine,
    chain: &mut Chain,
    started: bool,
) {
    for role in [MachineVolumeRole::Root, MachineVolumeRole::Etcd] {
        if machine.spec.volume(role).is_none() {
            continue;
        }
        let Some(volume) = context.volume(machine, role) else {
            chain.hold(missing_object(machine, role));
            continue;
        };
        match look(view, volume, machine) {
            Ok(File::Right) => continue,
            Ok(found) if started && Guard::UsedDisk.stands() => {
                let hold = if found == File::OtherSize { other_size } else { lost }(volume, machine);
                chain.push_wait(format!("its {} disk is there", role.serial()), hold);
                continue;
            }
            // A file of another size is one whose making was cut off: it is made anew, as it was never used.
            Ok(File::Absent | File::Vanished | File::OtherSize) => {}
            Err(hold) => chain.hold(hold),
        }
        let path = volume.spec.path();
        let why = match role {
            MachineVolumeRole::Root => {
                image_file(context, &machine.spec.image.disk_volume, chain);
                format!("create its root disk {path} ({}, over the image)", volume.spec.capacity)
            }
            _ => format!("create its etcd disk {path} ({}, raw)", volume.spec.capacity),
        };
        chain.push(Action::CreateVolume { volume: volume.key() }, why);
    }
}

/// What was seen of a volume's file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    Absent,
    /// Listed, and gone behind libvirt's back.
    Vanished,
    OtherSize,
    Right,
}

/// Looks for the volume's file; an error is a reason to hold.
pub(super) fn look(
    view: Option<&HostView<'_>>,
    volume: &Volume,
    machine: &Machine,
) -> Result<File, StepState> {
    let Some(view) = view else { return Ok(File::Absent) };
    view.unused_by_others(volume, machine.spec.domain.uuid)?;
    Ok(match view.volume(volume)? {
        None => File::Absent,
        Some(seen) if seen.capacity_bytes == 0 => File::Vanished,
        // What was uploaded has the size of its content; only disks have one of their own.
        Some(seen)
            if volume.spec.format != VolumeFormat::Iso
                && seen.capacity_bytes != volume.spec.capacity.bytes() =>
        {
            File::OtherSize
        }
        Some(_) => File::Right,
    })
}

/// A disk that was used and has another size is not the one that Ashlar made, or was resized by somebody.
pub(super) fn other_size(volume: &Volume, machine: &Machine) -> StepState {
    block(
        "VolumeSizeDiffers",
        format!(
            "{} of {} on {} has another size than the recorded {}: it is left alone; bring the right file back, or delete the machine",
            volume.spec.path(),
            machine.object_ref(),
            volume.spec.host,
            volume.spec.capacity
        ),
    )
}

/// A disk that was used is never made anew: that would be an empty one.
pub(super) fn lost(volume: &Volume, machine: &Machine) -> StepState {
    block(
        "VolumeMissing",
        format!(
            "{} of {} is gone from {}: its data is lost unless you bring the file back; delete the machine to give it up",
            volume.spec.path(),
            machine.object_ref(),
            volume.spec.host
        ),
    )
}

pub(super) fn missing_object(machine: &Machine, role: MachineVolumeRole) -> StepState {
    block(
        "VolumeMissing",
        format!(
            "the {} volume of {} is not in the store: the store was edited or restored by hand",
            role.serial(),
            machine.object_ref()
        ),
    )
}

/// Holds until all that a machine boots from is on the host and verified: a root disk over a base file that is lost,
/// or half uploaded again, would be written on as if the file were empty.
pub(super) fn image_files(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    let image = &machine.spec.image;
    for name in [&image.disk_volume, &image.kernel_volume, &image.initrd_volume] {
        image_file(context, name, chain);
    }
}

/// Holds until an image's file is on the host and verified.
fn image_file(context: &ClusterContext<'_>, name: &str, chain: &mut Chain) {
    if chain.is_held() {
        return;
    }
    let filled = context
        .draft
        .volumes
        .get(&NamespacedName::new(SYSTEM_NAMESPACE, name))
        .is_some_and(|volume| volume.record.filled);
    if !filled {
        chain.wait_for("ImageFile", format!("image file {name} is not on the host yet"));
    }
}

fn seed(context: &ClusterContext<'_>, view: Option<&HostView<'_>>, machine: &Machine, chain: &mut Chain) {
    let role = MachineVolumeRole::Seed;
    let Some(volume) = context.volume(machine, role) else {
        chain.hold(missing_object(machine, role));
        return;
    };
    match look(view, volume, machine) {
        Ok(File::Right | File::Vanished | File::OtherSize) => {}
        Ok(File::Absent) => chain.push(
            Action::CreateVolume { volume: volume.key() },
            format!("create its seed {}", volume.spec.path()),
        ),
        Err(hold) => chain.hold(hold),
    }
    if !volume.record.filled {
        let cluster = context.key();
        if !chain.is_held() && !context.draft.has_secret(&names::pki_secret(&cluster)) {
            chain.wait_for("ClusterPki", format!("the certificates of {cluster} are not made yet"));
        }
        chain.push(
            Action::FillVolume { volume: volume.key() },
            "write its seed: cloud-init and kubeadm configuration, certificates",
        );
    }
}

fn start(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain, state: Option<DomainState>) {
    match state {
        Some(DomainState::Running | DomainState::ShuttingDown) => return,
        Some(DomainState::Paused) => {
            chain.push_wait(format!("{} runs", machine.key()), paused(machine));
            return;
        }
        Some(DomainState::ShutOff | DomainState::Crashed) | None => {}
    }
    if context.is_stopped() {
        chain.wait_for("ClusterStopped", format!("{} is stopped", context.key()));
    }
    if !chain.is_held()
        && let Err(hold) = gate(context, machine)
    {
        chain.hold(hold);
    }
    if !chain.is_held()
        && let Err(hold) = network::ready(context.draft, machine)
        && Guard::NetworkFilter.stands()
    {
        chain.hold(hold);
    }
    let why = match (machine.spec.bootstrap, machine.spec.role) {
        (Bootstrap::Init, _) => "start it; first boot runs kubeadm init",
        (Bootstrap::Join, MachineRole::ControlPlane) => "start it; first boot joins it as a control plane",
        (Bootstrap::Join, MachineRole::Worker) => "start it; first boot joins it as a worker",
    };
    image_files(context, machine, chain);
    chain.push(Action::StartDomain { machine: machine.key() }, why);
}

pub(super) fn paused(machine: &Machine) -> StepState {
    let (name, host) = (&machine.spec.domain.name, &machine.spec.host);
    block(
        "DomainPaused",
        format!(
            "domain {name} on {host} is paused (disk full, or somebody did it): `virsh resume {name}` there once the cause is gone"
        ),
    )
}

/// Order within the cluster: the first control plane, then the others one at a time, workers once the API answers.
fn gate(context: &ClusterContext<'_>, machine: &Machine) -> Result<(), StepState> {
    match (machine.spec.bootstrap, machine.spec.role) {
        (Bootstrap::Init, _) => {
            // Two would claim the same virtual address. Disks claim none.
            let goes = |other: &&Machine| {
                other.metadata.is_deleting() && !lifecycle::is_disks_only(context.draft, other)
            };
            match context.control_planes().find(goes) {
                Some(former) => {
                    Err(wait("FormerControlPlane", format!("{} has to be gone first", former.object_ref())))
                }
                None => Ok(()),
            }
        }
        (Bootstrap::Join, MachineRole::ControlPlane) => super::membership::may_join(context, machine),
        (Bootstrap::Join, MachineRole::Worker) => context.api().map(|_| ()),
    }
}

fn token(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain, active: bool) {
    if machine.spec.bootstrap != Bootstrap::Join {
        return;
    }
    let key = machine.key();
    let secret = names::join_secret(&key);
    let exists = context.draft.has_secret(&secret);
    let id = context.token_id_of(&secret);
    match context.heard() {
        Some(world) => {
            let until = id.and_then(|id| world.bootstrap_tokens.get(id));
            if until.is_some_and(|until| until.duration_since(context.draft.snapshot.now) > TOKEN_RENEWAL) {
                return;
            }
        }
        None if chain.is_held() => {}
        None => drop(context.api().map_err(|hold| chain.hold(hold))),
    }
    if exists && id.is_none() {
        chain.hold(block(
            "TokenUnknown",
            format!(
                "secret {secret} does not say its token's id: delete {} to have another made",
                machine.object_ref()
            ),
        ));
    }
    if !exists && active {
        chain.hold(block(
            "TokenMissing",
            format!(
                "secret {secret} is gone while {} joins: delete the machine to have another made",
                machine.object_ref()
            ),
        ));
    }
    chain.push_elsewhere(
        Action::PublishJoinToken { machine: key },
        "put its join token into the cluster for 15 minutes",
    );
}

/// How far first boot is.
fn progress(context: &ClusterContext<'_>, machine: &Machine) -> StepState {
    let name = &machine.spec.node.name;
    if let Some(world) = context.heard()
        && let Some(node) = world.nodes.get(name)
    {
        if node.provider_id != machine.spec.node.provider_id {
            return block(
                "NodeNotOurs",
                format!(
                    "node {name} has provider id `{}` and not {}: another machine took the name; remove that node",
                    node.provider_id, machine.spec.node.provider_id
                ),
            );
        }
        if !node.ready {
            return wait("NodeNotReady", format!("node {name} is not Ready: {}", node.message));
        }
    }
    match context.draft.snapshot.observed.consoles.get(&machine.key()) {
        Some(console) => wait("Booting", format!("first boot: {}", console.phase)),
        None => wait("Booting", "first boot has said nothing yet"),
    }
}

/// What comes once it has joined, shown from the start.
fn afterwards(machine: &Machine, chain: &mut Chain) {
    let key = machine.key();
    let namespace = &key.namespace;
    if let Some(seed) = machine.spec.volume(MachineVolumeRole::Seed) {
        let volume = NamespacedName::new(namespace, seed);
        chain.push(Action::EjectSeed { machine: key.clone() }, "eject its seed");
        chain.push(Action::WipeVolume { volume: volume.clone() }, "wipe its seed");
        chain.push(Action::DeleteVolume { volume }, "delete its seed");
    }
    if machine.spec.bootstrap == Bootstrap::Join {
        chain.push_elsewhere(
            Action::RevokeJoinToken { machine: key },
            "take its join token out of the cluster",
        );
    }
}
