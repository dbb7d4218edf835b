//! The pool's hosts as placement sees them: objects on one side, the packer's numbers on the other.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use uuid::Uuid;

use super::guard::Guard;
use super::offer::{dedicated_cpus, offer, shared_cpus};
use super::packer::{Choice, Claim, HostNumber, Packer, ShapeNumber};
use super::request::{Request, SEED_MIB};
use super::room::{Demand, signed};
use super::rules;
use super::spread::{Peers, least_limit};
use crate::draft::{Draft, cluster_of};
use crate::lost::{self, Lost};
use crate::report::Refusal;
use crate::{HostSeen, Snapshot, names};

/// From so many hosts on, a pool keeps room for one of them to die.
const HOSTS_FOR_ADMISSION: usize = 3;

/// Class, image, pool, network, whether etcd's disk comes with it, the host that it leaves alive, and its cluster, if that is
/// in doubt.
type ShapeKey = (String, String, String, String, bool, Option<String>, Option<NamespacedName>);

fn shape_key(request: &Request<'_>, doubted: bool) -> ShapeKey {
    (
        request.class.metadata.name.clone(),
        request.image.metadata.name.clone(),
        request.pool.metadata.name.clone(),
        request.network.metadata.name.clone(),
        request.role == MachineRole::ControlPlane,
        request.moves.map(|machine| machine.spec.host.clone()),
        doubted.then(|| request.cluster.key()),
    )
}

/// A shape of machine with the rules that hold for the whole plan.
pub(super) struct Shape {
    pub(super) number: ShapeNumber,
    /// By host.
    pub(super) refusals: Vec<Option<Refusal>>,
}

/// All hosts with all claims.
pub(crate) struct Fleet {
    pub(super) packer: Packer,
    pub(super) names: Vec<String>,
    numbers: BTreeMap<String, HostNumber>,
    pub(super) pools: Vec<String>,
    /// Zone and rack by the packer's number of the rack.
    pub(super) racks: Vec<(String, String)>,
    /// Image digest → the packer's number.
    images: BTreeMap<String, usize>,
    shapes: BTreeMap<ShapeKey, Shape>,
    /// (cluster, group) → hosts with their number of machines; control planes have the empty group.
    groups: BTreeMap<(NamespacedName, String), BTreeMap<HostNumber, u32>>,
    /// Names of domains of machines in the store, and of all domains that were seen: where they are.
    names_claimed: BTreeMap<String, BTreeSet<HostNumber>>,
    names_seen: BTreeMap<String, Vec<(HostNumber, Uuid)>>,
    /// Dedicated threads that machines have, by host.
    pinned: BTreeMap<HostNumber, BTreeSet<u32>>,
    /// What was claimed in this plan, so that a trial can be undone.
    log: Vec<Undo>,
    /// What clusters that say nothing else ask for.
    default_admission: Admission,
    /// Clusters of which hosts have machines that the store does not know, once somebody asks.
    doubted: Option<BTreeMap<NamespacedName, Lost>>,
}

enum Undo {
    Claim { host: HostNumber, id: u64, group: (NamespacedName, String), name: String, cpus: Vec<u32> },
    Image { host: HostNumber, pool: usize, mib: u64, image: usize },
}

/// A state to come back to.
pub(crate) struct Saved {
    length: usize,
    guard: Option<Guard>,
}

/// What a new machine is bound to on its host.
#[derive(Default)]
pub(crate) struct Binding {
    pub(crate) shared_cpus: CpuSet,
    pub(crate) numa: Vec<NumaCell>,
}

impl Fleet {
    /// All claims of machines and volumes in the store, of those being deleted too, until they are proved gone (a machine may be
    /// so before its disks); but for one machine, if it asks as if it were not there.
    pub(crate) fn new(draft: &Draft<'_>, without: Option<&NamespacedName>) -> Self {
        let snapshot = draft.snapshot;
        let mut fleet = Fleet {
            packer: Packer::default(),
            names: Vec::new(),
            numbers: BTreeMap::new(),
            pools: snapshot.pools.keys().cloned().collect(),
            racks: Vec::new(),
            images: BTreeMap::new(),
            shapes: BTreeMap::new(),
            groups: BTreeMap::new(),
            names_claimed: BTreeMap::new(),
            names_seen: BTreeMap::new(),
            pinned: BTreeMap::new(),
            log: Vec::new(),
            default_admission: Admission::None,
            doubted: None,
        };
        fleet.add_hosts(draft);
        fleet.add_claims(snapshot, without);
        fleet
    }

    fn add_hosts(&mut self, draft: &Draft<'_>) {
        if draft.hosts.values().filter(|host| host.record.capacity.is_some()).count() >= HOSTS_FOR_ADMISSION {
            self.default_admission = Admission::NPlusOne;
        }
        let mut zones: BTreeMap<String, u32> = BTreeMap::new();
        let mut racks: BTreeMap<(String, String), u32> = BTreeMap::new();
        for (name, host) in draft.hosts.iter() {
            let place = (host.spec.zone.clone(), host.spec.rack.clone());
            let next = u32::try_from(zones.len()).unwrap_or(u32::MAX);
            let zone = *zones.entry(place.0.clone()).or_insert(next);
            let rack = *racks.entry(place.clone()).or_insert_with(|| {
                self.racks.push(place);
                self.packer.add_rack(zone)
            });
            let is_open = rules::usable(draft, host).is_ok();
            let number = self.packer.add_host(offer(draft.snapshot, host, &self.pools), rack, is_open);
            self.names.push(name.clone());
            self.numbers.insert(name.clone(), number);
            if let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(name) {
                for domain in world.domains.values() {
                    self.names_seen.entry(domain.name.clone()).or_default().push((number, domain.uuid));
                }
            }
        }
    }

    fn add_claims(&mut self, snapshot: &Snapshot, without: Option<&NamespacedName>) {
        let mut disks: BTreeMap<NamespacedName, (usize, u64)> = BTreeMap::new();
        for volume in snapshot.volumes.values() {
            let Some(host) = self.number(&volume.spec.host) else { continue };
            let Some(pool) = self.pools.iter().position(|pool| *pool == volume.spec.pool) else { continue };
            let mib = volume.spec.capacity.0;
            if let VolumeContent::MachineDisk { machine, .. } = &volume.spec.content {
                let owner = NamespacedName::new(&volume.metadata.namespace, machine);
                if Some(&owner) == without {
                    continue;
                }
                // What it has on a host that it has left, or is on its way to, is no part of its claim where it is.
                let is_there = |machine: &Machine| {
                    Some(host) == self.number(&machine.spec.host) && !machine.record.disks_only
                };
                if snapshot.machines.get(&owner).is_some_and(is_there) {
                    let (in_pool, sum) = disks.entry(owner).or_insert((pool, 0));
                    if *in_pool == pool {
                        *sum += mib;
                        continue;
                    }
                }
            }
            self.packer.take_disk(host, pool, mib, 0);
        }
        // The oldest first: how long a host has been in use counts.
        let mut machines: Vec<(&NamespacedName, &Machine)> = snapshot.machines.iter().collect();
        machines.sort_by_key(|(key, machine)| (machine.metadata.creation_timestamp, *key));
        for (key, machine) in machines {
            if Some(key) == without || machine.record.disks_only {
                continue;
            }
            let Some(host) = self.number(&machine.spec.host) else { continue };
            let disk = disks.get(key).copied();
            let claim = self.claim_of(host, &machine.spec, disk);
            self.packer.take(host, claim);
            let group = (cluster_of(machine), machine.spec.group.clone());
            *self.groups.entry(group).or_default().entry(host).or_default() += 1;
            self.names_claimed.entry(machine.spec.domain.name.clone()).or_default().insert(host);
            let cpus = machine.spec.numa.iter().flat_map(|cell| cell.cpus.0.iter().copied());
            self.pinned.entry(host).or_default().extend(cpus);
            // One that is on its way has room at both ends of it.
            let to = machine.record.migration.as_ref().and_then(|migration| self.number(&migration.to));
            if let Some(to) = to {
                self.claim_target(to, machine);
            }
        }
    }

    /// The claim of a machine that is to come to a host alive, but for its disks.
    fn claim_target(&mut self, to: HostNumber, machine: &Machine) {
        let claim = self.claim_of(to, &machine.spec, None);
        self.packer.take(to, claim);
        let group = (cluster_of(machine), machine.spec.group.clone());
        *self.groups.entry(group).or_default().entry(to).or_default() += 1;
        self.names_claimed.entry(machine.spec.domain.name.clone()).or_default().insert(to);
    }

    fn claim_of(&self, host: HostNumber, spec: &MachineSpec, disk: Option<(usize, u64)>) -> Claim {
        let (pool, disk_mib) = disk.unwrap_or((usize::MAX, 0));
        let demand = Demand {
            vcpus: u64::from(spec.vcpus),
            memory_mib: spec.memory.0,
            dedicated: spec.cpu_policy == CpuPolicy::Dedicated,
            hugepages: spec.hugepages,
            nodes: u32::try_from(spec.numa.len()).unwrap_or(u32::MAX),
            pool,
            disk_mib,
            soon_mib: 0,
        };
        let rooms = self.packer.room(host).map(|room| room.nodes.as_slice()).unwrap_or_default();
        let nodes = spec
            .numa
            .iter()
            .filter_map(|cell| rooms.iter().position(|node| node.number == cell.host_node))
            .collect();
        Claim { demand, nodes }
    }

    /// How many hosts there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn number(&self, host: &str) -> Option<HostNumber> {
        self.numbers.get(host).copied()
    }

    fn is_doubted(&self, request: &Request<'_>) -> bool {
        self.doubted.as_ref().is_some_and(|doubted| doubted.contains_key(&request.cluster.key()))
    }

    /// The request's shape, judged for all hosts when it is asked for first.
    pub(super) fn shape(&mut self, draft: &Draft<'_>, request: &Request<'_>) -> &Shape {
        let doubted = self.doubted.get_or_insert_with(|| lost::doubted_clusters(draft.snapshot));
        let doubted = doubted.get(&request.cluster.key()).cloned();
        let key = shape_key(request, doubted.is_some());
        if !self.shapes.contains_key(&key) {
            let image = self.image(draft, request.image);
            let doubt = lost::store_is_behind(draft.snapshot).or(doubted);
            let doubt = doubt.map(|lost| rules::refusal(lost.reason, lost.message));
            let refusals: Vec<Option<Refusal>> = draft
                .hosts
                .values()
                .map(|host| {
                    let judged =
                        rules::usable(draft, host).and_then(|()| rules::fitting(draft, host, request));
                    judged.err().or_else(|| doubt.clone())
                })
                .collect();
            let eligible = refusals.iter().map(Option::is_none).collect();
            let number = self.packer.add_shape(self.demand(request), Some(image), eligible);
            self.shapes.insert(key.clone(), Shape { number, refusals });
        }
        &self.shapes[&key]
    }

    /// The image's number and size, with the hosts that have it.
    fn image(&mut self, draft: &Draft<'_>, image: &Image) -> (usize, u64) {
        let mib = super::image_files(image).map(|(_, _, mib)| mib).sum();
        let next = self.images.len();
        if let Some(number) = self.images.get(&image.spec.digest) {
            return (*number, mib);
        }
        self.images.insert(image.spec.digest.clone(), next);
        for (number, name) in self.names.iter().enumerate() {
            if rules::missing_image_mib(draft, name, image) == 0 {
                self.packer.put_image(u32::try_from(number).unwrap_or(u32::MAX), next);
            }
        }
        (next, mib)
    }

    fn demand(&self, request: &Request<'_>) -> Demand {
        let class = &request.class.spec;
        Demand {
            vcpus: u64::from(class.vcpus),
            memory_mib: class.memory.0,
            dedicated: class.cpu_policy == CpuPolicy::Dedicated,
            hugepages: class.hugepages,
            nodes: class.bound_nodes(),
            pool: self
                .pools
                .iter()
                .position(|pool| *pool == request.pool.metadata.name)
                .unwrap_or(usize::MAX),
            disk_mib: request.disks_mib(),
            // etcd's disk is preallocated and the seed is uploaded; the root disk grows later.
            soon_mib: request.etcd_mib() + SEED_MIB + 1,
        }
    }

    /// What the request's machine has to keep to beside room.
    pub(super) fn choice(&mut self, draft: &Draft<'_>, request: &Request<'_>) -> Choice {
        let (shape, hosts) = {
            let shape = self.shape(draft, request);
            (shape.number, shape.refusals.len())
        };
        let mut peers = Peers::default();
        match request.role {
            MachineRole::ControlPlane => {
                for host in request.control_plane_hosts.iter().filter_map(|name| self.number(name)) {
                    *peers.hosts.entry(host).or_default() += 1;
                }
                if request.cluster.spec.control_plane.spread == Spread::Required {
                    self.limit(request, shape, hosts, &mut peers);
                }
            }
            MachineRole::Worker => {
                let group = (request.cluster.key(), request.group.to_owned());
                peers.hosts = self.groups.get(&group).cloned().unwrap_or_default();
            }
        }
        let mut excluded = self.names_claimed.get(&request.domain_name).cloned().unwrap_or_default();
        let seen = self.names_seen.get(&request.domain_name).into_iter().flatten();
        excluded.extend(seen.filter(|(_, uuid)| Some(*uuid) != request.own_domain).map(|(host, _)| *host));
        Choice { peers, excluded, guarded: self.is_guarded(draft, request) }
    }

    /// Control planes on different hosts, then in different racks, then in different zones, as far as they go: the
    /// strictest limits under which all of them would find hosts, were these empty.
    fn limit(&self, request: &Request<'_>, shape: ShapeNumber, hosts: usize, peers: &mut Peers) {
        let members = u32::try_from(request.control_plane_hosts.len() + 1).unwrap_or(u32::MAX);
        let members = members.max(request.cluster.spec.control_plane.replicas);
        peers.host_limit = 1;
        let mut by_rack: BTreeMap<u32, u32> = BTreeMap::new();
        for host in 0..u32::try_from(hosts).unwrap_or(u32::MAX) {
            let open = self.packer.hosts().get(host as usize).is_some_and(|host| host.is_open);
            if (open && self.packer.is_eligible(shape, host)) || peers.hosts.contains_key(&host) {
                *by_rack.entry(self.packer.place_of(host).0).or_default() += 1;
            }
        }
        let Some(rack_limit) = least_limit(members, by_rack.values().copied()) else { return };
        let mut by_zone: BTreeMap<u32, u32> = BTreeMap::new();
        for (rack, hosts) in &by_rack {
            let zone = self.packer.zone_of(*rack);
            *by_zone.entry(zone).or_default() += (*hosts).min(rack_limit);
        }
        if by_rack.len() > 1 {
            peers.rack_limit = rack_limit;
        }
        if by_zone.len() > 1 {
            peers.zone_limit = least_limit(members, by_zone.values().copied()).unwrap_or(u32::MAX);
        }
    }

    /// Whether the machine has to leave room for a host's death. Those that replace lost ones use that room.
    fn is_guarded(&self, draft: &Draft<'_>, request: &Request<'_>) -> bool {
        if request.cluster.spec.admission.unwrap_or(self.default_admission) == Admission::None {
            return false;
        }
        // It is there already: that its host is emptied may cost the room that was kept.
        let replaces = request.moves.is_some()
            || match request.role {
                MachineRole::ControlPlane => request.cluster.record.initialized,
                MachineRole::Worker => {
                    let group = NamespacedName::new(&request.machine.namespace, request.group);
                    draft
                        .groups
                        .get(&group)
                        .and_then(|group| group.spec.replicas)
                        .is_some_and(|replicas| names::machine_number(&request.machine.name) > replicas)
                }
            };
        !replaces
    }

    /// Claims room for the request's machine on a host; with its image, if that is not there yet.
    pub(crate) fn claim(&mut self, draft: &Draft<'_>, request: &Request<'_>, host_name: &str) -> Binding {
        let Some(host) = self.number(host_name) else { return Binding::default() };
        let shape = self.shape(draft, request).number;
        let missing_mib = self.packer.missing_image_mib(shape, host);
        let demand = self.packer.demand(shape).clone();
        if missing_mib > 0 {
            let image = self.image(draft, request.image).0;
            self.packer.take_disk(host, demand.pool, missing_mib, missing_mib);
            self.packer.put_image(host, image);
            self.log.push(Undo::Image { host, pool: demand.pool, mib: missing_mib, image });
        }
        let (id, nodes) = self.packer.claim(shape, host);
        let group = (request.cluster.key(), request.group.to_owned());
        *self.groups.entry(group.clone()).or_default().entry(host).or_default() += 1;
        let name = request.domain_name.clone();
        self.names_claimed.entry(name.clone()).or_default().insert(host);
        let binding = match draft.hosts.get(&self.names[host as usize]) {
            Some(object) => self.binding(object, host, &demand, &nodes),
            None => Binding::default(),
        };
        let cpus: Vec<u32> = binding.numa.iter().flat_map(|cell| cell.cpus.0.iter().copied()).collect();
        self.pinned.entry(host).or_default().extend(cpus.iter().copied());
        self.log.push(Undo::Claim { host, id, group, name, cpus });
        binding
    }

    fn binding(&self, object: &Host, host: HostNumber, demand: &Demand, nodes: &[usize]) -> Binding {
        let nothing = BTreeSet::new();
        let pinned = self.pinned.get(&host).unwrap_or(&nothing);
        let dedicated = if demand.dedicated { dedicated_cpus(object) } else { BTreeMap::new() };
        let parts = u64::from(demand.nodes.max(1));
        let vcpus = u32::try_from(demand.vcpus / parts).unwrap_or(u32::MAX);
        let rooms = self.packer.room(host).map(|room| room.nodes.as_slice()).unwrap_or_default();
        let numa = nodes
            .iter()
            .filter_map(|position| rooms.get(*position))
            .map(|node| {
                let cpus = dedicated.get(&node.number).into_iter().flatten().copied();
                let free = cpus.filter(|cpu| !pinned.contains(cpu));
                NumaCell {
                    host_node: node.number,
                    vcpus,
                    memory: Mebibytes(demand.memory_mib / parts),
                    cpus: CpuSet(free.take(vcpus as usize).collect()),
                }
            })
            .collect();
        Binding { shared_cpus: shared_cpus(object), numa }
    }

    /// Remembers the state, to come back to it.
    pub(crate) fn save(&self) -> Saved {
        Saved { length: self.log.len(), guard: self.packer.save_guard() }
    }

    /// Gives back all that was claimed since.
    pub(crate) fn undo(&mut self, saved: Saved) {
        while self.log.len() > saved.length {
            match self.log.pop() {
                Some(Undo::Claim { host, id, group, name, cpus }) => {
                    self.packer.give(host, id);
                    if let Some(hosts) = self.groups.get_mut(&group) {
                        match hosts.get_mut(&host) {
                            Some(count) if *count > 1 => *count -= 1,
                            _ => _ = hosts.remove(&host),
                        }
                    }
                    if let Some(hosts) = self.names_claimed.get_mut(&name) {
                        hosts.remove(&host);
                    }
                    if let Some(pinned) = self.pinned.get_mut(&host) {
                        cpus.iter().for_each(|cpu| _ = pinned.remove(cpu));
                    }
                }
                Some(Undo::Image { host, pool, mib, image }) => {
                    self.packer.drop_image(host, image);
                    self.packer.give_disk(host, pool, mib, mib);
                }
                None => break,
            }
        }
        self.packer.restore_guard(saved.guard);
    }

    /// Where the request's machine may not go because of its domain's name, and why.
    pub(super) fn name_refusal(&self, request: &Request<'_>, host: HostNumber) -> Option<Refusal> {
        let wanted = &request.domain_name;
        if self.names_claimed.get(wanted).is_some_and(|hosts| hosts.contains(&host)) {
            let message = format!("another machine's domain is called {wanted} there");
            return Some(rules::refusal("NameTaken", message));
        }
        let mut seen = self.names_seen.get(wanted).into_iter().flatten();
        let (_, uuid) = seen.find(|(on, uuid)| *on == host && Some(*uuid) != request.own_domain)?;
        let message = format!(
            "a domain that is not Ashlar's is called {wanted} there (UUID {uuid}): rename or remove it"
        );
        Some(rules::refusal("NameTaken", message))
    }

    /// What of the request's image is not on the host yet; the request's shape is known already.
    pub(super) fn missing_image_mib(&self, request: &Request<'_>, host: HostNumber) -> u64 {
        self.shapes
            .get(&shape_key(request, self.is_doubted(request)))
            .map_or(0, |shape| self.packer.missing_image_mib(shape.number, host))
    }

    /// Memory claimed on a host by its machines.
    pub(super) fn claimed_memory_mib(&self, host: HostNumber) -> i64 {
        let claims = self.packer.hosts()[host as usize].claims.values();
        claims.map(|claim| signed(claim.demand.memory_mib)).sum()
    }
}
