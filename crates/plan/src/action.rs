//! What the engine can do to the world: each action is one outside call (of an image file: one a chunk), safe to repeat.

use ashlar_api::NamespacedName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Snapshot;

/// One change of the world. The object named says everything else; there is no choice left to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "the field names the object; the variant's doc says the rest")]
pub enum Action {
    /// Makes the cluster's CAs and service-account key and stores them sealed (store only; never made anew once
    /// the cluster was initialized).
    CreateClusterPki { cluster: NamespacedName },
    /// Makes a machine's join token and stores it sealed (store only).
    CreateJoinToken { machine: NamespacedName },
    /// Makes a machine's SSH host key and stores it sealed (store only).
    CreateSshHostKey { machine: NamespacedName },
    /// Creates the volume, exclusively: an existing file of that name is an error, never taken over.
    CreateVolume { volume: NamespacedName },
    /// Writes an image file, as far as it is not there yet, or a seed into its volume.
    FillVolume { volume: NamespacedName },
    /// Compares an image file on the host with its digest, and records that it is filled.
    VerifyVolume { volume: NamespacedName },
    /// Defines the domain.
    DefineDomain { machine: NamespacedName },
    /// Defines a domain again as declared that somebody edited; what runs goes on as it is.
    RedefineDomain { machine: NamespacedName },
    /// Starts the domain.
    StartDomain { machine: NamespacedName },
    /// Asks the guest to shut down (ACPI).
    ShutdownDomain { machine: NamespacedName },
    /// Ends the domain's process.
    DestroyDomain { machine: NamespacedName },
    /// Removes the domain's definition.
    UndefineDomain { machine: NamespacedName },
    /// Removes the definition of a domain whose machine is gone, or elsewhere: a call that nobody waited for any more made it, or a
    /// move left it. One that stands still since such a move is ended first.
    UndefineLeft { host: String, domain: Uuid },
    /// Moves the running domain of a machine to the host that its record names, with what its disks hold.
    MigrateDomain { machine: NamespacedName },
    /// Lets a domain go on that stands still because it moved: where all of it is.
    ResumeDomain { machine: NamespacedName },
    /// Takes away what a move that ended in the middle has left at its target, and what never ran there.
    DropArrival { machine: NamespacedName },
    /// Takes the seed out of the running domain's drive, and out of its definition.
    EjectSeed { machine: NamespacedName },
    /// Overwrites what a seed, or a machine's disk, holds.
    WipeVolume { volume: NamespacedName },
    /// Deletes the volume.
    DeleteVolume { volume: NamespacedName },
    /// Puts the machine's join token into the cluster, valid for 15 minutes.
    PublishJoinToken { machine: NamespacedName },
    /// Takes the machine's join token out of the cluster.
    RevokeJoinToken { machine: NamespacedName },
    /// Takes a join token of ours out of the cluster that nobody needs: its publishing took effect late.
    RevokeStrayToken { cluster: NamespacedName, token_id: String },
    /// Applies one object of an add-on (server-side apply).
    ApplyAddon { cluster: NamespacedName, addon: String },
    /// Gives a learner of etcd its vote.
    PromoteEtcdMember { machine: NamespacedName },
    /// Moves the leadership of etcd from a machine to another one.
    MoveEtcdLeader { machine: NamespacedName, to: NamespacedName },
    /// Takes a machine's member out of its cluster's etcd, for good.
    RemoveEtcdMember { machine: NamespacedName },
    /// Gives a machine's node the labels and taints that its group says, and takes away those it said before.
    ConfigureNode { machine: NamespacedName },
    /// Marks a machine's node, so that no new pods come to it.
    CordonNode { machine: NamespacedName },
    /// Asks a pod on a machine's node to go elsewhere; PodDisruptionBudgets may refuse.
    EvictPod { machine: NamespacedName, pod: NamespacedName },
    /// Approves a kubelet's request for the certificate that it serves with.
    ApproveServingCsr { machine: NamespacedName, csr: String },
    /// Denies one that is not right, with the reason.
    DenyServingCsr { machine: NamespacedName, csr: String },
    /// Tells the cluster that the node of a machine is shut down for good, since its host is proved off.
    TaintOutOfService { machine: NamespacedName },
    /// Deletes the Node object of a machine that is gone.
    DeleteNode { machine: NamespacedName },
    /// Makes a network on a host what it should be there: devices, gateway, filters of the machines' taps.
    EnsureNetwork { network: String, host: String },
    /// Removes everything of a network from a host.
    RemoveNetwork { network: String, host: String },
    /// Turns a host off that gives no answer, sees that it is off, and records that.
    FenceHost { host: String },
}

impl Action {
    /// Whether it changes a host, which only the holder of the host's lease may.
    pub fn changes_host(&self) -> bool {
        use Action as A;
        match self {
            A::CreateVolume { .. }
            | A::FillVolume { .. }
            | A::DefineDomain { .. }
            | A::RedefineDomain { .. }
            | A::StartDomain { .. }
            | A::ShutdownDomain { .. }
            | A::DestroyDomain { .. }
            | A::UndefineDomain { .. }
            | A::UndefineLeft { .. }
            | A::MigrateDomain { .. }
            | A::ResumeDomain { .. }
            | A::DropArrival { .. }
            | A::EjectSeed { .. }
            | A::WipeVolume { .. }
            | A::DeleteVolume { .. }
            | A::EnsureNetwork { .. }
            | A::RemoveNetwork { .. } => true,
            A::CreateClusterPki { .. }
            | A::CreateJoinToken { .. }
            | A::CreateSshHostKey { .. }
            | A::VerifyVolume { .. }
            | A::PublishJoinToken { .. }
            | A::RevokeJoinToken { .. }
            | A::RevokeStrayToken { .. }
            | A::ApplyAddon { .. }
            | A::PromoteEtcdMember { .. }
            | A::MoveEtcdLeader { .. }
            | A::RemoveEtcdMember { .. }
            | A::ConfigureNode { .. }
            | A::CordonNode { .. }
            | A::EvictPod { .. }
            | A::ApproveServingCsr { .. }
            | A::DenyServingCsr { .. }
            | A::TaintOutOfService { .. }
            | A::DeleteNode { .. }
            // Nothing of it goes over the host, and whose its lease is does not count for one without power.
            | A::FenceHost { .. } => false,
        }
    }

    /// The hosts that a step changes, or has to be sure of: both ends of a machine's way.
    pub fn hosts<'s>(&self, of_step: &'s str, snapshot: &'s Snapshot) -> Vec<&'s str> {
        match self {
            Action::MigrateDomain { machine }
            | Action::ResumeDomain { machine }
            | Action::DropArrival { machine } => {
                snapshot.machines.get(machine).into_iter().flat_map(|machine| machine.hosts()).collect()
            }
            // That it runs where it is has to be sure.
            Action::UndefineLeft { domain, .. } => {
                let is_its = |machine: &&ashlar_api::Machine| machine.spec.domain.uuid == *domain;
                let home = snapshot.machines.values().find(is_its).map(|machine| machine.spec.host.as_str());
                home.into_iter().chain([of_step]).collect()
            }
            _ => vec![of_step],
        }
    }

    /// Whether it takes something away that could not be had back: checked once more right before it is done.
    pub fn is_destructive(&self) -> bool {
        matches!(
            self,
            Action::DestroyDomain { .. }
                | Action::UndefineDomain { .. }
                | Action::UndefineLeft { .. }
                | Action::DropArrival { .. }
                | Action::WipeVolume { .. }
                | Action::DeleteVolume { .. }
                | Action::RemoveEtcdMember { .. }
                | Action::TaintOutOfService { .. }
                | Action::DeleteNode { .. }
                | Action::RemoveNetwork { .. }
                | Action::FenceHost { .. }
        )
    }
}
