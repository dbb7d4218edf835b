//! A perfect world: commits with compare-and-set, and steps that succeed at once.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use ashlar_plan::{names, *};
use jiff::SignedDuration;

use super::{SeededIds, put};

/// A world that does as it is told.
pub struct World {
    pub snapshot: Snapshot,
    pub ids: SeededIds,
    revision: u64,
    /// Everything done, in order.
    pub log: Vec<String>,
    /// What etcd keeps while its machines are off.
    asleep: BTreeMap<NamespacedName, ClusterWorld>,
    /// Who belongs to each cluster's etcd.
    pub etcd: BTreeMap<NamespacedName, BTreeMap<u64, EtcdMember>>,
    /// Whom each cluster's etcd follows, where it is not the first that runs.
    pub leaders: BTreeMap<NamespacedName, u64>,
}

/// The id of a machine's member.
pub fn member_id(machine: &Machine) -> u64 {
    machine.metadata.uid.unwrap().as_u64_pair().1
}

/// A machine's member.
pub fn member(machine: &Machine, is_learner: bool) -> EtcdMember {
    EtcdMember {
        id: member_id(machine),
        name: machine.spec.node.name.clone(),
        peer_urls: vec![format!("https://{}:2380", machine.spec.node_address().unwrap())],
        is_learner,
    }
}

impl World {
    pub fn new(snapshot: Snapshot, seed: u64) -> Self {
        World {
            snapshot,
            ids: SeededIds(seed),
            revision: 100,
            log: Vec::new(),
            asleep: BTreeMap::new(),
            etcd: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    pub fn plan(&mut self) -> Plan {
        let plan = ashlar_plan::plan(&self.snapshot, &mut self.ids).unwrap();
        let violations = ashlar_plan::check::check(&self.snapshot, &plan);
        assert!(violations.is_empty(), "{violations:#?}");
        plan
    }

    /// Passes until nothing is left, or nothing can be done. Returns the last plan.
    pub fn settle(&mut self) -> Plan {
        for _ in 0..500 {
            let plan = self.plan();
            let ready: Vec<Step> =
                plan.steps.iter().filter(|step| step.state == StepState::Ready).cloned().collect();
            if plan.decisions.is_empty() && ready.is_empty() {
                return plan;
            }
            if plan.decisions.is_empty() {
                self.perform_all(&ready);
            } else {
                self.commit(plan.decisions);
            }
            self.snapshot.now += SignedDuration::from_secs(10);
            self.guests();
        }
        panic!("it does not settle; the last of the log:\n{}", self.log[self.log.len() - 40..].join("\n"));
    }

    /// Commits as the engine does: an object written by an earlier commit of the plan has that commit's revision.
    pub fn commit(&mut self, decisions: Vec<Vec<Decision>>) {
        let before = self.snapshot.clone();
        let mut written: BTreeMap<ObjectRef, String> = BTreeMap::new();
        for commit in decisions {
            assert!(commit.len() <= MAX_COMMIT_WRITES);
            self.revision += 1;
            let revision = self.revision.to_string();
            for decision in commit {
                match decision {
                    Decision::Create(mut object) => {
                        let object_ref = object.object_ref();
                        assert_eq!(version(&self.snapshot, &object_ref), None, "{object_ref} exists");
                        object.metadata_mut().resource_version = revision.clone();
                        written.insert(object_ref, revision.clone());
                        put(&mut self.snapshot, object);
                    }
                    Decision::Update(mut object) => {
                        let object_ref = object.object_ref();
                        if !written.contains_key(&object_ref) {
                            let read = object.metadata().resource_version.clone();
                            assert_eq!(version(&before, &object_ref), Some(read), "{object_ref}");
                        }
                        object.metadata_mut().resource_version = revision.clone();
                        written.insert(object_ref, revision.clone());
                        put(&mut self.snapshot, object);
                    }
                    Decision::Check { object, resource_version } => {
                        if !written.contains_key(&object) {
                            assert_eq!(version(&before, &object), Some(resource_version), "{object}");
                        }
                    }
                    Decision::Remove { object, resource_version } => {
                        if !written.contains_key(&object) {
                            assert_eq!(version(&before, &object), Some(resource_version), "{object}");
                        }
                        self.log.push(format!("remove {object}"));
                        remove(&mut self.snapshot, &object);
                    }
                }
            }
        }
    }

    /// Performs the ready steps of a plan, once.
    pub fn act(&mut self, plan: &Plan) {
        let ready: Vec<Step> =
            plan.steps.iter().filter(|step| step.state == StepState::Ready).cloned().collect();
        self.perform_all(&ready);
        self.snapshot.now += SignedDuration::from_secs(10);
        self.guests();
    }

    /// Performs so many ready steps of each object, then crashes.
    pub fn act_in_part(&mut self, plan: &Plan, steps: usize) {
        let mut done: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
        let ready: Vec<Step> = plan
            .steps
            .iter()
            .filter(|step| step.state == StepState::Ready)
            .filter(|step| {
                let count = done.entry(&step.object).or_default();
                *count += 1;
                *count <= steps
            })
            .cloned()
            .collect();
        self.perform_all(&ready);
        self.snapshot.now += SignedDuration::from_secs(1);
        self.guests();
    }

    fn perform_all(&mut self, steps: &[Step]) {
        for step in steps {
            let action = step.action.clone().unwrap_or_else(|| panic!("ready without an action: {step:?}"));
            self.log.push(format!("{}: {}", step.object, serde_json::to_string(&action).unwrap()));
            self.perform(&action);
        }
    }

    fn host_of(&mut self, host: &str) -> &mut HostWorld {
        match self.snapshot.observed.hosts.get_mut(host) {
            Some(HostSeen::Seen(world)) => world,
            other => panic!("an action on host {host}, which is {other:?}"),
        }
    }

    fn networks(&mut self, host: &str) -> &mut BTreeMap<uuid::Uuid, NetworkSeen> {
        match &mut self.host_of(host).networks {
            NetworksSeen::Seen { networks, .. } => networks,
            other => panic!("networks of {host}: {other:?}"),
        }
    }

    fn machine(&self, key: &NamespacedName) -> Machine {
        self.snapshot.machines[key].clone()
    }

    fn domain(&mut self, key: &NamespacedName) -> &mut DomainSeen {
        let machine = self.machine(key);
        self.host_of(&machine.spec.host)
            .domains
            .get_mut(&machine.spec.domain.uuid)
            .expect("the domain is defined")
    }

    fn secret(&mut self, key: NamespacedName, purpose: SecretPurpose, token_id: Option<String>) {
        self.revision += 1;
        let facts = SecretFacts { purpose, resource_version: self.revision.to_string(), token_id };
        assert!(self.snapshot.secrets.insert(key, facts).is_none(), "a secret is made once");
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::CreateClusterPki { cluster } => {
                let purpose = SecretPurpose::ClusterPki { cluster: cluster.name.clone() };
                self.secret(names::pki_secret(cluster), purpose, None);
            }
            Action::CreateJoinToken { machine } => {
                let purpose = SecretPurpose::JoinToken { machine: machine.name.clone() };
                self.secret(names::join_secret(machine), purpose, Some(format!("id-{}", machine.name)));
            }
            Action::CreateSshHostKey { machine } => {
                let purpose = SecretPurpose::MachineSshHostKey { machine: machine.name.clone() };
                self.secret(names::ssh_secret(machine), purpose, None);
            }
            Action::CreateVolume { volume } => {
                let spec = self.snapshot.volumes[volume].spec.clone();
                let pool =
                    self.host_of(&spec.host).pools.get_mut(&spec.pool_uuid).expect("the pool is active");
                let seen = VolumeSeen { capacity_bytes: spec.capacity.bytes(), allocation_bytes: 0 };
                assert!(pool.volumes.insert(spec.file_name, seen).is_none(), "exclusive");
            }
            Action::FillVolume { volume } => {
                let volume = self.snapshot.volumes.get_mut(volume).unwrap();
                if let VolumeContent::MachineDisk { machine, .. } = &volume.spec.content {
                    let machine = NamespacedName::new(&volume.metadata.namespace, machine);
                    let cluster = &self.snapshot.machines[&machine].spec.cluster;
                    let pki = NamespacedName::new(&machine.namespace, format!("{cluster}-pki"));
                    assert!(self.snapshot.secrets.contains_key(&pki), "certificates before seeds");
                    volume.record.filled = true;
                }
            }
            Action::VerifyVolume { volume } => {
                self.snapshot.volumes.get_mut(volume).unwrap().record.filled = true;
            }
            Action::EnsureNetwork { network, host } => {
                let wanted = ashlar_plan::network::desired(&self.snapshot, network, host).unwrap();
                let seen =
                    NetworkSeen { applied: Some(Box::new(wanted.clone())), intact: true, bridge_gone: false };
                self.networks(host).insert(wanted.uid, seen);
            }
            Action::RemoveNetwork { network, host } => {
                let uid = self.snapshot.networks[network].metadata.uid.unwrap();
                self.networks(host).remove(&uid);
            }
            Action::FenceHost { host } => {
                let at = self.snapshot.now;
                let record = &mut self.snapshot.hosts.get_mut(host).unwrap().record;
                record.fence = Some(HostFence { at, confirmed_by: "BMC".to_owned() });
            }
            Action::DefineDomain { machine } => self.define(machine),
            Action::RedefineDomain { machine } => {
                let definition = Definition::of(&self.spec_of(machine));
                self.domain(machine).definition = Some(definition.into());
            }
            Action::StartDomain { machine } => {
                let now = self.snapshot.now;
                let record = &mut self.snapshot.machines.get_mut(machine).unwrap().record;
                record.first_started_at.get_or_insert(now);
                self.domain(machine).state = DomainState::Running;
            }
            Action::ShutdownDomain { machine } | Action::DestroyDomain { machine } => {
                self.domain(machine).state = DomainState::ShutOff;
            }
            Action::UndefineDomain { machine } => {
                assert!(!self.domain(machine).state.is_active());
                let machine = self.machine(machine);
                self.host_of(&machine.spec.host).domains.remove(&machine.spec.domain.uuid);
            }
            Action::UndefineLeft { host, domain } => {
                assert!(!self.host_of(host).domains[domain].state.is_active());
                self.host_of(host).domains.remove(domain);
            }
            Action::MigrateDomain { machine } => {
                let key = machine;
                let machine = self.machine(key);
                let moved = machine.moved().unwrap();
                let mut domain =
                    self.host_of(&machine.spec.host).domains.remove(&machine.spec.domain.uuid).unwrap();
                let paths = moved.spec.volumes.iter().filter(|volume| volume.role != MachineVolumeRole::Seed);
                let path = |volume: &MachineVolume| {
                    self.snapshot.volumes[&NamespacedName::new(&key.namespace, &volume.name)].spec.path()
                };
                domain.disk_paths = paths.map(path).collect();
                domain.state = DomainState::Paused;
                self.host_of(&moved.spec.host).domains.insert(domain.uuid, domain);
            }
            Action::ResumeDomain { machine } => {
                let machine = self.machine(machine);
                let uuid = machine.spec.domain.uuid;
                for host in machine.hosts() {
                    if let Some(domain) = self.host_of(host).domains.get_mut(&uuid) {
                        domain.state = DomainState::Running;
                    }
                }
            }
            Action::DropArrival { machine } => panic!("no move of this world ends in the middle: {machine}"),
            Action::EjectSeed { machine } => self.domain(machine).medium_path = None,
            Action::WipeVolume { volume } => {
                self.snapshot.volumes.get_mut(volume).unwrap().record.wiped = true;
            }
            Action::DeleteVolume { volume } => {
                let spec = self.snapshot.volumes[volume].spec.clone();
                let pool = self.host_of(&spec.host).pools.get_mut(&spec.pool_uuid).unwrap();
                assert!(pool.volumes.remove(&spec.file_name).is_some());
            }
            Action::PublishJoinToken { machine } => {
                let id = format!("id-{}", machine.name);
                let until = self.snapshot.now + SignedDuration::from_mins(15);
                self.api(machine).bootstrap_tokens.insert(id, until);
            }
            Action::RevokeJoinToken { machine } => {
                self.api(machine).bootstrap_tokens.remove(&format!("id-{}", machine.name));
            }
            Action::RevokeStrayToken { cluster, token_id } => {
                panic!("no call of this world is late: {cluster} {token_id}")
            }
            Action::ApproveServingCsr { machine, csr } | Action::DenyServingCsr { machine, csr } => {
                assert!(self.api(machine).serving_requests.remove(csr).is_some(), "it was asked for");
            }
            Action::ApplyAddon { cluster, addon } => {
                let mut control_planes: Vec<&Machine> = self
                    .snapshot
                    .machines
                    .values()
                    .filter(|machine| {
                        cluster_of(machine) == *cluster && machine.spec.role == MachineRole::ControlPlane
                    })
                    .collect();
                control_planes.sort_by_key(|machine| names::machine_number(&machine.metadata.name));
                let wanted = ashlar_plan::wanted_addons(&self.snapshot.clusters[cluster], &control_planes);
                let digest = wanted.iter().find(|wanted| wanted.name == addon).unwrap().digest.clone();
                match self.snapshot.observed.clusters.get_mut(cluster) {
                    Some(ClusterSeen::Seen(world)) => _ = world.addons.insert(addon.clone(), digest),
                    other => panic!("no API: {other:?}"),
                }
            }
            Action::PromoteEtcdMember { machine } => {
                let id = member_id(&self.machine(machine));
                self.members(machine).get_mut(&id).unwrap().is_learner = false;
            }
            Action::MoveEtcdLeader { machine, to } => {
                let (cluster, id) = (cluster_of(&self.machine(machine)), member_id(&self.machine(to)));
                self.leaders.insert(cluster, id);
            }
            Action::RemoveEtcdMember { machine } => {
                let id = member_id(&self.machine(machine));
                assert!(self.members(machine).remove(&id).is_some(), "it was a member");
            }
            Action::ConfigureNode { machine } => {
                let object = self.machine(machine);
                let node = self.api(machine).nodes.get_mut(&machine.name).unwrap();
                node.labels.retain(|key, _| !object.record.removed_labels.contains(key));
                node.labels.extend(object.spec.node.labels.clone());
                node.taints.retain(|taint| !object.record.removed_taints.contains(taint));
                let missing = object.spec.node.taints.iter().filter(|taint| !node.taints.contains(taint));
                let missing: Vec<_> = missing.cloned().collect();
                node.taints.extend(missing);
            }
            Action::CordonNode { machine } => {
                self.api(machine).nodes.get_mut(&machine.name).unwrap().unschedulable = true;
            }
            Action::EvictPod { machine, pod } => {
                let node = machine.name.clone();
                let pods = self.api(machine).pods.get_mut(&node).unwrap();
                pods.retain(|there| there.namespace != pod.namespace || there.name != pod.name);
            }
            Action::TaintOutOfService { machine } => {
                let node = machine.name.clone();
                let api = self.api(machine);
                api.nodes.get_mut(&node).unwrap().taints.push(out_of_service());
                api.pods.remove(&node);
                api.attached.remove(&node);
            }
            Action::DeleteNode { machine } => _ = self.api(machine).nodes.remove(&machine.name),
        }
    }

    fn members(&mut self, machine: &NamespacedName) -> &mut BTreeMap<u64, EtcdMember> {
        let cluster = cluster_of(&self.machine(machine));
        self.etcd.entry(cluster).or_default()
    }

    fn api(&mut self, machine: &NamespacedName) -> &mut ClusterWorld {
        let cluster = NamespacedName::new(&machine.namespace, &self.snapshot.machines[machine].spec.cluster);
        match self.snapshot.observed.clusters.get_mut(&cluster) {
            Some(ClusterSeen::Seen(world)) => world,
            other => panic!("no API: {other:?}"),
        }
    }

    fn spec_of(&self, key: &NamespacedName) -> DomainSpec {
        let machine = self.machine(key);
        let with_seed = machine.record.joined_at.is_none();
        domain::domain_spec(self.snapshot.installation, &machine, &self.snapshot.volumes, with_seed).unwrap()
    }

    fn define(&mut self, key: &NamespacedName) {
        let machine = self.machine(key);
        let spec = self.spec_of(key);
        let definition = Definition::of(&spec);
        let world = self.host_of(&machine.spec.host);
        assert!(
            world.domains.values().all(|domain| domain.name != spec.name),
            "libvirt refuses a name twice"
        );
        let seen = DomainSeen {
            uuid: spec.uuid,
            name: spec.name,
            state: DomainState::ShutOff,
            mark: Some(spec.mark),
            disk_paths: spec.disks.iter().map(|disk| disk.path.clone()).collect(),
            medium_path: spec.seed_path,
            persistent: true,
            paused_by_migration: false,
            migrated_away: false,
            definition: Some(definition.into()),
            running: None,
        };
        world.domains.insert(spec.uuid, seen);
    }

    /// Guests do what guests do: those that run with a seed boot, join and become Ready.
    pub fn guests(&mut self) {
        for cluster in self.snapshot.clusters.keys().cloned().collect::<Vec<_>>() {
            let machines: Vec<Machine> = self
                .snapshot
                .machines
                .values()
                .filter(|machine| {
                    machine.spec.cluster == cluster.name && machine.metadata.namespace == cluster.namespace
                })
                .cloned()
                .collect();
            let running = |world: &Self, machine: &Machine| match &world.snapshot.observed.hosts
                [&machine.spec.host]
            {
                // A first boot that failed left no API server and no etcd behind.
                HostSeen::Seen(host) if machine.record.failure.is_none() => {
                    host.domains.get(&machine.spec.domain.uuid).is_some_and(|domain| domain.state.is_active())
                }
                _ => false,
            };
            let control_planes =
                || machines.iter().filter(|machine| machine.spec.role == MachineRole::ControlPlane);
            let members = self.etcd.entry(cluster.clone()).or_default();
            // What is gone before it began leaves nothing behind.
            if !self.snapshot.clusters[&cluster].record.initialized {
                members.retain(|id, _| machines.iter().any(|machine| member_id(machine) == *id));
            }
            // The first one begins a new etcd.
            let first = control_planes().find(|machine| {
                machine.spec.bootstrap == Bootstrap::Init && machine.record.first_started_at.is_some()
            });
            if let Some(first) = first.filter(|_| members.is_empty()) {
                members.insert(member_id(first), member(first, false));
            }
            let voters: Vec<u64> =
                members.values().filter(|member| !member.is_learner).map(|member| member.id).collect();
            let members = members.clone();
            let alive: Vec<u64> = control_planes()
                .filter(|machine| running(self, machine))
                .map(member_id)
                .filter(|id| voters.contains(id))
                .collect();
            let (all, up) = (voters.len(), alive.len());
            let leader = (up * 2 > all).then(|| {
                let kept = self.leaders.get(&cluster).copied().filter(|leader| alive.contains(leader));
                kept.unwrap_or(alive[0])
            });
            let nodes = control_planes().map(|machine| {
                let id = member_id(machine);
                let status = EtcdStatus { member_id: id, leader, ..EtcdStatus::default() };
                let runs = running(self, machine) && members.contains_key(&id);
                let answer = if runs { Ok(status) } else { Err("connection refused".to_owned()) };
                (machine.spec.node.name.clone(), answer)
            });
            let seen = match leader {
                Some(_) => EtcdSeen::Seen(EtcdWorld { nodes: nodes.collect(), members: members.clone() }),
                None => EtcdSeen::Unreachable { reason: "no leader".to_owned() },
            };
            self.snapshot.observed.etcd.insert(cluster.clone(), seen);
            if up * 2 <= all || up == 0 {
                let reason = "no majority of control planes".to_owned();
                let seen = self
                    .snapshot
                    .observed
                    .clusters
                    .insert(cluster.clone(), ClusterSeen::Unreachable { reason });
                if let Some(ClusterSeen::Seen(world)) = seen {
                    self.asleep.insert(cluster, world);
                }
                continue;
            }
            let nothing = ApiUseSeen::Seen(BTreeSet::new());
            self.snapshot.observed.api_use.entry(cluster.clone()).or_insert(nothing);
            let mut world = match self.snapshot.observed.clusters.remove(&cluster) {
                Some(ClusterSeen::Seen(world)) => world,
                _ => self.asleep.remove(&cluster).unwrap_or_default(),
            };
            let up: Vec<&Machine> = machines.iter().filter(|machine| running(self, machine)).collect();
            for machine in up {
                let token = format!("id-{}", machine.metadata.name);
                let may_join = machine.spec.bootstrap == Bootstrap::Init
                    || world.bootstrap_tokens.contains_key(&token)
                    || world.nodes.contains_key(&machine.spec.node.name);
                let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
                if may_join
                    && machine.record.failure.is_none()
                    && is_control_plane
                    && machine.record.joined_at.is_none()
                    && let Some(EtcdSeen::Seen(etcd)) = self.snapshot.observed.etcd.get_mut(&cluster)
                {
                    let id = member_id(machine);
                    let members = self.etcd.get_mut(&cluster).unwrap();
                    members.entry(id).or_insert_with(|| member(machine, false));
                    etcd.members = members.clone();
                    let leader = etcd.nodes.values().flatten().find_map(|status| status.leader);
                    let status = EtcdStatus { member_id: id, leader, ..EtcdStatus::default() };
                    etcd.nodes.insert(machine.spec.node.name.clone(), Ok(status));
                }
                if may_join && machine.record.failure.is_none() {
                    let node = NodeSeen {
                        ready: true,
                        message: String::new(),
                        provider_id: machine.spec.node.provider_id.clone(),
                        kubelet_version: machine.spec.image.kubernetes_version.clone(),
                        labels: machine.spec.node.labels.clone(),
                        taints: machine.spec.node.taints.clone(),
                        kubelet: KubeletSeen::Heard,
                        static_pods: static_pods(machine),
                        ..NodeSeen::default()
                    };
                    let node = match world.nodes.get(&machine.spec.node.name) {
                        Some(there) => {
                            let (labels, taints) = (there.labels.clone(), there.taints.clone());
                            NodeSeen { labels, taints, unschedulable: there.unschedulable, ..node }
                        }
                        None => node,
                    };
                    world.nodes.insert(machine.spec.node.name.clone(), node);
                    world.pods.entry(machine.spec.node.name.clone()).or_default();
                }
            }
            self.snapshot.observed.clusters.insert(cluster, ClusterSeen::Seen(world));
        }
    }
}

fn cluster_of(machine: &Machine) -> NamespacedName {
    NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

/// What kubeadm has a control plane's kubelet run, all of it Ready.
fn static_pods(machine: &Machine) -> BTreeMap<String, StaticPodSeen> {
    let pods = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
    let pod = |name: &str| (name.to_owned(), StaticPodSeen { ready: true, reason: String::new() });
    pods.into_iter().filter(|_| is_control_plane).map(pod).collect()
}

/// An object's resourceVersion; none if it does not exist.
fn version(snapshot: &Snapshot, object: &ObjectRef) -> Option<String> {
    let (key, name) = (object.key(), &object.name);
    let metadata = match object.kind {
        Kind::Host => snapshot.hosts.get(name).map(|object| &object.metadata),
        Kind::StoragePool => snapshot.pools.get(name).map(|object| &object.metadata),
        Kind::Network => snapshot.networks.get(name).map(|object| &object.metadata),
        Kind::Image => snapshot.images.get(name).map(|object| &object.metadata),
        Kind::MachineClass => snapshot.classes.get(name).map(|object| &object.metadata),
        Kind::Cluster => snapshot.clusters.get(&key).map(|object| &object.metadata),
        Kind::WorkerGroup => snapshot.groups.get(&key).map(|object| &object.metadata),
        Kind::Machine => snapshot.machines.get(&key).map(|object| &object.metadata),
        Kind::Volume => snapshot.volumes.get(&key).map(|object| &object.metadata),
        Kind::Secret => return snapshot.secrets.get(&key).map(|facts| facts.resource_version.clone()),
        Kind::Event => panic!("not part of a snapshot"),
    };
    metadata.map(|metadata| metadata.resource_version.clone())
}

fn remove(snapshot: &mut Snapshot, object: &ObjectRef) {
    let key = object.key();
    let removed = match object.kind {
        Kind::Cluster => snapshot.clusters.remove(&key).is_some(),
        Kind::WorkerGroup => snapshot.groups.remove(&key).is_some(),
        Kind::Machine => snapshot.machines.remove(&key).is_some(),
        Kind::Volume => snapshot.volumes.remove(&key).is_some(),
        Kind::Secret => snapshot.secrets.remove(&key).is_some(),
        other => panic!("the planner removes no {other}"),
    };
    assert!(removed, "{object} existed");
}
