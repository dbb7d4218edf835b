//! Declaring: what people write, into the store. Nothing outside the store is touched.

mod apply;
mod delete;
mod maintenance;
mod power;
mod rollout;

pub use apply::{Applied, Declared, Outcome, apply};
pub use delete::{Deleted, delete};
pub use maintenance::{cordon_host, drain_host, fence_host, may_drain_host, record_fence, uncordon_host};
pub use power::{start_cluster, stop_cluster};
pub use rollout::{keep_machine, replace_machine, set_paused};

pub(crate) use apply::lay_over;
pub(crate) use maintenance::wish_empty;

use ashlar_api::{Object, ObjectRef, validate::Violation};
use ashlar_store::Store;

use crate::{EngineError, objects};

/// Why a declaration was refused.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Something in it is wrong; nothing was written.
    #[error("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// Everything that is wrong.
        violations: Vec<Violation>,
    },
    /// There is nothing of that name.
    #[error("there is no {0}")]
    NoSuchObject(ObjectRef),
    /// It is on its way out: nothing else is asked of it any more.
    #[error("{0} is being deleted: it is turned off with that, and not on again")]
    BeingDeleted(ObjectRef),
    /// The store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Everything in the store that people's objects may refer to.
pub(crate) async fn existing(store: &dyn Store) -> Result<ashlar_api::expand::ObjectMap, EngineError> {
    let listing = store.list_raw(None, None).await?;
    let mut all = Vec::with_capacity(listing.items.len());
    for raw in listing.items {
        match objects::kind_of(&raw.key) {
            Some(ashlar_api::Kind::Event | ashlar_api::Kind::Secret) | None => {}
            Some(kind) => all.push(objects::from_raw(kind, raw)?),
        }
    }
    Ok(ashlar_api::expand::object_map(all))
}

/// Whether the object's spec differs.
fn spec_differs(old: &Object, new: &Object) -> Result<bool, ashlar_api::ConversionError> {
    Ok(old.to_value()?.get("spec") != new.to_value()?.get("spec"))
}

#[cfg(test)]
mod tests;
