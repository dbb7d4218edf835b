//! Why a machine is where it is, or why it is nowhere yet.

use std::fmt::Write as _;

use ashlar_api::*;

use crate::draft::{Draft, cluster_of};
use crate::place::{self, Fleet, Request};
use crate::report::{Placement, Verdict};
use crate::{Plan, Snapshot, names};

/// Annotation of a machine with the verdicts by which it was placed.
pub const PLACEMENT_ANNOTATION: &str = "ashlar.dev/placement";

/// Judges every host for a machine that is there, as if it looked for a host now: its own claims do not count.
/// `None` if the machine, or what it was made from, is not in the store any more.
///
/// The host it *is* on stays the chosen one; the verdicts tell whether another would be chosen today.
pub fn placement(snapshot: &Snapshot, machine: &NamespacedName) -> Option<Placement> {
    let machine = snapshot.machines.get(machine)?;
    let draft = Draft::new(snapshot);
    let cluster_key = cluster_of(machine);
    let cluster = snapshot.clusters.get(&cluster_key)?;
    let spec = &machine.spec;
    let request = Request {
        machine: machine.key(),
        domain_name: spec.domain.name.clone(),
        cluster,
        role: spec.role,
        group: &spec.group,
        class: snapshot.classes.get(&spec.class)?,
        image: snapshot.images.get(&spec.image.name)?,
        network: snapshot.networks.get(&spec.nics.first()?.network)?,
        pool: place::pool_of(snapshot, snapshot.classes.get(&spec.class)?).ok()?,
        control_plane_hosts: draft
            .machines_of(&cluster_key)
            .into_iter()
            .filter(|other| other.spec.role == MachineRole::ControlPlane && other.key() != machine.key())
            .map(|other| other.spec.host.clone())
            .collect(),
        own_domain: Some(spec.domain.uuid),
        moves: None,
    };
    let mut fleet = Fleet::new(&draft, Some(&machine.key()));
    Some(Placement {
        machine: machine.object_ref(),
        host: Some(spec.host.clone()),
        verdicts: place::judge_all(&draft, &mut fleet, &request),
        not_shown: 0,
    })
}

/// The placement that a plan decided, or could not decide, for a machine that is not there yet.
pub fn planned<'p>(plan: &'p Plan, machine: &NamespacedName) -> Option<&'p Placement> {
    let machine = names::machine_ref(machine);
    plan.report.placements.iter().find(|placement| placement.machine == machine)
}

/// The placement as text, a line for each host, best first; at most `limit` hosts.
pub fn placement_text(placement: &Placement, limit: usize) -> String {
    let mut text = match &placement.host {
        Some(host) => format!("{} is on host {host}\n", placement.machine),
        None => format!("{} has no host\n", placement.machine),
    };
    for line in verdict_lines(placement, limit) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// A line for each host: the chosen one, others that fit by score, then the refused ones.
pub fn verdict_lines(placement: &Placement, limit: usize) -> Vec<String> {
    let chosen = |verdict: &Verdict| placement.host.as_deref() == Some(verdict.host.as_str());
    let mut verdicts: Vec<&Verdict> = placement.verdicts.iter().collect();
    verdicts.sort_by_key(|verdict| {
        (!chosen(verdict), verdict.refused.is_some(), std::cmp::Reverse(verdict.score), verdict.host.as_str())
    });
    let mut lines: Vec<String> = verdicts
        .iter()
        .take(limit)
        .map(|verdict| match &verdict.refused {
            None if chosen(verdict) => format!("{}: chosen: {}", verdict.host, verdict.score_reason),
            None => format!("{}: fits too: {}", verdict.host, verdict.score_reason),
            Some(refusal) => format!("{}: {}: {}", verdict.host, refusal.rule, refusal.message),
        })
        .collect();
    if placement.not_shown > 0 {
        let machine = &placement.machine.name;
        lines.push(format!("{} more hosts: see `ashlar explain machine {machine}`", placement.not_shown));
    }
    if verdicts.len() > limit {
        let fit = verdicts[limit..].iter().filter(|verdict| verdict.refused.is_none()).count();
        lines.push(format!("and {} more hosts, of which {fit} fit", verdicts.len() - limit));
    }
    lines
}
