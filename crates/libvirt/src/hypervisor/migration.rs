//! A domain moves to another host, alive.
//!
//! It ends with the guest standing still at the target, and its process at the source gone. That it goes on is another call:
//! until somebody has seen the source without it, nobody lets it go on at the target, and the source has all of it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostTarget, MigrationRoute};
use ashlar_plan::DomainSpec;
use uuid::Uuid;

use super::domains::{ensure_filter, is_active};
use super::observe::absent;
use crate::counters::Counters;
use crate::error::classify;
use crate::ffi::{Connection, LibvirtError, Migration, code, state};
use crate::hosts::{Hosts, Via, token_of};
use crate::lane::CallError;
use crate::xml;

/// Between two attempts to end a migration that takes too long: at its very beginning libvirt has no job to end.
const ABORT_EVERY: Duration = Duration::from_secs(5);
/// After so long its connections are ended: the engine waits a minute longer than the migration may take.
const ABORT_LIMIT: Duration = Duration::from_secs(45);
/// Ends QEMU's connections to an address. Where nothing comes through to the target any more, QEMU waits for an answer about
/// a disk for as long as the kernel does (a quarter of an hour), and whoever wants to end the job waits with it.
const HANG_UP: &str = r#"pid=$(cat "/run/libvirt/qemu/$1.pid") || exit 0
ss -Htnp dst "$2" | grep "pid=$pid," | while read -r state in out local rest; do
    ss -K -tn src "$local" dst "$2"
done
"#;

/// QEMU that takes disks over into a thread of their own. Debian 12's (7.2.22, with a mended CVE-2024-7409) ends itself when
/// they are there: its NBD server stands no other thread. The next start has the thread again.
const IOTHREAD_SINCE: (u64, u64) = (8, 2);

/// What is moved, and how.
struct Order {
    source: String,
    spec: DomainSpec,
    persistent_xml: String,
    address: Ipv4Addr,
}

pub(super) async fn run(
    hosts: &Hosts,
    from: &HostTarget,
    to: &HostTarget,
    domain: &DomainSpec,
    route: &MigrationRoute,
) -> Result<(), EffectError> {
    token_of(from)?;
    token_of(to)?;
    let persistent_xml = xml::domain(domain).map_err(|error| {
        EffectError::new(EffectErrorKind::Refused, format!("the domain {}: {error}", domain.name))
    })?;
    let order =
        Order { source: from.name.clone(), spec: domain.clone(), persistent_xml, address: route.address };
    let leaving = format!("let the domain {} go to host {}", domain.name, to.name);
    let arriving = format!("take the domain {} over from host {}", domain.name, from.name);
    let (source, target) = (hosts.entry(from)?, hosts.entry(to)?);
    let mut pair = source.pair_with(&target, move |source, target| {
        source.call(None, &leaving, |here, counters, _| {
            Ok(target.call(None, &arriving, |there, _, _| migrate(here, there, counters, &order)))
        })?
    })?;
    let gone = |_| Err(unanswered(from, to, domain));
    match tokio::time::timeout(route.timeout, &mut pair.answered).await {
        Ok(answer) => answer.unwrap_or_else(gone),
        Err(_) => end(hosts, from, to, domain, route, &mut pair.answered).await,
    }
}

fn unanswered(from: &HostTarget, to: &HostTarget, domain: &DomainSpec) -> EffectError {
    let message = format!(
        "the migration of the domain {} from host {} to host {} has no answer: its connections were ended, and libvirt ends \
         it with them",
        domain.name, from.name, to.name
    );
    EffectError::new(EffectErrorKind::Unreachable, message)
}

/// Its time is over: has libvirt end it, and waits until it has.
async fn end(
    hosts: &Hosts,
    from: &HostTarget,
    to: &HostTarget,
    domain: &DomainSpec,
    route: &MigrationRoute,
    answered: &mut tokio::sync::oneshot::Receiver<Result<(), EffectError>>,
) -> Result<(), EffectError> {
    let begin = Instant::now();
    let mut again = false;
    while begin.elapsed() < ABORT_LIMIT {
        if std::mem::replace(&mut again, true) {
            hang_up(hosts, from, domain, route).await;
        }
        let uuid = domain.uuid;
        let doing = format!("end the migration of the domain {}", domain.name);
        let told = hosts.change(from, Via::Work, doing, move |connection, counters| {
            counters.count("abort_migration");
            Ok(connection.domain_by_uuid(uuid)?.abort_job()?)
        });
        // While libvirt waits for QEMU it does not even listen to that.
        if let Ok(Err(error)) = tokio::time::timeout(ABORT_EVERY, told).await {
            tracing::debug!(host = from.name, domain = domain.name, %error, "no job to end");
        }
        match tokio::time::timeout(ABORT_EVERY, &mut *answered).await {
            // It was done at that very moment.
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) if error.kind == EffectErrorKind::Busy => {
                let seconds = route.timeout.as_secs();
                let message = format!(
                    "the migration of the domain {} from host {} to host {} was not done within {seconds} s, and was \
                     ended: it goes on at host {} (the guest may write to its memory faster than the link carries it)",
                    domain.name, from.name, to.name, from.name
                );
                return Err(EffectError::new(EffectErrorKind::Busy, message));
            }
            Ok(Ok(Err(error))) => return Err(error),
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    Err(unanswered(from, to, domain))
}

/// Has the source's QEMU wait for the target no longer.
async fn hang_up(hosts: &Hosts, from: &HostTarget, domain: &DomainSpec, route: &MigrationRoute) {
    let address = route.address.to_string();
    let argv = ["/bin/sh", "-c", HANG_UP, "hang-up", &domain.name, &address];
    let patience = hosts.settings.command_timeout;
    let said = hosts.run(from, &argv, "end the connections of a migration", patience, 4096).await;
    if let Err(error) = said {
        tracing::debug!(host = from.name, domain = domain.name, %error, "a migration's connections stay");
    }
}

/// On the thread that has both connections.
fn migrate(
    here: &Connection,
    there: &Connection,
    counters: &Counters,
    order: &Order,
) -> Result<(), CallError> {
    let uuid = order.spec.uuid;
    let leaves = absent(here.domain_by_uuid(uuid), code::NO_DOMAIN)?;
    let standing = match &leaves {
        Some(domain) => absent(domain.standing(), code::NO_DOMAIN)?,
        None => None,
    };
    if standing.is_none_or(|standing| standing.has_left) {
        // Somebody was here before us. Of one that is off otherwise nobody knows whether it ran after that.
        if let Some(arrived) = absent(there.domain_by_uuid(uuid), code::NO_DOMAIN)?
            && arrived.is_persistent()?
            && is_active(arrived.state()?)
        {
            return Ok(());
        }
    }
    let (Some(leaves), Some(standing)) = (leaves, standing) else {
        return Err(CallError::Other(
            EffectErrorKind::NotFound,
            format!("host {} does not have it", order.source),
        ));
    };
    if !matches!(standing.state, state::RUNNING | state::BLOCKED) || standing.starts {
        return Err(CallError::Other(
            EffectErrorKind::Busy,
            format!("it does not run on host {}", order.source),
        ));
    }
    let iothread = there.qemu_at_least(IOTHREAD_SINCE)?;
    let arriving = xml::arriving(&leaves.migratable_xml()?, &order.spec, iothread)?;
    ensure_filter(there, counters)?;
    counters.count("migrate_domain");
    let migration =
        Migration { xml: &arriving, persistent_xml: &order.persistent_xml, address: order.address };
    leaves.migrate(there, &migration).map_err(|error| failed(&error, here, there))?;
    still_here(here, uuid, &order.source)
}

/// libvirt calls it a success where it could not end the process at the source, which has all of the guest too.
fn still_here(here: &Connection, uuid: Uuid, source: &str) -> Result<(), CallError> {
    let left = match absent(here.domain_by_uuid(uuid), code::NO_DOMAIN)? {
        Some(domain) => absent(domain.state(), code::NO_DOMAIN)?,
        None => None,
    };
    match left {
        Some(state) if is_active(state) => Err(CallError::Other(
            EffectErrorKind::Busy,
            format!("it has arrived, and its process on host {source} has not ended: it stays paused"),
        )),
        _ => Ok(()),
    }
}

/// What a migration's error means.
fn failed(error: &LibvirtError, here: &Connection, there: &Connection) -> CallError {
    let kind = kind(error, here.is_alive() && there.is_alive());
    CallError::Other(kind, error.to_string())
}

fn kind(error: &LibvirtError, alive: bool) -> EffectErrorKind {
    let says = |texts: &[&str]| texts.iter().any(|text| error.message.contains(text));
    if !alive {
        return EffectErrorKind::Unreachable;
    }
    // One of the two QEMUs ended in the middle, or was told to.
    let ended =
        ["canceled by client", "unexpectedly failed", "job 'migration out' failed", "migration of disk"];
    let lost = [
        "unable to connect to server",
        "Failed to connect",
        "Connection timed out",
        "reset by peer",
        "Lost connection",
        "Broken pipe",
    ];
    if error.code == code::OPERATION_ABORTED || says(&ended) {
        EffectErrorKind::Busy
    } else if says(&lost) {
        EffectErrorKind::Unreachable
    } else {
        classify(error, alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_later_is_told_from_what_never_will() {
        use EffectErrorKind::*;
        let cases = [
            (78, "operation aborted: migration out job: canceled by client", Busy),
            (9, "operation failed: job 'migration out' unexpectedly failed", Busy),
            (9, "operation failed: job 'migration out' failed: Unable to write to socket: Broken pipe", Busy),
            (9, "operation failed: migration of disk sdb failed: Input/output error", Busy),
            (
                1,
                "internal error: unable to execute QEMU command 'blockdev-add': Failed to connect to \
                 '10.88.0.12:49153': No route to host",
                Unreachable,
            ),
            (1, "internal error: unable to connect to server at '10.88.0.12:49152'", Unreachable),
            (9, "operation failed: guest CPU doesn't match specification: missing features: avx2", Refused),
            (55, "Requested operation is not valid: cannot migrate domain with 2 snapshots", Refused),
            (67, "unsupported configuration: Target device virtio options don't match the source", Refused),
            (68, "Timed out during operation: cannot acquire state change lock", Busy),
        ];
        for (code, message, expected) in cases {
            let error = LibvirtError { code, domain: 10, errno: 0, message: message.to_owned() };
            assert_eq!(kind(&error, true), expected, "{message}");
            assert_eq!(kind(&error, false), Unreachable, "{message}");
        }
    }
}
