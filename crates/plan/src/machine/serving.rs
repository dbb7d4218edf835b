//! Kubelets' requests for the certificates that they serve with: approved where they are right, denied where not.

use ashlar_api::Machine;

use super::chain::Chain;
use super::context::ClusterContext;
use crate::{Action, Step, serving};

/// Denials of one machine in a pass: who floods the API with requests is answered at this pace.
const DENIED_AT_ONCE: usize = 4;
/// Approvals of one machine in a pass: a kubelet asks once, and again if it was restarted meanwhile.
const APPROVED_AT_ONCE: usize = 4;

/// Steps of the cluster's undecided requests. They come after all others of their machines, whose steps they must not hold up.
pub(super) fn steps(context: &ClusterContext<'_>) -> Vec<Step> {
    let Some(world) = context.heard() else { return Vec::new() };
    if context.is_deleting() || world.serving_requests.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for machine in &context.machines {
        // Who is about to go needs no certificate, and to deny it would make its kubelet ask again and again.
        if !machine.metadata.is_deleting() {
            steps.extend(of_machine(context, machine));
        }
    }
    steps
}

fn of_machine(context: &ClusterContext<'_>, machine: &Machine) -> Vec<Step> {
    let Some(world) = context.heard() else { return Vec::new() };
    let own = world.serving_requests.iter().filter(|(_, request)| {
        serving::machine_of(&context.machines, request).is_some_and(|found| found.key() == machine.key())
    });
    let node = world.nodes.get(&machine.spec.node.name);
    let mut chain = Chain::new(machine.object_ref(), "");
    let (mut approved, mut denied) = (0, 0);
    for (csr, request) in own {
        let (csr, machine_name) = (csr.clone(), machine.key());
        match request.judge(machine, node) {
            Ok(()) if approved < APPROVED_AT_ONCE => {
                approved += 1;
                let why = format!("approve {csr}: the certificate that its kubelet serves with");
                chain.push_elsewhere(Action::ApproveServingCsr { machine: machine_name, csr }, why);
            }
            Err(fault) if denied < DENIED_AT_ONCE => {
                denied += 1;
                let why = format!("deny {csr}, a request for a kubelet's serving certificate: {fault}");
                chain.push_elsewhere(Action::DenyServingCsr { machine: machine_name, csr }, why);
            }
            Ok(()) | Err(_) => {}
        }
    }
    chain.finish()
}
