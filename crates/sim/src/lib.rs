//! The simulated world: hosts, domains, guests and API servers in memory, behind the engine's own traits.
//!
//! Production planner, engine and reconcilers run unchanged; only what they reach through
//! [`ashlar_engine::effects`] is simulated. Time is virtual and jumps from timer to timer; everything that happens
//! follows from the world's state and a seed, so that a run can be repeated bit for bit.
//!
//! The world keeps its own truth (which file exists, which domain runs with which disk, which token an API server

pub mod adversary;
mod canonical;
mod clock;
mod etcd;
pub mod executor;
mod fault;
pub mod fixtures;
mod guest;
mod host;
mod hypervisor;
mod image;
mod kube;
mod network;
mod oracle;
mod raft;
mod record;
pub mod scenario;
mod seed;
mod shell;
mod simulation;
mod store;
mod world;

pub use etcd::{SimEtcd, SimMember};
pub use fault::{CallFault, CrashPoint, Moment};
pub use host::{Hidden, SimDomain, SimHost, SimPool, SimVolume};
pub use image::Arrived;
pub use raft::MemberLog;
pub use record::Record;
pub use seed::SeedFacts;
pub use simulation::{Both, HostOptions, Outcome, POOL, Planned, Simulation, SimulationError, error_text};
pub use store::CrashingStore;
pub use world::{SimCluster, SimNode, SimToken, SimWorld, State};
