//! The engine's public face.

use std::{sync::Arc, time::Duration};

use ashlar_api::Object;
use ashlar_plan::{Plan, Snapshot};
use ashlar_store::Store;

use crate::{EngineError, EventSink, Goal, RunSummary, Scope, Settings, effects::World, vault::Vault};

/// Reads the store, looks at the world, plans, and makes it so.
///
/// One engine works on one store at a time (the store's engine lock holds that); any number may read.
pub struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) world: World,
    pub(crate) vault: Arc<Vault>,
    pub(crate) settings: Settings,
    pub(crate) sink: Arc<dyn EventSink>,
}

impl Engine {
    /// Makes an engine. Nothing is read or asked yet.
    pub fn new(
        store: Arc<dyn Store>,
        world: World,
        vault: Arc<Vault>,
        settings: Settings,
        sink: Arc<dyn EventSink>,
    ) -> Self {
        Engine { store, world, vault, settings, sink }
    }

    /// Reads the store and looks at the world. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read. A host or cluster that does not answer is no error: the snapshot says so.
    pub async fn snapshot(&self, _scope: &Scope) -> Result<Snapshot, EngineError> {
        Err(EngineError::Refused("the engine cannot observe".to_owned()))
    }

    /// Plans. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read; no plan can be made.
    pub async fn plan(&self, _scope: &Scope) -> Result<(Snapshot, Plan), EngineError> {
        Err(EngineError::Refused("the engine cannot plan".to_owned()))
    }

    /// Plans as if the objects had been applied. Changes nothing.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn plan_with(
        &self,
        _objects: Vec<Object>,
        _scope: &Scope,
    ) -> Result<(Snapshot, Plan), EngineError> {
        Err(EngineError::Refused("the engine cannot plan".to_owned()))
    }

    /// Works until the goal is met, nothing can go on without a person, or the time is up.
    ///
    /// # Errors
    /// [`EngineError::Blocked`], [`EngineError::NodeFailed`], [`EngineError::Deadline`], or the store failed.
    /// In every case running again goes on from where this run ended.
    pub async fn run(
        &self,
        _scope: &Scope,
        _goal: &Goal,
        _deadline: Duration,
    ) -> Result<RunSummary, EngineError> {
        Err(EngineError::Refused("the engine cannot run".to_owned()))
    }
}
