//! `ashlar host fence`.

use ashlar_api::{Kind, NamespacedName};
use ashlar_engine::effects::EffectErrorKind;
use ashlar_engine::enrol::facts;
use ashlar_engine::{EngineError, Goal, Scope, declare};
use ashlar_plan::HostSeen;
use futures::executor::block_on;

use crate::cli::HostFenceArgs;
use crate::commands::apply::report;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::{Session, SystemClock, Worker, person, record_wish};

/// Records that a host is off, after a look that it does not answer, and sees to it that its machines are replaced.
pub(super) fn fence(settings: &Settings, args: &HostFenceArgs) -> Result {
    let name = &args.name;
    let host = object_ref(Kind::Host, name, "");
    Reader::open(settings)?.get(&host)?;
    if !args.confirm_powered_off {
        return Err(Failure::new(format!(
            "host {name}: nobody has confirmed that it is off, and what does not answer may run its VMs all the same"
        ))
        .hint(format!(
            "see to it that it has no power, then: {} host fence {name} --confirm-powered-off",
            settings.command_prefix()
        )));
    }
    let session = Session::open_to_look(settings)?;
    let snapshot = session.block_on(async { Ok(session.engine.snapshot(&Scope::Hosts).await?) })?;
    let not_off = |what: &str| {
        Failure::new(format!("host {name} {what}, and so it is not off: nothing was recorded"))
            .hint(format!("to empty a host that works: {} host drain {name}", settings.command_prefix()))
    };
    let Some(HostSeen::Unreachable { .. }) = snapshot.observed.hosts.get(name) else {
        return Err(not_off("answers"));
    };
    // A host whose libvirtd is dead goes on running its VMs.
    match session.block_on(async { Ok(facts(&session.engine, name).await) })? {
        Err(EngineError::Effect { source, .. }) if source.kind == EffectErrorKind::Unreachable => {}
        Ok(_) | Err(EngineError::Effect { .. }) => {
            return Err(not_off("answers over SSH, though its libvirt does not"));
        }
        Err(other) => return Err(other.into()),
    }
    drop(session);
    let clusters: Vec<NamespacedName> = snapshot
        .clusters
        .keys()
        .filter(|cluster| {
            snapshot.machines.values().any(|machine| {
                machine.spec.host == *name
                    && machine.spec.cluster == cluster.name
                    && machine.metadata.namespace == cluster.namespace
            })
        })
        .cloned()
        .collect();
    let worker = Worker::open(settings, &args.engine)?;
    record_wish(settings, "fence", [&host])?;
    block_on(declare::fence_host(worker.store(), &SystemClock, name, &person()))?;
    settings.printer.note(format!("host {name} counts as off until it answers; no machine is placed there"));
    for cluster in clusters {
        let done = worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster))?;
        report(settings, &done);
    }
    Ok(Exit::Success)
}
