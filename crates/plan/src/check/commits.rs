//! Shape of the commits: sizes, each object once, nothing made twice, nothing decided that is not the planner's.

use std::collections::BTreeSet;

use ashlar_api::*;

use super::{Findings, leftovers, migration};
use crate::{Decision, MAX_COMMIT_WRITES, Plan, Snapshot};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    let mut created = BTreeSet::new();
    for commit in &plan.decisions {
        let mut once = BTreeSet::new();
        if commit.is_empty() {
            let nothing = ObjectRef::new(Kind::Cluster, "", "");
            findings.add("CommitEmpty", &nothing, "a commit without operations");
        }
        for (position, decision) in commit.iter().enumerate() {
            let object = decision.object_ref();
            if position == MAX_COMMIT_WRITES {
                let count = commit.len();
                findings.add(
                    "CommitSize",
                    &object,
                    format!("{count} operations in one commit, {MAX_COMMIT_WRITES} are allowed"),
                );
            }
            if !once.insert(object.clone()) {
                findings.add("CommitOnce", &object, "the commit has more than one operation on it");
            }
            match decision {
                Decision::Create(new) => {
                    if !new.metadata().resource_version.is_empty() || new.metadata().uid.is_none() {
                        findings.add("CreateNew", &object, "a new object has a resourceVersion, or no uid");
                    }
                    if exists(snapshot, &object) || !created.insert(object.clone()) {
                        findings.add("CreateNew", &object, "it exists already");
                    }
                }
                Decision::Update(Object::Machine(changed)) => {
                    if let Some(read) = snapshot.machines.get(&changed.key())
                        && (!is_same_machine(&read.spec, &changed.spec)
                            && !migration::is_moved(read, changed)
                            || read.metadata.uid != changed.metadata.uid)
                    {
                        findings.add(
                            "MachineIsFixed",
                            &object,
                            "what was decided about a machine never changes",
                        );
                    }
                }
                Decision::Update(Object::Volume(changed)) => {
                    if let Some(read) = snapshot.volumes.get(&changed.key())
                        && read.spec != changed.spec
                        && !leftovers::is_made_anew(read, changed)
                    {
                        findings.add(
                            "VolumeIsFixed",
                            &object,
                            "what was decided about a volume never changes",
                        );
                    }
                }
                Decision::Update(Object::Secret(_) | Object::Event(_)) => {
                    findings.add("NotThePlanners", &object, "secrets and events are the engine's");
                }
                Decision::Update(_) | Decision::Remove { .. } | Decision::Check { .. } => {}
            }
        }
    }
}

fn exists(snapshot: &Snapshot, object: &ObjectRef) -> bool {
    let key = object.key();
    match object.kind {
        Kind::Cluster => snapshot.clusters.contains_key(&key),
        Kind::WorkerGroup => snapshot.groups.contains_key(&key),
        Kind::Machine => snapshot.machines.contains_key(&key),
        Kind::Volume => snapshot.volumes.contains_key(&key),
        // The planner makes no objects of other kinds.
        _ => true,
    }
}

/// Labels and taints of its node are all that may change about a machine.
fn is_same_machine(read: &MachineSpec, changed: &MachineSpec) -> bool {
    let mut read = read.clone();
    read.node.labels.clone_from(&changed.node.labels);
    read.node.taints.clone_from(&changed.node.taints);
    read == *changed
}
