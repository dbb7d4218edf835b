//! The fates of a host's machines as text: a line for each, and how many of each kind there are.

use std::fmt::Write as _;

use ashlar_api::MachineRole;

use crate::{Fate, HostSeen, MachineFate, Snapshot};

/// What emptying a host would do, for people who are about to be asked.
pub fn fates_text(snapshot: &Snapshot, host: &str, fates: &[MachineFate]) -> String {
    let mut text = String::new();
    if fates.is_empty() {
        let _ = writeln!(text, "host {host} has no machines: it takes no new ones from then on");
        return text;
    }
    let _ = writeln!(text, "host {host} is emptied (hosts are what they would be if nothing else changed):");
    for one in fates {
        let role = match one.role {
            MachineRole::ControlPlane => "control plane",
            MachineRole::Worker => "worker",
        };
        let fate = match &one.fate {
            Fate::Moved { to } => format!("moves alive to {to}, with what its disks hold"),
            Fate::Replaced { why, how } => {
                format!("is REPLACED, and its disks are destroyed: {why}; {how}")
            }
            Fate::Held { by } => format!("STAYS for now: {by}"),
            Fate::Deleted => "is being deleted already".to_owned(),
        };
        let _ = writeln!(text, "  {} ({role}) {fate}", one.machine);
    }
    let count = |is: fn(&Fate) -> bool| fates.iter().filter(|one| is(&one.fate)).count();
    let moved = count(|fate| matches!(fate, Fate::Moved { .. }));
    let held = count(|fate| matches!(fate, Fate::Held { .. }));
    let parts = [
        (moved, "to move alive"),
        (count(|fate| matches!(fate, Fate::Replaced { .. })), "to replace"),
        (held, "held up"),
        (count(|fate| matches!(fate, Fate::Deleted)), "being deleted"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let machines = if fates.len() == 1 { "machine" } else { "machines" };
    let _ = writeln!(text, "{} {machines}: {}", fates.len(), parts.join(", "));
    if moved > 0 {
        text.push_str("what passes between the hosts is not encrypted; machines leave one at a time\n");
    }
    if held > 0 {
        let _ =
            writeln!(text, "{host} is not empty before what holds machines up is mended; the others go on");
    }
    if !matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Seen(_))) {
        let _ = writeln!(
            text,
            "{host} does not answer: what is on it goes when it answers again, or is proved off"
        );
    }
    text
}
