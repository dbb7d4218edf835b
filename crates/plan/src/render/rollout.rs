//! What a rollout will do, machine by machine.

use std::fmt::Write as _;

use ashlar_api::NamespacedName;

use crate::forecast::Forecast;
use crate::{Plan, Snapshot};

/// Steps that are told; of bigger clusters the rest is counted.
const TOLD: usize = 40;

/// Lines about the cluster's rollout, if it has one.
pub(super) fn write(text: &mut String, snapshot: &Snapshot, plan: &Plan, key: &NamespacedName) {
    let Some(mut forecast) = Forecast::new(snapshot, plan, key) else { return };
    let outdated = forecast.outdated();
    if outdated.is_empty() {
        return;
    }
    let what = match forecast.version(&outdated) {
        Some(to) => format!("rollout to {to}"),
        None => "replaced".to_owned(),
    };
    let _ = writeln!(
        text,
        "  {what}, one after the other (hosts are what they would be if nothing else changed):"
    );
    for (number, machine) in outdated.iter().take(TOLD).enumerate() {
        let _ = writeln!(text, "    {:>3}. {}", number + 1, forecast.replaced(machine));
    }
    if outdated.len() > TOLD {
        let _ = writeln!(text, "         and {} more", outdated.len() - TOLD);
    }
}
