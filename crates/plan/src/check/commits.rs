//! Shape of the commits: sizes, and each object once.

use std::collections::BTreeSet;

use super::Violation;
use crate::{Decision, MAX_COMMIT_WRITES, Plan, Snapshot};

pub(super) fn check(_snapshot: &Snapshot, plan: &Plan, violations: &mut Vec<Violation>) {
    for commit in &plan.decisions {
        let mut seen = BTreeSet::new();
        for (position, decision) in commit.iter().enumerate() {
            let object = decision.object_ref();
            if position == MAX_COMMIT_WRITES {
                violations.push(Violation {
                    rule: "CommitSize",
                    object: object.clone(),
                    message: format!(
                        "{} operations in one commit, {MAX_COMMIT_WRITES} are allowed",
                        commit.len()
                    ),
                });
            }
            if !seen.insert(object.clone()) {
                violations.push(Violation {
                    rule: "CommitOnce",
                    object,
                    message: "the commit has more than one operation on it".to_owned(),
                });
            }
            if let Decision::Create(created) = decision
                && !created.metadata().resource_version.is_empty()
            {
                violations.push(Violation {
                    rule: "CreateNew",
                    object: created.object_ref(),
                    message: "a new object has a resourceVersion".to_owned(),
                });
            }
        }
    }
}
