//! Hosts.

use super::{Report, fencing, syntax};
use crate::{HostSpec, host_uri::HostUri, names::quoted};

/// More vCPUs per thread than this is a slip of the keyboard.
const MOST_OVERCOMMIT: u32 = 64;

pub(super) fn check(report: &mut Report<'_>, spec: &HostSpec) {
    if let Err(error) = spec.uri.parse::<HostUri>() {
        report.add("spec.uri", error.to_string());
    }
    if spec.ssh_host_key.trim().is_empty() {
        let message = "is empty: without a pinned key any machine could pass itself off as this host; `ashlar host \
                       add` shows the key for comparing";
        report.add("spec.sshHostKey", message);
    } else {
        report.check("spec.sshHostKey", syntax::ssh_key_problem(&spec.ssh_host_key, false));
    }
    if let Some(path) = &spec.ssh_key_path {
        if path.contains("PRIVATE KEY") {
            report.add(
                "spec.sshKeyPath",
                "holds a key, not a path: take it out of this file, and name the file",
            );
        } else if !path.starts_with('/') {
            report.add("spec.sshKeyPath", format!("{} is not an absolute path", quoted(path)));
        }
    }
    report.check("spec.rack", syntax::topology_problem(&spec.rack));
    report.check("spec.zone", syntax::topology_problem(&spec.zone));
    if !(1..=MOST_OVERCOMMIT).contains(&spec.cpu_overcommit) {
        let message =
            format!("{} is outside of 1 to {MOST_OVERCOMMIT} vCPUs per thread", spec.cpu_overcommit);
        report.add("spec.cpuOvercommit", message);
    }
    if let Some(fencing) = &spec.fencing {
        fencing::check(report, fencing);
    }
}
