//! Ownership, looked at afresh right before something is changed.

use ashlar_api::{Machine, Volume};
use ashlar_plan::{DomainSeen, Guard, VolumeSeen};

use super::{Failure, Job};
use crate::effects::HostTarget;

/// The machine's domain, if there is one, once it is proved to be ours: the recorded UUID and our mark. A foreign
/// domain with our name, or one of our UUID without our mark, blocks, and is never touched.
pub(super) async fn domain(
    job: Job<'_>,
    host: &HostTarget,
    machine: &Machine,
) -> Result<Option<DomainSeen>, Failure> {
    let identity = &machine.spec.domain;
    let what = format!("looking at domain {} on {}", identity.name, host.name);
    let hypervisor = &job.engine.world.hypervisor;
    let Some(seen) = job.call(&what, hypervisor.domain(host, identity.uuid)).await? else {
        let holder = job.call(&what, hypervisor.domain_by_name(host, &identity.name)).await?;
        if !Guard::DomainUuid.stands() {
            return Ok(holder);
        }
        return match holder {
            None => Ok(None),
            Some(other) => Err(Failure::Blocked {
                reason: "NameTaken",
                message: format!(
                    "domain {} on {} is not Ashlar's (its UUID is {}, machine {} has {}): it was left alone; rename or \
                     remove it, or delete the machine",
                    identity.name,
                    host.name,
                    other.uuid,
                    machine.key(),
                    identity.uuid
                ),
            }),
        };
    };
    let is_ours = seen.name == identity.name
        && seen.mark.as_ref().is_some_and(|mark| {
            mark.installation == job.engine.settings.installation
                && Some(mark.machine_uid) == machine.metadata.uid
        })
        || !Guard::DomainMark.stands();
    if is_ours {
        Ok(Some(seen))
    } else {
        Err(Failure::Blocked {
            reason: "NotOurs",
            message: format!(
                "domain {} ({}) on {} does not carry the mark of this installation for machine {}: it was left alone; \
                 somebody redefined or renamed it",
                seen.name,
                seen.uuid,
                host.name,
                machine.key()
            ),
        })
    }
}

/// The volume as it is now, if it is there. It is ours by its pool's UUID and its file name, which holds a random
/// UUID and was recorded before the file was made. A pool that is not there says nothing about the volume.
pub(super) async fn volume(
    job: Job<'_>,
    host: &HostTarget,
    volume: &Volume,
) -> Result<Option<VolumeSeen>, Failure> {
    let spec = &volume.spec;
    let what = format!("looking at volume {} on {}", spec.file_name, host.name);
    let hypervisor = &job.engine.world.hypervisor;
    job.call(&what, hypervisor.volume(host, spec.pool_uuid, &spec.file_name)).await
}
