//! What a host is, and whether its accelerator works.

use ashlar_engine::effects::{EffectErrorKind, HostProbe, PROBE_MARK, ProbeSeen};

use crate::ffi::Connection;
use crate::lane::CallError;
use crate::xml;

pub(super) fn host(connection: &Connection) -> Result<HostProbe, CallError> {
    let capabilities = xml::capabilities(&connection.capabilities()?)?;
    let machine_type = capabilities.machine_type.ok_or_else(|| {
        CallError::Other(
            EffectErrorKind::Refused,
            format!("its QEMU has no q35 machine for {}: install qemu-system-x86", capabilities.architecture),
        )
    })?;
    Ok(HostProbe {
        host_uuid: capabilities.host_uuid,
        hostname: connection.hostname()?,
        capacity: capabilities.capacity,
        libvirt_version: connection.libvirt_version()?,
        qemu_version: connection.qemu_version()?,
        machine_type,
        kvm_claimed: capabilities.kvm_claimed,
        architecture: capabilities.architecture,
    })
}

/// Lines shown of each log.
const LINES: usize = 8;

pub(super) fn seen(running: bool, console: &str, qemu_log: &str) -> ProbeSeen {
    let last = |text: &str| -> Vec<String> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
    };
    let mut log_lines = last(console);
    log_lines.extend(last(qemu_log));
    ProbeSeen { running, marked: console.contains(PROBE_MARK), log_lines }
}
