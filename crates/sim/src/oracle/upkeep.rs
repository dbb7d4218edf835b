//! A member of etcd that is defragmented answers nobody: all others have to be well, and nothing else is done to a control plane of
//! the cluster until it is back.

use ashlar_api::{Machine, MachineRole, NamespacedName};
use jiff::Timestamp;
use serde_json::Value;

use super::{field, is_deleting};
use crate::State;
use crate::guest::cluster_of;

impl State {
    /// 4: it is recorded, the other voters are well, and no control plane comes, goes or moves.
    pub(crate) fn judge_defragment(&mut self, cluster: &NamespacedName, id: u64) {
        if self.oracle.is_off {
            return;
        }
        let Some(world) = self.clusters.get(cluster) else { return };
        let name_of = |id: &u64| world.etcd.members.get(id).map(|it| it.name.clone()).unwrap_or_default();
        let name = name_of(&id);
        let living = self.living_voters(cluster);
        let voters = world.etcd.members.iter().filter(|(_, member)| !member.is_learner);
        let unwell = voters.map(|(voter, _)| voter).find(|voter| **voter != id && !living.contains(voter));
        let unwell = unwell.map(name_of);
        let mut found: Vec<(&str, String)> = Vec::new();
        found.extend(
            unwell.map(|other| ("quorum", format!("{name} is defragmented while {other} is not well"))),
        );
        let stored = self.stored_object("Cluster", cluster);
        let mark = stored.as_ref().and_then(|stored| stored.pointer("/record/defragmenting"));
        if mark.is_none_or(|mark| field(mark, "/machine") != name) {
            found.push(("intent", format!("{name} is defragmented, which is not recorded")));
        }
        let since = mark.and_then(|mark| field(mark, "/since").parse::<Timestamp>().ok());
        for (key, machine) in self.oracle.stored("Machine") {
            let is_own =
                key.namespace == cluster.namespace && field(&machine, "/spec/cluster") == cluster.name;
            if !is_own || field(&machine, "/spec/role") != "control-plane" {
                continue;
            }
            // What is decided once it has begun waits for its end.
            let before =
                |at: &str| at.parse::<Timestamp>().is_ok_and(|at| since.is_none_or(|since| at < since));
            let goes = is_deleting(&machine) && before(field(&machine, "/metadata/deletionTimestamp"));
            let moves = before(field(&machine, "/record/migration/decidedAt"));
            let joins = machine.pointer("/record/joinedAt").is_none_or(Value::is_null)
                && before(field(&machine, "/record/firstStartedAt"));
            for (is, what) in [(goes, "goes"), (moves, "moves"), (joins, "joins")] {
                if is {
                    found.push(("quorum", format!("{name} is defragmented while {} {what}", key.name)));
                }
            }
        }
        for (invariant, what) in found {
            self.blame(invariant, what);
        }
    }

    /// 4: no other control plane is disturbed while a member is defragmented, in a cluster that lives.
    pub(crate) fn judge_disturbance(&mut self, cluster: &NamespacedName, call: &str) {
        let Some(world) = self.clusters.get(cluster).filter(|_| !self.oracle.is_off) else { return };
        let Some(id) = world.etcd.defragmenting.keys().next() else { return };
        let name = world.etcd.members.get(id).map(|member| member.name.clone()).unwrap_or_default();
        let goes = self.stored_object("Cluster", cluster).is_none_or(|stored| {
            is_deleting(&stored) || stored.pointer("/record/stopped").and_then(Value::as_bool) == Some(true)
        });
        if !goes {
            self.blame("quorum", format!("{call} in {cluster} while {name} is defragmented"));
        }
    }

    /// The same, of a move.
    pub(super) fn judge_move_beside(&mut self, machine: &Machine) {
        if machine.spec.role == MachineRole::ControlPlane {
            self.judge_disturbance(&cluster_of(machine), "migrate_domain");
        }
    }
}
