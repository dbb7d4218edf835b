//! `ashlar host fence`.

use ashlar_api::{Host, Kind, NamespacedName, Object};
use ashlar_engine::effects::EffectErrorKind;
use ashlar_engine::enrol::facts;
use ashlar_engine::{EngineError, Goal, Scope, declare};
use ashlar_plan::{HostSeen, Snapshot};
use futures::executor::block_on;

use crate::cli::HostFenceArgs;
use crate::commands::apply::report;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::{Session, SystemClock, Worker, person, record_wish};

/// Records that a host is off, as a person says or once it was turned off and seen to be, after a look that it does not
/// answer; and sees to it that its machines are replaced.
pub(super) fn fence(settings: &Settings, args: &HostFenceArgs) -> Result {
    let name = &args.name;
    let host_ref = object_ref(Kind::Host, name, "");
    let Object::Host(host) = Reader::open(settings)?.object(&host_ref)? else {
        return Err(Failure::internal(format!("{host_ref} is not a host")));
    };
    if !args.confirm_powered_off && host.spec.fencing.is_none() {
        return Err(Failure::new(format!(
            "host {name}: nobody has confirmed that it is off, and what does not answer may run its VMs all the same"
        ))
        .hint(format!(
            "see to it that it has no power, then: {} host fence {name} --confirm-powered-off",
            settings.command_prefix()
        ))
        .hint("or say in spec.fencing who turns it off (`ashlar explain host.spec.fencing`)"));
    }
    let session = Session::open_to_look(settings)?;
    let snapshot = session.block_on(async { Ok(session.engine.snapshot(&Scope::Hosts).await?) })?;
    check_silent(settings, &session, &snapshot, name)?;
    let by_power = !args.confirm_powered_off;
    if by_power {
        turn_off(settings, &session, &snapshot, &host, args.yes)?;
    }
    drop(session);
    let clusters = clusters_on(&snapshot, name);
    let worker = Worker::open(settings, &args.engine)?;
    if !by_power {
        record_wish(settings, "fence", [&host_ref])?;
        block_on(declare::fence_host(worker.store(), &SystemClock, name, &person()))?;
    }
    settings.printer.note(format!("host {name} counts as off until it answers; no machine is placed there"));
    for cluster in clusters {
        let done = worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster))?;
        report(settings, &done);
    }
    Ok(Exit::Success)
}

/// Who answers is not off, whoever says so, and nobody turns it off from here.
fn check_silent(settings: &Settings, session: &Session, snapshot: &Snapshot, name: &str) -> Result<()> {
    let not_off = |what: &str| {
        Failure::new(format!("host {name} {what}, and so it is not off: nothing was recorded"))
            .hint(format!("to empty a host that works: {} host drain {name}", settings.command_prefix()))
    };
    let Some(HostSeen::Unreachable { .. }) = snapshot.observed.hosts.get(name) else {
        return Err(not_off("answers"));
    };
    // A host whose libvirtd is dead goes on running its VMs.
    match session.block_on(async { Ok(facts(&session.engine, name).await) })? {
        Err(EngineError::Effect { source, .. }) if source.kind == EffectErrorKind::Unreachable => Ok(()),
        Ok(_) | Err(EngineError::Effect { .. }) => {
            Err(not_off("answers over SSH, though its libvirt does not"))
        }
        Err(other) => Err(other.into()),
    }
}

/// Turns it off by what its spec names, sees that it is, and records the proof at once: it grows old.
fn turn_off(
    settings: &Settings,
    session: &Session,
    snapshot: &Snapshot,
    host: &Host,
    yes: bool,
) -> Result<()> {
    let name = &host.metadata.name;
    let by = host.spec.fencing.as_ref().map(ToString::to_string).unwrap_or_default();
    let machines = snapshot.machines.values().filter(|machine| machine.spec.host == *name).count();
    let machines = plural(machines, "machine");
    confirm(
        settings,
        yes,
        &[format!(
            "host {name}: its power is cut by {by}, and all that runs there ends ({machines} of Ashlar's, which are \
                   replaced elsewhere)"
        )],
    )?;
    record_wish(settings, "fence", [&host.object_ref()])?;
    settings.printer.note(format!("host {name}: turning it off by {by}"));
    session.block_on(async {
        let others: Vec<&Host> = snapshot
            .hosts
            .values()
            .filter(|other| other.metadata.name != *name && other.record.host_uuid.is_some())
            .collect();
        let proof = session.engine.turn_off(host, &others).await.map_err(|error| match error {
            EngineError::Effect { source, .. } => Failure::new(source.to_string()),
            other => other.into(),
        })?;
        settings.printer.note(format!(
            "host {name} is off: {} said so twice, nothing answers at its address, and all others that answered still do",
            proof.confirmed_by
        ));
        declare::record_fence(session.store.as_ref(), name, &proof).await?;
        Ok(())
    })
}

/// Clusters with machines on the host.
fn clusters_on(snapshot: &Snapshot, host: &str) -> Vec<NamespacedName> {
    let is_on = |cluster: &&NamespacedName| {
        snapshot.machines.values().any(|machine| {
            machine.spec.host == host
                && machine.spec.cluster == cluster.name
                && machine.metadata.namespace == cluster.namespace
        })
    };
    snapshot.clusters.keys().filter(is_on).cloned().collect()
}
