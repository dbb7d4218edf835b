//! What a seed draws: how big its world is, and which kinds of fault it has (swarm testing: not all at once, because
//! some hide others).

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

/// How big a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Up to 3 hosts and 8 machines.
    Tiny,
    /// Up to 6 hosts and 20 machines.
    Small,
    /// Up to 10 hosts and 40 machines.
    Medium,
    /// 20 hosts and up to 100 machines.
    Large,
}

impl Size {
    pub(super) fn draw(rng: &mut ChaCha12Rng) -> Self {
        // A large world takes as long as a hundred tiny ones.
        match rng.random_range(0..1000) {
            0..750 => Size::Tiny,
            750..960 => Size::Small,
            960..996 => Size::Medium,
            _ => Size::Large,
        }
    }

    pub(super) fn hosts(self, rng: &mut ChaCha12Rng) -> u32 {
        match self {
            Size::Tiny => rng.random_range(1..=3),
            Size::Small => rng.random_range(3..=6),
            Size::Medium => rng.random_range(5..=10),
            Size::Large => 20,
        }
    }

    /// Machines that are asked for at most.
    pub(super) fn machines(self) -> u32 {
        match self {
            Size::Tiny => 8,
            Size::Small => 20,
            Size::Medium => 40,
            Size::Large => 100,
        }
    }

    pub(super) fn rounds(self, rng: &mut ChaCha12Rng) -> u32 {
        match self {
            Size::Tiny => rng.random_range(2..=5),
            Size::Small => rng.random_range(2..=4),
            Size::Medium | Size::Large => rng.random_range(1..=3),
        }
    }
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    HostDown,
    HostHung,
    HostFrozen,
    HostMute,
    HostPower,
    HostSlow,
    DiskSlow,
    LinksCut,
    LinkOneWay,
    DaemonRestart,
    PoolUnmounted,
    PoolFull,
    VirshPower,
    VirshUndefine,
    VirshRename,
    VirshStrip,
    VirshTakeDisk,
    HostHides,
    BootFails,
    BootHangs,
    DisksDie,
    ImageRots,
    FiltersLost,
    ClockWrong,
    HostClockWrong,
    OldStore,
}

impl Kind {
    const ALL: [Kind; 26] = [
        Kind::HostDown,
        Kind::HostHung,
        Kind::HostFrozen,
        Kind::HostMute,
        Kind::HostPower,
        Kind::HostSlow,
        Kind::DaemonRestart,
        Kind::PoolUnmounted,
        Kind::PoolFull,
        Kind::VirshPower,
        Kind::VirshUndefine,
        Kind::VirshRename,
        Kind::VirshStrip,
        Kind::VirshTakeDisk,
        Kind::HostHides,
        Kind::BootFails,
        Kind::BootHangs,
        Kind::DisksDie,
        Kind::ImageRots,
        Kind::FiltersLost,
        Kind::ClockWrong,
        Kind::HostClockWrong,
        Kind::OldStore,
        Kind::DiskSlow,
        Kind::LinksCut,
        Kind::LinkOneWay,
    ];

    /// Of 100 seeds, so many have it.
    fn percent(self) -> u32 {
        match self {
            Kind::VirshStrip | Kind::VirshTakeDisk | Kind::DisksDie => 10,
            Kind::OldStore => 3,
            _ => 30,
        }
    }
}

/// What one seed has.
pub(super) struct Mix {
    pub(super) kinds: Vec<Kind>,
    /// Percent of rounds in which such things happen.
    pub(super) kill: u32,
    pub(super) sleep: u32,
    pub(super) two_engines: u32,
    /// Calls that go wrong in a round, at most.
    pub(super) calls: u32,
    /// Faults of a round, at most.
    pub(super) faults: u32,
    /// Hosts that are nearly too small.
    pub(super) tight: bool,
    pub(super) overlay: bool,
}

impl Mix {
    pub(super) fn draw(rng: &mut ChaCha12Rng) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| rng.random_range(0..100) < kind.percent()).collect();
        let often = |rng: &mut ChaCha12Rng| [0, 30, 80][rng.random_range(0..3)];
        Mix {
            kinds,
            kill: often(rng),
            sleep: [0, 0, 20][rng.random_range(0..3)],
            two_engines: [0, 0, 0, 50][rng.random_range(0..4)],
            calls: [0, 0, 2, 8][rng.random_range(0..4)],
            faults: rng.random_range(0..=4),
            tight: rng.random_range(0..100) < 15,
            overlay: rng.random_range(0..100) < 20,
        }
    }
}
