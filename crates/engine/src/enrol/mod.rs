//! Enrolment of hosts: `host add`, `host remove`, and the facts for `host check`.
//!
//! A host is enrolled with what it is (libvirt's UUID, hardware, versions), with the UUIDs of its pools, and with the
//! accelerator that a probe VM proved. All of it is recorded; later a host that is another one is refused.

mod accelerator;
mod add;
mod probe_image;
mod remove;

use std::collections::BTreeMap;

use ashlar_api::{Accelerator, Host, Kind, ObjectRef, StoragePool, validate::Violation};

use serde::{Deserialize, Serialize};

use crate::{Engine, EngineError, deadline::within};

pub use add::{NewHost, add};
pub use remove::remove;

/// What enrolment found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The host, as stored.
    pub host: Host,
    /// Its pools, as stored.
    pub pools: Vec<StoragePool>,
    /// What the probe VM proved; none where no test image was given.
    pub proof: Option<Proof>,
}

/// What a probe VM proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The accelerator that worked.
    pub accelerator: Accelerator,
    /// Why KVM did not, where it did not: to be said once.
    pub kvm_refusal: Option<String>,
}

/// Why a host was not enrolled or removed. What was recorded before can be gone on with: the same command again.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// What was written is wrong.
    #[error("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// Everything that is wrong.
        violations: Vec<Violation>,
    },
    /// It must not be enrolled, or removed.
    #[error("{0}")]
    Refused(String),
    /// Neither KVM nor emulation ran the probe VM.
    #[error("host {host} runs no VMs: {reason}")]
    NoAccelerator {
        /// The host.
        host: String,
        /// What both attempts said.
        reason: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Facts about a host for `host check`, by name; whoever asks judges them. The first enrolled pool is the one looked at.
///
/// # Errors
/// There is no such host, or it does not answer.
pub async fn facts(engine: &Engine, host: &str) -> Result<BTreeMap<String, String>, EngineError> {
    let snapshot = engine.snapshot(&crate::Scope::StoreOnly).await?;
    let object = snapshot
        .hosts
        .get(host)
        .ok_or_else(|| EngineError::NoSuchObject(ObjectRef::new(Kind::Host, "", host)))?;
    let pool = snapshot.pools.values().find_map(|pool| pool.record.hosts.get(host));
    let path = pool.map_or("", |pool| pool.path.as_str());
    let doing = format!("checking host {host}");
    let target = engine.host_target(object);
    let call = engine.world.shell.check_facts(&target, path);
    within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call)
        .await
        .map_err(|source| EngineError::Effect { doing, source })
}
