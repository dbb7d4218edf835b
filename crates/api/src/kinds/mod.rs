//! One module per kind.

mod class;
mod cluster;
mod drift;
mod event;
mod fencing;
mod health;
mod host;
mod image;
mod machine;
mod migration;
mod network;
mod pool;
mod secret;
mod volume;
mod worker_group;

pub use class::*;
pub use cluster::*;
pub use drift::*;
pub use event::*;
pub use fencing::*;
pub use health::*;
pub use host::*;
pub use image::*;
pub use machine::*;
pub use migration::*;
pub use network::*;
pub use pool::*;
pub use secret::*;
pub use volume::*;
pub use worker_group::*;

/// A record or status of a kind that has none.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
