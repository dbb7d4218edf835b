//! What is done to domains.

use ashlar_engine::effects::EffectErrorKind;
use uuid::Uuid;

use crate::counters::{Counters, READ};
use crate::ffi::{Connection, Domain, LibvirtError, code, state};
use crate::lane::CallError;
use crate::xml;

use super::observe::absent;

/// Whether a QEMU process stands behind the state.
pub(super) fn is_active(state: i32) -> bool {
    !matches!(state, state::SHUTOFF | state::CRASHED)
}

pub(super) fn start(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    let domain = connection.domain_by_uuid(domain)?;
    if is_active(domain.state()?) {
        return Ok(());
    }
    counters.count("start_domain");
    unless_state_is(&domain, domain.start(), is_active)
}

pub(super) fn shutdown(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    let domain = connection.domain_by_uuid(domain)?;
    if !is_active(domain.state()?) {
        return Ok(());
    }
    counters.count("shutdown_domain");
    unless_state_is(&domain, domain.shutdown(), |state| !is_active(state))
}

pub(super) fn destroy(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    // A transient domain that ended is gone, between any two of these calls: it is off.
    let Some(domain) = absent(connection.domain_by_uuid(domain), code::NO_DOMAIN)? else { return Ok(()) };
    if !absent(domain.state(), code::NO_DOMAIN)?.is_some_and(is_active) {
        return Ok(());
    }
    counters.count("destroy_domain");
    match domain.destroy() {
        Err(error) if error.code == code::NO_DOMAIN => Ok(()),
        result => unless_state_is(&domain, result, |state| !is_active(state)),
    }
}

pub(super) fn resume(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    let domain = connection.domain_by_uuid(domain)?;
    match domain.state()? {
        state::PAUSED => {}
        state if is_active(state) => return Ok(()),
        _ => return Err(CallError::Other(EffectErrorKind::Refused, "it is off".to_owned())),
    }
    counters.count("resume_domain");
    unless_state_is(&domain, domain.resume(), |state| state == state::RUNNING)
}

pub(super) fn undefine(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    let domain = connection.domain_by_uuid(domain)?;
    // libvirt would make a running domain transient: its process goes on, and nothing tells whose it is.
    if is_active(domain.state()?) {
        return Err(CallError::Other(EffectErrorKind::Busy, "it runs: it has to be ended first".to_owned()));
    }
    counters.count("undefine_domain");
    Ok(domain.undefine()?)
}

/// Empties the drive in the definition and, where the domain runs, in the running machine.
pub(super) fn eject(connection: &Connection, counters: &Counters, domain: Uuid) -> Result<(), CallError> {
    let domain = connection.domain_by_uuid(domain)?;
    let active = is_active(domain.state()?);
    let defined = xml::domain_seen(&domain.xml(true)?)?.medium_path;
    let live = if active { xml::domain_seen(&domain.xml(false)?)?.medium_path } else { None };
    if defined.is_none() && live.is_none() {
        return Ok(());
    }
    counters.count("eject_medium");
    Ok(domain.update_device(&xml::cdrom(None)?, active)?)
}

/// The filter of every node's tap, looked for once per connection and made where it is missing.
pub(super) fn ensure_filter(connection: &Connection, counters: &Counters) -> Result<(), CallError> {
    counters.count(READ);
    match connection.filter_uuid(xml::FILTER_NAME) {
        Ok(uuid) if uuid.eq_ignore_ascii_case(&xml::FILTER_UUID.to_string()) => Ok(()),
        Ok(uuid) => Err(CallError::Other(
            EffectErrorKind::NotOurs,
            format!(
                "it has a network filter named {} (UUID {uuid}) that is not Ashlar's: remove it, or give it another \
                 name (virsh nwfilter-undefine {})",
                xml::FILTER_NAME,
                xml::FILTER_NAME
            ),
        )),
        Err(error) if error.code == code::NO_NWFILTER => {
            counters.count("define_filter");
            Ok(connection.define_filter(&xml::filter()?)?)
        }
        Err(error) if error.code == code::NO_SUPPORT => Err(CallError::Other(
            EffectErrorKind::Refused,
            format!(
                "its libvirt has no network filters ({error}): install libvirt's nwfilter driver and ebtables \
                 (Debian: libvirt-daemon-system, iptables; Fedora, RHEL: libvirt-daemon-driver-nwfilter)"
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// A call that failed because somebody was faster has done its work.
fn unless_state_is(
    domain: &Domain,
    result: Result<(), LibvirtError>,
    reached: impl Fn(i32) -> bool,
) -> Result<(), CallError> {
    match result {
        Err(error) if error.code == code::OPERATION_INVALID && domain.state().is_ok_and(&reached) => Ok(()),
        result => Ok(result?),
    }
}
