//! A plan for programs; for people there is `ashlar_plan::render`.

use ashlar_plan::{Decision, Plan};
use serde_json::{Value, json};

/// A plan as JSON: commits, steps, report.
pub(crate) fn plan_value(plan: &Plan) -> Result<Value, serde_json::Error> {
    let object = |object: &ashlar_api::Object| object.to_value().map_err(serde::ser::Error::custom);
    let mut decisions = Vec::new();
    for commit in &plan.decisions {
        let mut writes = Vec::new();
        for decision in commit {
            writes.push(match decision {
                Decision::Create(new) => json!({"create": object(new)?}),
                Decision::Update(changed) => json!({"update": object(changed)?}),
                Decision::Remove { object, resource_version } => {
                    json!({"remove": object, "resourceVersion": resource_version})
                }
                Decision::Check { object, resource_version } => {
                    json!({"check": object, "resourceVersion": resource_version})
                }
            });
        }
        decisions.push(Value::Array(writes));
    }
    Ok(json!({"decisions": decisions, "steps": plan.steps, "report": plan.report}))
}
