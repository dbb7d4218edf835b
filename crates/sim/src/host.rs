//! A simulated host: what libvirt would know, and what really lies on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::{HostCapacity, Machine, VolumeFormat};
use ashlar_plan::{
    Definition, DomainMark, DomainSeen, DomainSpec, DomainState, HostWorld, NetworkSeen, PoolSeen, VolumeSeen,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::SimBmc;
use crate::glance::Glanced;
use crate::image::Arrived;
use crate::seed::SeedFacts;
use crate::whereabouts::Stamped;

/// A host.
#[derive(Clone, Debug)]
pub struct SimHost {
    /// Whether it answers.
    pub reachable: bool,
    /// Whether it has no power, and nothing of it runs.
    pub off: bool,
    /// Whether its BMC has power although it has none: it was turned off, or turned itself off.
    pub standby: bool,
    /// Its BMC.
    pub bmc: SimBmc,
    /// When a link that was cut for a while comes back.
    pub(crate) back_at: Option<Timestamp>,
    /// Whether it takes calls and never answers them.
    pub hung: bool,
    /// Whether all of it stands still: its guests, too. What is sent to it arrives when it goes on.
    pub frozen: bool,
    /// Whether what is sent to it arrives, and no answer comes back.
    pub mute: bool,
    /// How long every change takes there.
    pub slow_s: u32,
    /// How long every change of a file takes there; guests are slow, too.
    pub disk_slow_s: u32,
    /// When somebody last took its networks' filters away.
    pub filters_lost_at: Option<Timestamp>,
    /// How often its libvirtd was started.
    pub daemon_starts: u32,
    /// How often it lost its power: what was under way there then is never done.
    pub power_cuts: u32,
    /// Its QEMU takes no guest that comes from another host.
    pub refuses_guests: bool,
    /// By how many seconds its clock, and those of its guests, are wrong.
    pub clock_error_s: i64,
    /// Its own name.
    pub hostname: String,
    /// What it has and does not show.
    pub hides: BTreeSet<Hidden>,
    /// What it shows in place of what is so now.
    pub stale: Option<Box<HostWorld>>,
    /// libvirt's UUID of it.
    pub host_uuid: Uuid,
    /// SSH host key.
    pub ssh_host_key: String,
    /// Hardware.
    pub capacity: HostCapacity,
    /// Whether KVM works there; libvirt always claims that it does.
    pub kvm_works: bool,
    /// Who holds the host lease: installation, highest token seen, since when.
    pub lease: Option<(Uuid, u64, Timestamp)>,
    /// Bridges.
    pub bridges: BTreeSet<String>,
    /// Networks of ours by uid.
    pub networks: BTreeMap<Uuid, NetworkSeen>,
    /// What has a name like ours, and is somebody else's.
    pub foreign_parts: BTreeSet<String>,
    /// Whether its kernel has VXLAN.
    pub vxlan: bool,
    /// MTU between hosts.
    pub underlay_mtu: u16,
    /// Pools by UUID.
    pub pools: BTreeMap<Uuid, SimPool>,
    /// Domains by UUID.
    pub domains: Stamped<BTreeMap<Uuid, SimDomain>>,
    /// What processes were told at a glance.
    pub(crate) glanced: BTreeMap<usize, Glanced>,
    /// Probe domains: whether they mark their console.
    pub(crate) probes: BTreeMap<Uuid, bool>,
}

/// What a host may answer an empty list for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hidden {
    /// Its domains.
    Domains,
    /// The volumes in its pools.
    Volumes,
    /// Its pools.
    Pools,
}

/// A storage pool.
#[derive(Clone, Debug, Default)]
pub struct SimPool {
    /// libvirt's name.
    pub name: String,
    /// Directory.
    pub path: String,
    /// Capacity.
    pub capacity_mib: u64,
    /// Active (mounted, started).
    pub active: bool,
    /// Active over a directory whose file system is not mounted: libvirt remembers the files, and finds none.
    pub hidden: bool,
    /// On a file system that writes elsewhere instead of over what is there.
    pub copies_on_write: bool,
    /// Volumes by file name.
    pub volumes: BTreeMap<String, SimVolume>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq)]
pub struct SimVolume {
    /// Format.
    pub format: VolumeFormat,
    /// Size.
    pub capacity_bytes: u64,
    /// Backing file's path.
    pub backing_path: Option<String>,
    /// What arrived of an image's file.
    pub arrived: Arrived,
    /// Whether somebody else's data is in it.
    pub foreign: bool,
    /// What a guest finds on it: a seed that was filled and not wiped.
    pub seed: Option<Arc<SeedFacts>>,
    /// The machine (its uid) that finished its first boot on this root disk.
    pub joined: Option<Uuid>,
    /// Whether what it held was overwritten with zeros.
    pub zeroed: bool,
}

/// A domain.
#[derive(Clone, Debug)]
pub struct SimDomain {
    /// Name.
    pub name: String,
    /// The persistent definition; none for domains that are not Ashlar's.
    pub spec: Option<DomainSpec>,
    /// What of it is told; people edit it.
    pub(crate) definition: Option<Arc<Definition>>,
    /// What it was started with.
    pub(crate) running: Option<Arc<Definition>>,
    /// State.
    pub state: DomainState,
    /// Mark in its definition's metadata.
    pub mark: Option<DomainMark>,
    /// Medium in its drive: of the live domain while it runs, else of the definition. So is the next.
    pub medium_path: Option<String>,
    /// Files that its disks use.
    pub disk_paths: BTreeSet<String>,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// It comes from another host, and not all of it is there yet.
    pub(crate) arriving: bool,
    /// It stands still because it moves: its guest does nothing.
    pub(crate) stands_still: bool,
    /// What libvirt gives as the reason.
    pub(crate) paused_by_migration: bool,
    /// It is off since its guest went to another host, as libvirt says until it is started again.
    pub(crate) migrated_away: bool,
    /// The host that it came from alive.
    pub(crate) came_from: Option<String>,
    /// Its guest never did anything here.
    pub(crate) never_went_on: bool,
    /// It was started at least once.
    pub(crate) has_run: bool,
    /// When a guest that was asked to power off does.
    pub(crate) off_at: Option<Timestamp>,
    /// Console log.
    pub console: Vec<u8>,
    /// What its guest does; gone with the power.
    pub(crate) guest: crate::guest::Guest,
}

impl SimHost {
    /// A host with one pool `images`, one bridge `br0`, and nothing else.
    pub fn new(name: &str, number: u32, capacity: HostCapacity, pool_mib: u64) -> Self {
        let pool = SimPool {
            name: "images".to_owned(),
            path: "/var/lib/libvirt/images".to_owned(),
            capacity_mib: pool_mib,
            active: true,
            hidden: false,
            copies_on_write: false,
            volumes: BTreeMap::new(),
        };
        SimHost {
            reachable: true,
            off: false,
            standby: false,
            bmc: SimBmc::default(),
            back_at: None,
            hung: false,
            frozen: false,
            mute: false,
            slow_s: 0,
            disk_slow_s: 0,
            filters_lost_at: None,
            daemon_starts: 0,
            power_cuts: 0,
            clock_error_s: 0,
            refuses_guests: false,
            hostname: name.to_owned(),
            hides: BTreeSet::new(),
            stale: None,
            host_uuid: Uuid::from_u128(0x4057_0000 + u128::from(number)),
            ssh_host_key: format!("ssh-ed25519 AAAASIM{name}"),
            capacity,
            kvm_works: true,
            lease: None,
            bridges: BTreeSet::from(["br0".to_owned()]),
            networks: BTreeMap::new(),
            foreign_parts: BTreeSet::new(),
            vxlan: true,
            underlay_mtu: 1500,
            pools: BTreeMap::from([(Uuid::from_u128(0x9001_0000 + u128::from(number)), pool)]),
            domains: Stamped::default(),
            glanced: BTreeMap::new(),
            probes: BTreeMap::new(),
        }
    }

    /// Whether another domain that runs has the file open for writing: QEMU locks its disks.
    pub(crate) fn is_locked(&self, path: &str, but: Uuid) -> bool {
        let mut others =
            self.domains.iter().filter(|(uuid, domain)| **uuid != but && domain.state.is_active());
        others.any(|(_, domain)| domain.disk_paths.contains(path))
    }

    /// Bridges that are there, those of our networks too.
    pub(crate) fn all_bridges(&self) -> BTreeSet<String> {
        let made = self.networks.values().filter_map(|network| network.applied.as_ref());
        self.bridges.iter().cloned().chain(made.map(|network| network.bridge.clone())).collect()
    }

    pub(crate) fn volume_at(&self, path: &str) -> Option<&SimVolume> {
        self.pools.values().find_map(|pool| pool.volumes.get(pool.file_name(path)?))
    }

    pub(crate) fn volume_at_mut(&mut self, path: &str) -> Option<&mut SimVolume> {
        self.pools.values_mut().find_map(|pool| {
            let name = pool.file_name(path)?.to_owned();
            pool.volumes.get_mut(&name)
        })
    }
}

impl SimPool {
    pub(crate) fn file_name<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.path)?.strip_prefix('/')
    }

    pub(crate) fn used_mib(&self) -> u64 {
        self.volumes.values().map(SimVolume::allocated_mib).sum()
    }

    pub(crate) fn seen_volume(&self, volume: &SimVolume) -> VolumeSeen {
        if self.hidden { VolumeSeen { capacity_bytes: 0, allocation_bytes: 0 } } else { volume.seen() }
    }

    pub(crate) fn seen(&self) -> PoolSeen {
        PoolSeen {
            name: self.name.clone(),
            path: self.path.clone(),
            capacity_mib: self.capacity_mib,
            available_mib: self.capacity_mib.saturating_sub(self.used_mib()),
            volumes: self
                .volumes
                .iter()
                .map(|(name, volume)| (name.clone(), self.seen_volume(volume)))
                .collect(),
        }
    }
}

impl SimVolume {
    /// A file that somebody made by hand.
    pub fn foreign(capacity_bytes: u64) -> Self {
        SimVolume {
            format: VolumeFormat::Raw,
            capacity_bytes,
            backing_path: None,
            arrived: Arrived::default(),
            foreign: true,
            seed: None,
            joined: None,
            zeroed: false,
        }
    }

    /// An overlay takes next to nothing at first; the rest counts whole.
    fn allocated_mib(&self) -> u64 {
        if self.backing_path.is_some() { 1 } else { self.capacity_bytes.div_ceil(1 << 20) }
    }

    /// Whether nothing was ever written to it.
    fn is_blank(&self) -> bool {
        self.arrived.is_empty() && !self.foreign && self.seed.is_none() && self.joined.is_none()
    }

    pub(crate) fn seen(&self) -> VolumeSeen {
        let allocation_bytes = if self.is_blank() { 0 } else { self.allocated_mib() << 20 };
        VolumeSeen { capacity_bytes: self.capacity_bytes, allocation_bytes }
    }
}

impl SimDomain {
    /// A domain that somebody made by hand.
    pub fn foreign(name: &str, disk_path: &str) -> Self {
        SimDomain {
            name: name.to_owned(),
            spec: None,
            definition: None,
            running: None,
            state: DomainState::Running,
            mark: None,
            medium_path: None,
            disk_paths: BTreeSet::from([disk_path.to_owned()]),
            started_at: None,
            off_at: None,
            has_run: false,
            arriving: false,
            stands_still: false,
            paused_by_migration: false,
            migrated_away: false,
            came_from: None,
            never_went_on: false,
            console: Vec::new(),
            guest: crate::guest::Guest::default(),
        }
    }

    /// A domain as it is after its definition, before [`Self::take_definition`].
    pub(crate) fn defined(spec: DomainSpec) -> Self {
        SimDomain {
            name: spec.name.clone(),
            definition: Some(Arc::new(Definition::of(&spec))),
            running: None,
            spec: Some(spec),
            state: DomainState::ShutOff,
            mark: None,
            medium_path: None,
            disk_paths: BTreeSet::new(),
            started_at: None,
            off_at: None,
            has_run: false,
            arriving: false,
            stands_still: false,
            paused_by_migration: false,
            migrated_away: false,
            came_from: None,
            never_went_on: false,
            console: Vec::new(),
            guest: crate::guest::Guest::default(),
        }
    }

    /// What a cold start takes from the definition.
    pub(crate) fn take_definition(&mut self) {
        let Some(spec) = &self.spec else { return };
        self.mark = Some(spec.mark.clone());
        self.medium_path.clone_from(&spec.seed_path);
        self.disk_paths = spec.disks.iter().map(|disk| disk.path.clone()).collect();
    }

    /// It is defined again: what runs goes on as it was started.
    pub(crate) fn redefine(&mut self, spec: &DomainSpec) {
        self.mark = Some(spec.mark.clone());
        self.spec = Some(spec.clone());
        self.definition = Some(Arc::new(Definition::of(spec)));
        if !self.state.is_active() {
            self.take_definition();
        }
    }

    /// What runs, where that is not what is defined.
    fn runs_otherwise(&self) -> Option<Arc<Definition>> {
        let (running, definition) = (self.running.as_ref()?, self.definition.as_ref()?);
        (!Arc::ptr_eq(running, definition) && running != definition).then(|| Arc::clone(running))
    }

    /// Whether its guest does anything.
    pub(crate) fn is_alive(&self) -> bool {
        self.state.is_active() && !self.stands_still
    }

    /// Ends its process.
    pub fn power_off(&mut self) {
        self.state = DomainState::ShutOff;
        (self.stands_still, self.paused_by_migration, self.migrated_away) = (false, false, false);
        self.started_at = None;
        self.off_at = None;
        self.running = None;
        self.guest = crate::guest::Guest::default();
        self.take_definition();
    }

    /// The machine that it was defined for.
    pub fn machine(&self) -> Option<&Machine> {
        self.spec.as_ref()?.mark.machine.as_deref()
    }

    pub(crate) fn seen(&self, uuid: Uuid) -> DomainSeen {
        DomainSeen {
            uuid,
            name: self.name.clone(),
            state: self.state,
            mark: self.mark.clone(),
            disk_paths: self.disk_paths.clone(),
            medium_path: self.medium_path.clone(),
            persistent: !self.arriving,
            paused_by_migration: self.paused_by_migration,
            migrated_away: self.migrated_away && !self.state.is_active(),
            definition: self.definition.clone().filter(|_| self.mark.is_some()),
            running: self.runs_otherwise().filter(|_| self.mark.is_some()),
        }
    }
}
