//! No host is turned off but one that is silent, for as long as was said, while nearly all others answer.

use std::collections::BTreeSet;

use ashlar_api::{Host, ObjectRef};

use super::Findings;
use crate::{Action, Decision, Guard, HostSeen, Plan, Snapshot, StepState};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    for step in plan.steps.iter().filter(|step| step.state == StepState::Ready) {
        if let Some(Action::FenceHost { host }) = &step.action {
            fenced(snapshot, host, &step.object, findings);
        }
    }
    proofs(snapshot, plan, findings);
}

fn fenced(snapshot: &Snapshot, name: &str, object: &ObjectRef, findings: &mut Findings) {
    let Some(host) = snapshot.hosts.get(name) else {
        return findings.add("Fencing", object, format!("there is no host {name} to turn off"));
    };
    if host.spec.fencing.as_ref().is_none_or(|fencing| fencing.after_s.is_none()) {
        findings.add("Fencing", object, "nobody said that it is turned off by itself");
    }
    if host.record.silence.as_ref().is_none_or(|silence| silence.sightings < 4) {
        findings.add("Fencing", object, "it was not noticed for long enough that it is silent");
    }
    if host.record.power_cut.as_ref().is_some_and(|cut| !cut.fell_silent.is_empty()) {
        findings.add("Fencing", object, "another host fell silent when it was turned off the last time");
    }
    let mut silent = BTreeSet::new();
    let mut asked = 0;
    for (other, seen) in &snapshot.observed.hosts {
        asked += 1;
        if let HostSeen::Unreachable { .. } = seen {
            silent.insert(other.as_str());
        }
    }
    if !silent.contains(name) {
        findings.add("Fencing", object, "it answers, or was not asked, and is to be turned off");
    }
    let is_most = silent.len() * 2 >= asked;
    let is_many = silent.len() > 1 && silent.len() * 100 > asked * snapshot.fence_max_percent as usize;
    if (is_most || is_many) && Guard::FewSilent.stands() {
        let message = format!("it is to be turned off, and {} of {asked} hosts are silent", silent.len());
        findings.add("Fencing", object, message);
    }
}

/// Whether there is a proof that the host is off; it counts as long as that does not answer.
pub(super) fn is_proved_off(host: &Host) -> bool {
    host.record.fence.is_some() || !Guard::ProvedOff.stands()
}

/// A plan takes proofs away, and gives none: they are seen, or said.
fn proofs(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        if let Decision::Create(ashlar_api::Object::Host(host))
        | Decision::Update(ashlar_api::Object::Host(host)) = decision
        {
            let before = snapshot.hosts.get(&host.metadata.name).and_then(|host| host.record.fence.as_ref());
            if host.record.fence.is_some() && host.record.fence.as_ref() != before {
                findings.add(
                    "Fencing",
                    &host.object_ref(),
                    "a plan says that it is off, and nobody has seen that",
                );
            }
        }
    }
}
