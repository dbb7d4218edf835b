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
mod address;
mod api_use;
pub mod bootstrap;
pub mod certificates;
pub mod check;
pub mod definition;
pub mod defragmentation;
mod distrust;
pub mod domain;
mod draft;
pub mod drift;
mod elsewhere;
mod etcd;
pub mod explain;
mod fates;
mod fence;
mod fencing;
mod forecast;
pub mod guard;
mod health;
pub mod ids;
pub mod in_place;
mod lifecycle;
mod lost;
mod machine;
mod migration;
pub mod names;
pub mod network;
pub mod node_seen;
pub mod objects;
pub mod observed;
pub mod overwriting;
mod pairs;
mod patience;
pub mod place;
pub mod plan;
pub mod render;
pub mod report;
pub mod result;
pub mod serving;
pub mod snapshot;
pub mod status;
mod wanted_addons;

pub use action::Action;
pub use api_use::{ApiUseSeen, DeprecatedApi, api_use_matters};
pub use definition::Definition;
pub use distrust::{
    DOMAINS_LOST_ANNOTATION, FILES_LOST_ANNOTATION, distrust_emptied_hosts, distrust_emptied_pools,
};
pub use domain::{DomainBinding, DomainSpec};
pub use draft::MAX_COMMIT_WRITES;
pub use drift::{Drift, DriftKind};
pub use fates::{Fate, MachineFate, fates};
pub use fence::has_ended as fence_has_ended;
pub use fence::proof as proof_of_host_off;
pub use fencing::{fencing_doubt, too_many_silent};
pub use guard::Guard;
pub use ids::Ids;
pub use lifecycle::CLUSTER_LABEL;
pub use machine::drain::drained_nodes;
pub use machine::out_of_service::out_of_service;
pub use migration::ATTEMPTS as MIGRATION_ATTEMPTS;
pub use node_seen::{KubeletSeen, NodeSeen, StaticPodSeen};
pub use objects::Objects;
pub use observed::*;
pub use place::go_architecture;
pub use plan::plan;
pub use report::{Note, NoteKind, Placement, Refusal, Report, Verdict};
pub use result::{Block, Decision, Plan, PlanError, Step, StepState, Wait};
pub use serving::{AskedCertificate, ServingRequest};
pub use snapshot::{SecretFacts, Snapshot};
pub use wanted_addons::{WantedAddon, wanted_addons};
