//! The engine's public face.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ashlar_api::{DrainBy, Object};
use ashlar_plan::{Plan, Snapshot, overwriting};
use ashlar_store::Store;

use crate::{
    EngineError, EventSink, Goal, RunSummary, Scope, Settings,
    addresses::ForeignAddresses,
    audit::{AuditLog, NoAudit},
    disruptions::Disruptions,
    effects::World,
    lanes::HostLimits,
    lease::Leases,
    observe::{ClusterAccess, Consoles, HostHealth, Kubelets, Questions},
    planner::Planner,
    publish::LastTold,
    read::{ReadCache, StoreView, read_store},
    uploads::Uploads,
    vault::Vault,
};

/// Reads the store, looks at the world, plans, and makes it so.
///
/// One engine works on one store at a time (the store's engine lock holds that); any number may read.
pub struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) read_cache: ReadCache,
    pub(crate) world: World,
    pub(crate) vault: Arc<Vault>,
    pub(crate) settings: Settings,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) planner: Planner,
    pub(crate) leases: Leases,
    pub(crate) host_health: HostHealth,
    pub(crate) host_limits: HostLimits,
    pub(crate) disruptions: Disruptions,
    pub(crate) uploads: Uploads,
    pub(crate) consoles: Consoles,
    pub(crate) cluster_access: ClusterAccess,
    pub(crate) kubelets: Kubelets,
    pub(crate) last_told: LastTold,
    pub(crate) foreign_addresses: ForeignAddresses,
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
        Self::with_planner(store, world, vault, settings, sink, Planner::default())
    }

    pub(crate) fn with_planner(
        store: Arc<dyn Store>,
        world: World,
        vault: Arc<Vault>,
        settings: Settings,
        sink: Arc<dyn EventSink>,
        planner: Planner,
    ) -> Self {
        let uploads = Uploads::new(settings.upload_hosts);
        Engine {
            store,
            read_cache: ReadCache::default(),
            world,
            vault,
            settings,
            sink,
            audit: Arc::new(NoAudit),
            planner,
            leases: Leases::default(),
            host_health: HostHealth::default(),
            host_limits: HostLimits::default(),
            disruptions: Disruptions::default(),
            uploads,
            consoles: Consoles::default(),
            cluster_access: ClusterAccess::default(),
            kubelets: Kubelets::default(),
            last_told: LastTold::default(),
            foreign_addresses: ForeignAddresses::default(),
        }
    }

    /// Keeps a record of all that it does from now on.
    #[must_use]
    pub fn with_audit(self, audit: Arc<dyn AuditLog>) -> Self {
        Engine { audit, ..self }
    }

    /// Reads the store and looks at the world. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read. A host or cluster that does not answer is no error: the snapshot says so.
    pub async fn snapshot(&self, scope: &Scope) -> Result<Snapshot, EngineError> {
        Ok(self.view(scope, None).await?.snapshot)
    }

    /// Plans. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read; no plan can be made.
    pub async fn plan(&self, scope: &Scope) -> Result<(Snapshot, Plan), EngineError> {
        let mut snapshot = self.snapshot(scope).await?;
        let plan = self.plan_to_show(&mut snapshot, scope).await?;
        Ok((snapshot, plan))
    }

    /// Plans as if the objects had been applied. Changes nothing.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn plan_with(
        &self,
        objects: Vec<Object>,
        scope: &Scope,
    ) -> Result<(Snapshot, Plan), EngineError> {
        let StoreView { mut snapshot, secrets, .. } = self.view(scope, None).await?;
        crate::declare::lay_over(&mut snapshot, objects, self.world.entropy.as_ref());
        // An upgrade may be wished only now.
        self.observe_api_use(&mut snapshot, &secrets, scope).await;
        let plan = self.plan_to_show(&mut snapshot, scope).await?;
        Ok((snapshot, plan))
    }

    /// Plans as if a host were being emptied. Changes nothing. The wish stands in the snapshot before the world is looked at, so
    /// that what it depends on (pods on the nodes that go) is looked at too.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn plan_drain(&self, host: &str, by: DrainBy) -> Result<(Snapshot, Plan), EngineError> {
        let mut view = self.stored().await?;
        if let Some(host) = view.snapshot.hosts.get_mut(host) {
            crate::declare::wish_empty(host, by);
        }
        self.observe(&mut view, &Scope::All, None).await;
        let mut snapshot = view.snapshot;
        let plan = self.plan_to_show(&mut snapshot, &Scope::All).await?;
        Ok((snapshot, plan))
    }

    /// A plan that nobody carries out: nothing of it is under way.
    async fn plan_to_show(&self, snapshot: &mut Snapshot, scope: &Scope) -> Result<Plan, EngineError> {
        let mut plan = self.plan_with_free_addresses(snapshot, scope).await?;
        overwriting::in_turn(&mut plan, snapshot, &BTreeMap::new(), |_| true);
        Ok(plan)
    }

    /// Works until the goal is met, nothing can go on without a person, or the time is up.
    ///
    /// The future may be dropped at any await point: the next run goes on from there.
    ///
    /// # Errors
    /// [`EngineError::Blocked`], [`EngineError::NodesFailed`], [`EngineError::Deadline`], or the store failed.
    /// In every case running again goes on from where this run ended.
    pub async fn run(
        &self,
        scope: &Scope,
        goal: &Goal,
        deadline: Duration,
    ) -> Result<RunSummary, EngineError> {
        self.run_to(scope, goal, deadline).await
    }

    pub(crate) async fn view(
        &self,
        scope: &Scope,
        questions: Option<&mut Questions>,
    ) -> Result<StoreView, EngineError> {
        let mut view = self.stored().await?;
        self.observe(&mut view, scope, questions).await;
        Ok(view)
    }

    /// The store, and nothing seen yet.
    async fn stored(&self) -> Result<StoreView, EngineError> {
        let now = self.world.clock.now();
        let mut view =
            read_store(self.store.as_ref(), &self.read_cache, self.settings.installation, now).await?;
        if !self.settings.trust_clock {
            crate::clock_check::check_snapshot(&view.snapshot)?;
        }
        view.snapshot.fence_max_percent = self.settings.fence_max_percent;
        Ok(view)
    }
}
