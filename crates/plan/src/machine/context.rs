//! What the machine tier knows of one cluster, gathered once.

use std::sync::Arc;

use ashlar_api::*;

use super::chain::wait;
use crate::draft::Draft;
use crate::{ClusterSeen, ClusterWorld, HostSeen, StepState, WantedAddon, lost, names, wanted_addons};

/// One cluster with its machines.
pub(super) struct ClusterContext<'d> {
    pub(super) draft: &'d Draft<'d>,
    pub(super) cluster: &'d Cluster,
    pub(super) machines: Vec<&'d Machine>,
    seen: Option<&'d ClusterSeen>,
}

impl<'d> ClusterContext<'d> {
    pub(super) fn new(draft: &'d Draft<'d>, cluster: &'d Cluster) -> Self {
        let key = cluster.key();
        let machines = draft.machines_of(&key).into_iter().map(Arc::as_ref).collect();
        ClusterContext { draft, cluster, machines, seen: draft.snapshot.observed.clusters.get(&key) }
    }

    pub(super) fn key(&self) -> NamespacedName {
        self.cluster.key()
    }

    /// What the API says, if it was heard.
    pub(super) fn heard(&self) -> Option<&'d ClusterWorld> {
        match self.seen {
            Some(ClusterSeen::Seen(world)) => Some(world),
            Some(ClusterSeen::Unreachable { .. } | ClusterSeen::NotOurs { .. }) | None => None,
        }
    }

    /// What the API says, or why it says nothing.
    pub(super) fn api(&self) -> Result<&'d ClusterWorld, StepState> {
        if self.is_stopped() && self.heard().is_none() {
            let (key, name) = (self.key(), &self.cluster.metadata.name);
            let message = format!(
                "{key} is stopped, and its API with it: this is done once it is started again (`ashlar cluster start {name}`)"
            );
            return Err(wait("ClusterStopped", message));
        }
        let silent = |what: &str| {
            let endpoint = self.cluster.record.endpoint.as_ref();
            let endpoint = endpoint
                .map_or_else(String::new, |endpoint| format!(" at {}:{}", endpoint.address, endpoint.port));
            wait("ApiNotAnswering", format!("the API of {}{endpoint} does not answer{what}", self.key()))
        };
        match self.seen {
            Some(ClusterSeen::Seen(world)) => Ok(world),
            Some(ClusterSeen::Unreachable { reason }) => Err(silent(&format!(": {reason}"))),
            Some(ClusterSeen::NotOurs { reason }) => {
                let lost = lost::api_of_another(self.cluster, reason);
                Err(wait(lost.reason, lost.message))
            }
            None => Err(silent(" yet")),
        }
    }

    pub(super) fn api_was_asked(&self) -> bool {
        self.seen.is_some()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.cluster.metadata.is_deleting()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.cluster.record.stopped
    }

    /// `cluster stop --force`.
    pub(super) fn is_stopped_by_force(&self) -> bool {
        self.cluster.metadata.annotations.contains_key(names::FORCE_STOP_ANNOTATION)
    }

    pub(super) fn control_planes(&self) -> impl Iterator<Item = &'d Machine> {
        self.machines.iter().copied().filter(|machine| machine.spec.role == MachineRole::ControlPlane)
    }

    /// What its API should hold of ours; nothing before it has a control plane.
    pub(super) fn wanted_addons(&self) -> Arc<[WantedAddon]> {
        let control_planes: Vec<&Machine> = self.control_planes().collect();
        wanted_addons(self.cluster, &control_planes)
    }

    /// Of a cluster that is being upgraded: whether what `kubeadm upgrade` would have done in it was done, as far as it can
    /// be now.
    pub(super) fn is_prepared(&self) -> Result<(), StepState> {
        if !self.cluster.record.upgraded {
            return Ok(());
        }
        let world = self.api()?;
        match self.wanted_addons().iter().find(|addon| world.addons.get(addon.name) != Some(&addon.digest)) {
            None => Ok(()),
            Some(addon) => Err(wait("AddonFirst", format!("add-on {} is applied first", addon.name))),
        }
    }

    /// The id of a machine's join token, if its Secret exists.
    pub(super) fn token_id(&self, machine: &Machine) -> Option<&'d str> {
        self.token_id_of(&names::join_secret(&machine.key()))
    }

    /// The same, by the Secret's name.
    pub(super) fn token_id_of(&self, secret: &NamespacedName) -> Option<&'d str> {
        self.draft.secret(secret)?.token_id.as_deref()
    }

    /// Whether the machine's domain was seen, and seen not to run.
    pub(super) fn is_seen_off(&self, machine: &Machine) -> bool {
        match self.draft.snapshot.observed.hosts.get(&machine.spec.host) {
            Some(HostSeen::Seen(world)) => {
                world.domains.get(&machine.spec.domain.uuid).is_none_or(|domain| !domain.state.is_active())
            }
            Some(HostSeen::Unreachable { .. } | HostSeen::NotOurs { .. } | HostSeen::Fenced { .. })
            | None => false,
        }
    }

    pub(super) fn volume(&self, machine: &Machine, role: MachineVolumeRole) -> Option<&'d Volume> {
        let name = machine.spec.volume(role)?;
        self.draft.volumes.get(&NamespacedName::new(&machine.metadata.namespace, name))
    }
}
