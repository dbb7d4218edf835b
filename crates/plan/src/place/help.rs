//! What would help a machine that no host takes.

use std::collections::BTreeMap;

use ashlar_api::*;

use super::request::Request;
use super::usage::{Usage, offer};
use crate::draft::Draft;
use crate::report::Verdict;

/// One sentence: why nothing fits, and what would change it.
pub(crate) fn what_would_help(
    draft: &Draft<'_>,
    usage: &Usage,
    request: &Request<'_>,
    verdicts: &[Verdict],
) -> String {
    let class = request.class;
    let size = format!("{} vCPUs, {}", class.spec.vcpus, class.spec.memory);
    if verdicts.is_empty() {
        return format!("there is no host: enrol one that has {size} free (`ashlar host add`)");
    }
    let mut by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for verdict in verdicts {
        if let Some(refusal) = &verdict.refused {
            by_rule.entry(&refusal.rule).or_default().push(&verdict.host);
        }
    }
    let refusals: Vec<String> =
        by_rule.iter().map(|(rule, hosts)| format!("{rule}: {}", shortened(hosts))).collect();
    let mut help = Vec::new();
    if let Some(hosts) = by_rule.get("Cordoned") {
        help.push(format!("uncordon {}", hosts[0]));
    }
    if let Some(hosts) = by_rule.get("Memory") {
        let wants = class.spec.memory.0;
        let closest = hosts
            .iter()
            .filter_map(|name| {
                let free = offer(draft.hosts.get(&(*name).to_owned())?)?.memory_mib;
                let claimed = usage.hosts.get(*name).map_or(0, |usage| usage.memory_mib);
                Some((wants - free.saturating_sub(claimed).min(wants), *name))
            })
            .min();
        if let Some((short, name)) = closest {
            help.push(format!("{} of memory more on {name}", Mebibytes(short)));
        }
    }
    if let Some(hosts) = by_rule.get("Unreachable") {
        help.push(format!("{} answering again", hosts[0]));
    }
    if by_rule.contains_key("ControlPlaneSpread") {
        help.push("`spread: preferred` in the cluster (not highly available then)".to_owned());
    }
    help.push(format!("one more host with {size} free"));
    format!("no host fits ({}); what would help: {}", refusals.join("; "), help.join(", or "))
}

fn shortened(hosts: &[&str]) -> String {
    match hosts {
        [a, b, c, _, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len() + 1),
        few => few.join(", "),
    }
}
