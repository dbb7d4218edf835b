//! Which cluster an object is for: a run for one cluster takes no steps of another.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::{Kind, NamespacedName, Object, ObjectRef, SecretPurpose, VolumeContent};
use ashlar_plan::{Action, Decision, MAX_COMMIT_WRITES, Plan, Snapshot, Step};

use crate::Scope;

/// Which part of a plan a run may carry out.
pub(crate) struct Belongings<'a> {
    pub(crate) snapshot: &'a Snapshot,
    scope: &'a Scope,
}

impl<'a> Belongings<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, scope: &'a Scope) -> Self {
        Belongings { snapshot, scope }
    }

    /// Whether the step is one of the scope's.
    pub(crate) fn has_step(&self, step: &Step) -> bool {
        match &step.action {
            Some(Action::EnsureNetwork { network, host }) => {
                // For a machine that somebody else decides on: theirs to commit, and then to do.
                let is_there = |machine: &ashlar_api::Machine| {
                    machine.hosts().any(|one| one == host)
                        && machine.spec.nics.iter().any(|nic| nic.network == *network)
                };
                self.concerns(network) && self.snapshot.machines.values().any(is_there)
            }
            Some(Action::RemoveNetwork { network, .. }) => self.concerns(network),
            // Who works on one cluster does not turn off what others have there.
            Some(Action::FenceHost { .. }) => matches!(self.scope, Scope::All),
            _ => self.has(&step.object),
        }
    }

    /// Whether the step takes away an image file that nobody needs, or a leftover: done along the way by every run that
    /// changes hosts, though no run waits for it.
    pub(crate) fn is_tidying(&self, step: &Step) -> bool {
        matches!(self.scope, Scope::Cluster(_))
            && match &step.action {
                Some(Action::DeleteVolume { volume }) => self.is_nobodys(volume),
                Some(Action::UndefineLeft { .. }) => true,
                _ => false,
            }
    }

    fn is_nobodys(&self, volume: &NamespacedName) -> bool {
        self.snapshot.volumes.get(volume).is_some_and(|volume| match volume.spec.content {
            VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => true,
            VolumeContent::MachineDisk { .. } => false,
        })
    }

    fn concerns(&self, network: &str) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Cluster(wanted) => self.is_on_network(wanted, network),
            Scope::Hosts | Scope::StoreOnly => false,
        }
    }

    fn is_on_network(&self, cluster: &NamespacedName, network: &str) -> bool {
        self.snapshot.clusters.get(cluster).is_some_and(|cluster| cluster.spec.network == network)
    }

    /// Whether an object belongs to the scope.
    pub(crate) fn has(&self, object: &ObjectRef) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::StoreOnly => false,
            Scope::Hosts => self.clusters_of(object).is_some_and(|clusters| clusters.is_empty()),
            // What is nobody's (an image file that no machine stands on) can wait.
            Scope::Cluster(wanted) => self
                .clusters_of(object)
                .is_none_or(|clusters| clusters.iter().any(|cluster| cluster == wanted)),
        }
    }

    /// Whether a commit is about the scope: one of its writes is.
    pub(crate) fn has_commit(&self, decisions: &[Decision]) -> bool {
        // Who saw that a host answers says so, whatever else it works on: nobody may be there to see it the next time.
        if self.scope.asks_hosts() && decisions.iter().any(|decision| self.ends_fence(decision)) {
            return true;
        }
        let wanted = match self.scope {
            Scope::All => return true,
            Scope::Cluster(wanted) => wanted,
            Scope::Hosts | Scope::StoreOnly => return false,
        };
        let is_about_nobodys = |decision: &Decision| match decision {
            Decision::Create(Object::Volume(volume)) => {
                matches!(volume.spec.content, VolumeContent::Leftover { .. })
            }
            other => {
                let object = other.object_ref();
                object.kind == Kind::Volume && self.is_nobodys(&object.key())
            }
        };
        // What came of the use of image files, and of leftovers, and nothing else.
        if decisions.iter().all(is_about_nobodys) {
            return true;
        }
        let is_wanted = |namespace: &str, name: &str| wanted.namespace == namespace && wanted.name == name;
        // Hosts that leave a network's record, and nothing else.
        let is_network = |decision: &Decision| decision.object_ref().kind == Kind::Network;
        if decisions.iter().all(is_network) {
            return decisions.iter().any(|it| self.is_on_network(wanted, &it.object_ref().name));
        }
        decisions.iter().any(|decision| match decision {
            Decision::Create(object) | Decision::Update(object) => {
                let namespace = &object.metadata().namespace;
                match object {
                    Object::Cluster(cluster) => is_wanted(namespace, &cluster.metadata.name),
                    Object::WorkerGroup(group) => is_wanted(namespace, &group.spec.cluster),
                    Object::Machine(machine) => is_wanted(namespace, &machine.spec.cluster),
                    Object::Volume(_) => {
                        self.is_known(&object.object_ref()) && self.has(&object.object_ref())
                    }
                    // A ledger that is bumped along with them does not say for whom.
                    _ => false,
                }
            }
            Decision::Remove { object, .. } => is_owned_kind(object.kind) && self.has(object),
            Decision::Check { .. } => false,
        })
    }

    /// Whether a decision takes away that a host is proved off.
    fn ends_fence(&self, decision: &Decision) -> bool {
        let Decision::Update(Object::Host(host)) = decision else { return false };
        let before = self.snapshot.hosts.get(&host.metadata.name);
        host.record.fence.is_none() && before.is_some_and(|before| before.record.fence.is_some())
    }

    /// Whether a step would be taken on a host that stands in the store as off, and answers. What is begun there would not be
    /// believed at the host's next silence.
    pub(crate) fn is_on_fenced(&self, step: &Step) -> bool {
        let snapshot = self.snapshot;
        let has_ended = |host: &str| {
            snapshot.hosts.get(host).is_some_and(|host| ashlar_plan::fence_has_ended(snapshot, host))
        };
        let action = step.action.as_ref().filter(|action| action.changes_host());
        action.is_some_and(|action| action.hosts(&step.host, snapshot).into_iter().any(has_ended))
    }

    /// A machine that one commit makes may boot from image files whose records another one makes. Where that other one
    /// is left out, the records come along; before the machine's commit, if they do not fit into it.
    ///
    /// Gives what the commits that are left out would have made, so that no step rests on it.
    pub(crate) fn carry_along(
        wanted: &mut Vec<Vec<Decision>>,
        left_out: &[Vec<Decision>],
    ) -> BTreeSet<ObjectRef> {
        let made = left_out.iter().flatten().filter(|decision| matches!(decision, Decision::Create(_)));
        let mut left: BTreeSet<ObjectRef> = made.clone().map(Decision::object_ref).collect();
        let mut files: BTreeMap<&str, &Decision> = made
            .filter_map(|decision| match decision {
                Decision::Create(Object::Volume(volume)) => match volume.spec.content {
                    VolumeContent::ImageFile { .. } => Some((volume.metadata.name.as_str(), decision)),
                    VolumeContent::MachineDisk { .. } | VolumeContent::Leftover { .. } => None,
                },
                _ => None,
            })
            .collect();
        for mut commit in std::mem::take(wanted) {
            let needed: Vec<Decision> = commit
                .iter()
                .filter_map(|decision| match decision {
                    Decision::Create(Object::Machine(machine)) => Some(&machine.spec.image),
                    _ => None,
                })
                .flat_map(|image| [&image.disk_volume, &image.kernel_volume, &image.initrd_volume])
                .filter_map(|name| files.remove(name.as_str()).cloned())
                .collect();
            for carried in &needed {
                left.remove(&carried.object_ref());
            }
            if commit.len() + needed.len() <= MAX_COMMIT_WRITES {
                commit.extend(needed);
            } else {
                wanted.extend(needed.chunks(MAX_COMMIT_WRITES).map(<[Decision]>::to_vec));
            }
            wanted.push(commit);
        }
        left
    }

    fn is_known(&self, object: &ObjectRef) -> bool {
        self.clusters_of(object).is_some()
    }

    /// Whether a commit removes an object that is being worked on, or records that somebody else started such a
    /// machine: that it was seen to be gone, or to run, may be out of date.
    pub(crate) fn takes_away(
        &self,
        decisions: &[Decision],
        is_worked_on: impl Fn(&ObjectRef) -> bool,
    ) -> bool {
        decisions.iter().any(|decision| match decision {
            Decision::Remove { object, .. } => {
                is_worked_on(object) || self.worker_of(object).is_some_and(|worker| is_worked_on(&worker))
            }
            Decision::Update(Object::Machine(machine)) => {
                let before = self.snapshot.machines.get(&machine.key());
                let is_news = before.is_some_and(|before| before.record.first_started_at.is_none())
                    && machine.record.first_started_at.is_some();
                is_news && is_worked_on(&machine.object_ref())
            }
            _ => false,
        })
    }

    /// Objects that commits are about, and those in whose lanes they are worked on. As long as the commits are not made,
    /// no step may rest on them.
    pub(crate) fn subjects(&self, commits: &[Vec<Decision>]) -> BTreeSet<ObjectRef> {
        let objects: Vec<ObjectRef> = commits.iter().flatten().map(Decision::object_ref).collect();
        let workers: Vec<ObjectRef> = objects.iter().filter_map(|object| self.worker_of(object)).collect();
        objects.into_iter().chain(workers).collect()
    }

    /// The machine in whose lane an object's steps are taken, where it is not the object itself.
    fn worker_of(&self, object: &ObjectRef) -> Option<ObjectRef> {
        let machine = match object.kind {
            Kind::Volume => match &self.snapshot.volumes.get(&object.key())?.spec.content {
                VolumeContent::MachineDisk { machine, .. } => machine,
                VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => return None,
            },
            Kind::Secret => match &self.snapshot.secrets.get(&object.key())?.purpose {
                SecretPurpose::JoinToken { machine } | SecretPurpose::MachineSshHostKey { machine } => {
                    machine
                }
                SecretPurpose::ClusterPki { cluster } => {
                    return Some(ObjectRef::new(Kind::Cluster, &object.namespace, cluster));
                }
            },
            _ => return None,
        };
        Some(ObjectRef::new(Kind::Machine, &object.namespace, machine))
    }

    /// The plan's steps in scope.
    pub(crate) fn steps<'p>(&'p self, plan: &'p Plan) -> impl Iterator<Item = &'p Step> {
        plan.steps.iter().filter(|step| self.has_step(step))
    }

    /// The clusters that an object is for: none for what belongs to the pool as a whole; `None` if nobody can tell,
    /// because the object is not in the store yet.
    pub(crate) fn clusters_of(&self, object: &ObjectRef) -> Option<Vec<NamespacedName>> {
        let key = object.key();
        let in_namespace = |name: &str| NamespacedName::new(&object.namespace, name);
        match object.kind {
            Kind::Cluster => Some(vec![key]),
            Kind::WorkerGroup => Some(vec![in_namespace(&self.snapshot.groups.get(&key)?.spec.cluster)]),
            Kind::Machine => self.cluster_of_machine(&key).map(|cluster| vec![cluster]),
            Kind::Volume => {
                let volume = self.snapshot.volumes.get(&key)?;
                match &volume.spec.content {
                    VolumeContent::ImageFile { .. } => Some(self.users_of_image_file(&volume.metadata.name)),
                    VolumeContent::MachineDisk { machine, .. } => {
                        self.cluster_of_machine(&in_namespace(machine)).map(|cluster| vec![cluster])
                    }
                    VolumeContent::Leftover { .. } => Some(Vec::new()),
                }
            }
            Kind::Secret => match &self.snapshot.secrets.get(&key)?.purpose {
                SecretPurpose::ClusterPki { cluster } => Some(vec![in_namespace(cluster)]),
                SecretPurpose::JoinToken { machine } | SecretPurpose::MachineSshHostKey { machine } => {
                    self.cluster_of_machine(&in_namespace(machine)).map(|cluster| vec![cluster])
                }
            },
            _ => Some(Vec::new()),
        }
    }

    /// A machine's cluster. One that is not in the store (yet, or any more) is only a name, which begins with its
    /// cluster's.
    fn cluster_of_machine(&self, machine: &NamespacedName) -> Option<NamespacedName> {
        if let Some(known) = self.snapshot.machines.get(machine) {
            return Some(NamespacedName::new(&machine.namespace, &known.spec.cluster));
        }
        let is_prefix = |cluster: &&NamespacedName| {
            let rest = machine.name.strip_prefix(&cluster.name);
            cluster.namespace == machine.namespace && rest.is_some_and(|rest| rest.starts_with('-'))
        };
        self.snapshot.clusters.keys().filter(is_prefix).max_by_key(|cluster| cluster.name.len()).cloned()
    }

    fn users_of_image_file(&self, volume: &str) -> Vec<NamespacedName> {
        let uses = |machine: &&ashlar_api::Machine| {
            let image = &machine.spec.image;
            [&image.disk_volume, &image.kernel_volume, &image.initrd_volume]
                .iter()
                .any(|name| *name == volume)
        };
        self.snapshot
            .machines
            .values()
            .filter(uses)
            .map(|machine| NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster))
            .collect()
    }
}

/// Kinds that belong to somebody; a ledger that is bumped with them does not say for whom.
fn is_owned_kind(kind: Kind) -> bool {
    matches!(kind, Kind::Cluster | Kind::WorkerGroup | Kind::Machine | Kind::Volume | Kind::Secret)
}

#[cfg(test)]
#[path = "belongs_tests.rs"]
mod tests;
