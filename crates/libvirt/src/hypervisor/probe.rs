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
/// Words of QEMU that name a cause. What follows them may be a page of registers.
const CAUSES: [&str; 6] = ["kvm", "error", "failed", "assert", "cannot", "could not"];

pub(super) fn seen(running: bool, console: &str, qemu_log: &str) -> ProbeSeen {
    let mut log_lines = last(console.lines());
    // The command line is in the log too; its lines end with a backslash.
    let said = || qemu_log.lines().filter(|line| !line.ends_with('\\') && !line.starts_with('-'));
    let causes = last(said().filter(|line| {
        let line = line.to_lowercase();
        CAUSES.iter().any(|cause| line.contains(cause))
    }));
    log_lines.extend(if causes.is_empty() { last(said()) } else { causes });
    ProbeSeen { running, marked: console.contains(PROBE_MARK), log_lines }
}

fn last<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines: Vec<&str> = lines.map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_above_the_registers() {
        let log =
            "2026-11-23 starting up libvirt version: 9.0.0\nLC_ALL=C \\\n-accel kvm \\\n-msg timestamp=on\n\
                   KVM internal error. Suberror: 1\nextra data[0]: 0x0\n"
                .to_owned()
                + &"EAX=00000000 EBX=00000000\n".repeat(40);
        let seen = seen(false, "", &log);
        assert_eq!(seen.log_lines, ["KVM internal error. Suberror: 1"]);
        let plain = super::seen(false, "last words\n", "one\ntwo\n");
        assert_eq!(plain.log_lines, ["last words", "one", "two"]);
    }
}
