//! The pure core: what a pool of hosts should look like, and the next steps there.
//!
//! [`plan`](plan::plan) is a synchronous function of a [`Snapshot`]. It has two tiers:
//!
//! 1. The *pool tier* decides: which host, which addresses, which disks, which version. Its output are
//!    [`Decision`]s: writes to the store, committed by compare-and-set before anything happens.
//! 2. The *machine tier* compares each decided object with the observed world and gives the [`Step`]s that
//!    are left, in order: done, ready, waiting (for what) or blocked (by what).
//!
//! `ashlar plan`, dry-run, the engine and the simulation call this one function. No clock, no I/O, no
//! entropy: the time is in the snapshot, random values come from [`Ids`].

pub mod action;
pub mod addons;
pub mod bootstrap;
pub mod domain;
pub mod ids;
pub mod observed;
pub mod report;
pub mod result;
pub mod snapshot;

pub use action::Action;
pub use domain::DomainSpec;
pub use ids::Ids;
pub use observed::*;
pub use report::{Note, NoteKind, Report};
pub use result::{Block, Decision, Plan, PlanError, Step, StepState, Wait};
pub use snapshot::Snapshot;
