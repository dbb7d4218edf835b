//! The simulated world: hosts, domains, guests and API servers in memory, behind the engine's own traits.
//!
//! Production planner, engine and reconcilers run unchanged; only what they reach through
//! [`ashlar_engine::effects`] is simulated. Time is virtual and jumps from timer to timer; everything that happens
//! follows from the world's state and a seed, so that a run can be repeated bit for bit.
//!
//! The world keeps its own truth (which file exists, which domain runs with which disk, which token an API server

pub mod adversary;
mod api_use;
mod bmc;
mod canonical;
mod clock;
mod daemon;
mod daemons;
mod election;
mod etcd;
pub mod executor;
mod fault;
pub mod fixtures;
pub mod fleet;
mod glance;
mod guest;
mod host;
mod hypervisor;
mod image;
mod kube;
mod kubelets;
mod link;
mod migration;
mod network;
mod oracle;
mod pods;
mod raft;
mod record;
pub mod scenario;
mod seed;
mod serving;
mod shell;
mod simulation;
mod store;
mod upkeep;
mod whereabouts;
mod world;

/// Half of a story's time went into glibc's allocator.
#[cfg(not(feature = "counted"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "counted")]
#[global_allocator]
static ALLOCATOR: cap::Cap<mimalloc::MiMalloc> = cap::Cap::new(mimalloc::MiMalloc, usize::MAX);

/// Bytes in use, if they are counted (`--features counted`).
pub fn bytes_in_use() -> Option<usize> {
    #[cfg(feature = "counted")]
    return Some(ALLOCATOR.allocated());
    #[cfg(not(feature = "counted"))]
    None
}

pub use bmc::{BmcMood, SimBmc};
pub use daemon::Served;
pub use daemons::{DaemonFault, ServedByTwo};
pub use election::Leadership;
pub use etcd::{SimEtcd, SimMember};
pub use fault::{CallFault, CrashPoint, Moment};
pub use host::{Hidden, SimDomain, SimHost, SimPool, SimVolume};
pub use image::Arrived;
pub use kubelets::PodTrouble;
pub use oracle::HostLosses;
pub use pods::{SimApp, SimPod};
pub use raft::MemberLog;
pub use record::Record;
pub use seed::SeedFacts;
pub use serving::SimCsr;
pub use simulation::{Both, HostOptions, Outcome, POOL, Planned, Simulation, SimulationError, error_text};
pub use store::CrashingStore;
pub use upkeep::SimCopies;
pub use whereabouts::Stamped;
pub use world::{SimCluster, SimNode, SimToken, SimWorld, State};
