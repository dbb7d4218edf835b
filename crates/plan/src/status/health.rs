//! The condition of a machine that is not well: there only while something ails it.

use ashlar_api::*;

use super::warn;
use crate::Snapshot;
use crate::health::{self, Health};
use crate::lost::Lost;

const HEALTHY: &str = "Healthy";

/// Says what ails it; where nobody could tell now, what was said before stays.
pub(super) fn set(snapshot: &Snapshot, machine: &Machine, conditions: &mut Vec<Condition>) {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let is_judged = snapshot.clusters.get(&cluster).is_some_and(health::is_judged);
    if !is_judged || machine.metadata.is_deleting() {
        return;
    }
    let lost = match health::judge(snapshot, machine) {
        Health::Unknown => return,
        Health::Well | Health::Off => None,
        Health::Sick(kind, message) => {
            let since = machine.record.ailment.as_ref().filter(|ailment| ailment.kind == kind);
            let since = since.map_or(snapshot.now, |ailment| ailment.since);
            Some(Lost { reason: reason(kind), message: format!("{message} (since {since})") })
        }
    };
    warn(HEALTHY, lost, conditions, snapshot.now, machine.metadata.generation);
}

fn reason(kind: AilmentKind) -> &'static str {
    match kind {
        AilmentKind::NodeNotReady => "NodeNotReady",
        AilmentKind::NodeMissing => "NodeMissing",
        AilmentKind::KubeletSilent => "KubeletSilent",
        AilmentKind::GuestNotUp => "GuestNotUp",
        AilmentKind::DiskLost => "DiskLost",
        AilmentKind::EtcdNotHealthy => "EtcdNotHealthy",
        AilmentKind::StaticPodNotReady => "StaticPodNotReady",
        AilmentKind::FirstBootFailed => "FirstBootFailed",
        AilmentKind::HostOff => "HostOff",
    }
}
