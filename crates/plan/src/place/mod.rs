//! Placement: which host takes a machine, with a verdict for every host.

mod help;
mod request;
mod rules;
mod score;
mod usage;

use crate::draft::Draft;
use crate::names;
use crate::report::{Placement, Verdict};

pub(crate) use help::what_would_help;
pub(crate) use request::{Request, SEED_MIB, image_files, pool_of};
pub use rules::go_architecture;
pub(crate) use rules::{missing_image_mib, soon_mib};
pub use usage::{HostUsage, Offer, Usage, offer, pool_offer_mib};

/// Judges every host; the best that fits is chosen, ties go to the first name.
pub(crate) fn place(draft: &Draft<'_>, usage: &Usage, request: &Request<'_>) -> Placement {
    let nothing = HostUsage::default();
    let mut best: Option<(i64, &str)> = None;
    let mut verdicts = Vec::new();
    for (name, host) in draft.hosts.iter() {
        let claims = usage.hosts.get(name).unwrap_or(&nothing);
        let verdict = match rules::judge(draft, host, claims, request) {
            Err(refusal) => {
                Verdict { host: name.clone(), refused: Some(refusal), score: 0, score_reason: String::new() }
            }
            Ok(()) => {
                let (score, score_reason) = score::score(draft, host, claims, request);
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, name));
                }
                Verdict { host: name.clone(), refused: None, score, score_reason }
            }
        };
        verdicts.push(verdict);
    }
    Placement {
        machine: names::machine_ref(&request.machine),
        host: best.map(|(_, name)| name.to_owned()),
        verdicts,
    }
}

/// All claims in a draft.
pub(crate) fn usage_of(draft: &Draft<'_>) -> Usage {
    Usage::of(draft.machines.values(), draft.volumes.values())
}
