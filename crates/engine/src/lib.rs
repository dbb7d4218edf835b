//! The engine: watch → snapshot → plan → check → apply → status, and the traits that it needs from the world.
//!
//! The engine decides nothing about clusters (that is `ashlar-plan`) and knows no libvirt, HTTP or terminal.
//! What it needs from outside stands in [`effects`], implemented for real hosts by `ashlar-libvirt` and
//! `ashlar-kubeapi`, and by `ashlar-sim` in memory. No method there spans more than one external call: ordering,
//! retries and recovery are in this crate, so that the simulated world proves something.
//!
//! Nothing here needs a particular async runtime: time comes from [`effects::Clock`] only, concurrency from
//! `futures`, and nothing is spawned. Dropping the future of [`Engine::run`] at any await point is a crash as far
//! as the engine is concerned, and the next run ends where an undisturbed one would have.

pub mod audit;
#[cfg(feature = "contract-tests")]
pub mod contract;
pub mod declare;
pub mod effects;
pub mod enrol;
pub mod etcd_copy;
pub mod pki;
pub mod readable;
pub mod seed;
pub mod vault;

mod access;
mod addon;
mod addresses;
mod belongs;
mod clock_check;
mod commit;
mod deadline;
mod disruptions;
mod engine;
mod error;
mod event;
mod exec;
mod fencing;
mod goal;
mod hex;
mod history;
mod ids;
mod lane;
mod lanes;
mod lease;
mod objects;
mod observe;
mod pass;
mod planner;
mod progress;
mod publish;
mod read;
mod retry;
mod run;
mod scope;
mod serve;
mod settings;
mod statuses;
mod stuck;
#[cfg(test)]
mod testing;
mod upkeep;
mod uploads;
mod wish;

pub use clock_check::check_clock;
pub use engine::Engine;
pub use error::{BlockedStep, EngineError, FailedNode};
pub use event::{CommittedWrite, EngineEvent, EventSink, NoEvents, Transfer, WriteVerb};
pub use goal::{Goal, RunSummary};
pub use scope::Scope;
pub use serve::{Control, PassReport, ServeObserver};
pub use settings::Settings;
pub use upkeep::{Chore, ChoreDeed, CopyPolicy, Upkeep};
pub use wish::Wish;
