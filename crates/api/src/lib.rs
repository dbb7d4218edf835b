//! The kinds of Ashlar: typed objects, their defaults, their validation and their JSON Schema.
//!
//! Everything here is plain data. There is no clock, no I/O, no randomness and no policy: what a cluster
//! *should* look like is decided in `ashlar-plan`, what it *is* comes from `ashlar-engine`.
//!
//! The shapes follow the Kubernetes API conventions (metadata, spec, status with conditions), so that a
//! kubectl-compatible API can be put in front of the store without a rewrite.

pub mod condition;
pub mod cpu_set;
pub mod diff;
pub mod expand;
pub mod host_uri;
pub mod kind;
pub mod kinds;
pub mod manifest;
pub mod meta;
pub mod names;
pub mod object;
pub mod own_network;
pub mod quantity;
pub mod schema;
pub mod upgrade;
pub mod validate;

pub use condition::{Condition, ConditionStatus};
pub use cpu_set::CpuSet;
pub use kind::Kind;
pub use kinds::*;
pub use meta::{NamespacedName, ObjectMeta, ObjectRef, OwnerReference};
pub use object::{ConversionError, Object, Resource, Spec};
pub use quantity::Mebibytes;

/// The API group and version of every kind.
pub const API_VERSION: &str = "ashlar.dev/v1alpha1";
/// The namespace (tenant) of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The namespace of what no tenant owns: image files on hosts.
pub const SYSTEM_NAMESPACE: &str = "ashlar-system";
/// The finalizer that keeps an object in the store until what it stands for is proved gone.
pub const FINALIZER: &str = "ashlar.dev/cleanup";
