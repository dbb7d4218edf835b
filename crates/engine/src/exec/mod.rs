//! Taking one step: a fresh look at what it changes, one call, and the outcome recorded by compare-and-set.
//!
//! Each family of actions has a file. All of them are safe to repeat from any point: what was done already is seen
//! by the fresh look and counts as done.

mod addon;
mod domain;
mod etcd;
mod fence;
mod fill;
mod image;
mod migration;
mod network;
mod node;
mod owned;
mod secret;
mod serving;
mod token;
mod volume;

use std::{collections::BTreeMap, future::Future, time::Duration};

use ashlar_api::{Host, Kind, Machine, NamespacedName, Object, ObjectRef, Volume};
use ashlar_plan::{Action, Snapshot, Step, network::HostNetwork};

use crate::{
    Engine, EngineError,
    deadline::within,
    effects::{EffectError, EffectErrorKind, HostTarget},
};

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call failed.
    Effect(EffectError),
    /// Not without a person.
    Blocked {
        /// One CamelCase word.
        reason: &'static str,
        /// Object, cause and next step.
        message: String,
    },
    /// Not now: something is not as it was planned with. The next pass sees it.
    NotNow(String),
    /// The store failed, or a secret could not be opened: no going on.
    Engine(EngineError),
}

impl Failure {
    /// For people.
    pub(crate) fn told(&self) -> String {
        match self {
            Failure::Effect(error) => error.to_string(),
            Failure::Blocked { message, .. } | Failure::NotNow(message) => message.clone(),
            Failure::Engine(error) => crate::error::chain(error),
        }
    }
}

impl From<EffectError> for Failure {
    fn from(error: EffectError) -> Self {
        Failure::Effect(error)
    }
}

impl<E: Into<EngineError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Engine(error.into())
    }
}

pub(crate) type Outcome = Result<(), Failure>;

/// What should be there of networks on hosts, by network and host: found for all steps of a pass at once, since it is
/// found by looking at all machines.
pub(crate) type Networks = BTreeMap<(String, String), Result<HostNetwork, String>>;

static NO_NETWORKS: Networks = Networks::new();

/// One step, with what it was planned from.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) networks: &'a Networks,
    pub(crate) step: &'a Step,
}

impl<'a> Job<'a> {
    /// A step by itself.
    pub(crate) fn alone(engine: &'a Engine, snapshot: &'a Snapshot, step: &'a Step) -> Self {
        Job { engine, snapshot, networks: &NO_NETWORKS, step }
    }

    /// Does it.
    pub(crate) async fn run(self) -> Outcome {
        let Some(action) = &self.step.action else { return Ok(()) };
        match action {
            Action::CreateClusterPki { cluster } => secret::create_pki(self, cluster).await,
            Action::CreateJoinToken { machine } => secret::create_join_token(self, machine).await,
            Action::CreateSshHostKey { machine } => secret::create_ssh_host_key(self, machine).await,
            Action::CreateVolume { volume } => volume::create(self, volume).await,
            Action::FillVolume { volume } => fill::fill(self, volume).await,
            Action::VerifyVolume { volume } => fill::verify(self, volume).await,
            Action::WipeVolume { volume } => volume::wipe(self, volume).await,
            Action::DeleteVolume { volume } => volume::delete(self, volume).await,
            Action::DefineDomain { machine } => domain::define(self, machine).await,
            Action::RedefineDomain { machine } => domain::redefine(self, machine).await,
            Action::StartDomain { machine } => domain::start(self, machine).await,
            Action::ShutdownDomain { machine } => domain::shutdown(self, machine).await,
            Action::DestroyDomain { machine } => domain::destroy(self, machine).await,
            Action::UndefineDomain { machine } => domain::undefine(self, machine).await,
            Action::UndefineLeft { host, domain } => domain::undefine_left(self, host, *domain).await,
            Action::MigrateDomain { machine } => migration::migrate(self, machine).await,
            Action::ResumeDomain { machine } => migration::resume(self, machine).await,
            Action::DropArrival { machine } => migration::drop_arrival(self, machine).await,
            Action::EjectSeed { machine } => domain::eject(self, machine).await,
            Action::PublishJoinToken { machine } => token::publish(self, machine).await,
            Action::RevokeJoinToken { machine } => token::revoke(self, machine).await,
            Action::RevokeStrayToken { cluster, token_id } => {
                token::revoke_stray(self, cluster, token_id).await
            }
            Action::ApplyAddon { cluster, addon } => addon::apply(self, cluster, addon).await,
            Action::PromoteEtcdMember { machine } => etcd::promote(self, machine).await,
            Action::MoveEtcdLeader { machine, to } => etcd::move_leader(self, machine, to).await,
            Action::RemoveEtcdMember { machine } => etcd::remove(self, machine).await,
            Action::ConfigureNode { machine } => node::configure(self, machine).await,
            Action::CordonNode { machine } => node::cordon(self, machine).await,
            Action::EvictPod { machine, pod } => node::evict(self, machine, pod).await,
            Action::ApproveServingCsr { machine, csr } => serving::decide(self, machine, csr, true).await,
            Action::DenyServingCsr { machine, csr } => serving::decide(self, machine, csr, false).await,
            Action::TaintOutOfService { machine } => node::out_of_service(self, machine).await,
            Action::DeleteNode { machine } => node::delete(self, machine).await,
            Action::EnsureNetwork { network, host } => network::ensure(self, network, host).await,
            Action::RemoveNetwork { network, host } => network::remove(self, network, host).await,
            Action::FenceHost { host } => fence::fence(self, host).await,
        }
    }

    fn machine(self, name: &NamespacedName) -> Result<&'a Machine, Failure> {
        self.snapshot.machines.get(name).ok_or_else(|| gone(Kind::Machine, name))
    }

    fn volume(self, name: &NamespacedName) -> Result<&'a Volume, Failure> {
        self.snapshot.volumes.get(name).ok_or_else(|| gone(Kind::Volume, name))
    }

    fn host(self, name: &str) -> Result<&'a Host, Failure> {
        self.snapshot.hosts.get(name).ok_or_else(|| gone(Kind::Host, &NamespacedName::new("", name)))
    }

    /// The host whose lease is ours: for changes.
    fn leased(self, host: &str) -> Result<HostTarget, Failure> {
        let message =
            || format!("the lease of host {host} is not ours any more: it is looked at again first");
        self.engine.held(self.host(host)?).ok_or_else(|| Failure::NotNow(message()))
    }

    /// Makes a call that moves no bulk data.
    async fn call<T>(
        self,
        what: &str,
        call: impl Future<Output = Result<T, EffectError>>,
    ) -> Result<T, Failure> {
        self.call_within(self.engine.settings.call_deadline, what, call).await
    }

    /// Makes a call that only looks.
    async fn observe<T>(
        self,
        what: &str,
        call: impl Future<Output = Result<T, EffectError>>,
    ) -> Result<T, Failure> {
        self.call_within(self.engine.settings.observe_deadline, what, call).await
    }

    async fn call_within<T>(
        self,
        limit: Duration,
        what: &str,
        call: impl Future<Output = Result<T, EffectError>>,
    ) -> Result<T, Failure> {
        Ok(within(self.engine.world.clock.as_ref(), limit, what, call).await?)
    }
}

fn gone(kind: Kind, name: &NamespacedName) -> Failure {
    let object = ObjectRef::new(kind, &name.namespace, &name.name);
    Failure::NotNow(format!("{object} is not in the store any more"))
}

/// What was to be removed is gone already.
fn fine_if_gone(result: Result<(), Failure>) -> Outcome {
    match result {
        Err(Failure::Effect(EffectError { kind: EffectErrorKind::NotFound, .. })) => Ok(()),
        other => other,
    }
}

/// Records an outcome in an object. An object that went away meanwhile needs no record.
async fn record<S: ashlar_api::Spec>(
    job: Job<'_>,
    object: &ashlar_api::Resource<S>,
    change: impl FnMut(&mut ashlar_api::Resource<S>) -> bool,
) -> Outcome
where
    Object: From<ashlar_api::Resource<S>>,
{
    crate::objects::update(job.engine.store.as_ref(), object, change).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
