//! Placement: which host takes a machine, and why no other.
//!
//! Hard rules refuse a host; a score orders those that are left. Both are applied by the [`Packer`], which knows numbers
//! only and is kept up to date claim by claim; this module's other half turns objects into numbers and, where people
//! ask, numbers back into sentences.

mod fleet;
mod guard;
mod help;
mod offer;
mod packer;
mod request;
mod room;
mod rules;
mod score;
mod sentences;
mod spread;
mod summary;

use crate::draft::Draft;
use crate::names;
use crate::report::{Placement, Verdict};

pub(crate) use fleet::Fleet;
pub(crate) use help::what_would_help;
pub use packer::{Choice, Claim, HostNumber, Packer, ShapeNumber};
pub(crate) use request::{Request, SEED_MIB, image_files, pool_of};
pub use room::{Demand, Lack, NodeRoom, PoolRoom, Room};
pub use rules::go_architecture;
pub use spread::Peers;
pub use summary::{ClassRoom, HostSummary, summary};

/// In pools of up to so many hosts a plan reports the verdict on each; in bigger ones on the chosen host only, and
/// `ashlar explain machine` judges all of them.
const REPORTED_HOSTS: usize = 32;

/// Chooses a host for the request's machine, if any will do.
pub(crate) fn place(draft: &Draft<'_>, fleet: &mut Fleet, request: &Request<'_>) -> Placement {
    let choice = fleet.choice(draft, request);
    let shape = fleet.shape(draft, request).number;
    let chosen = fleet.packer.choose(shape, &choice);
    let verdicts = match chosen {
        Some(host) if fleet.len() > REPORTED_HOSTS => {
            vec![sentences::verdict(draft, fleet, request, &choice, host)]
        }
        _ => all_verdicts(draft, fleet, request, &choice),
    };
    Placement {
        machine: names::machine_ref(&request.machine),
        host: chosen.map(|host| fleet.names[host as usize].clone()),
        not_shown: u32::try_from(fleet.len() - verdicts.len()).unwrap_or(u32::MAX),
        verdicts,
    }
}

/// The verdict on every host.
pub(crate) fn judge_all(draft: &Draft<'_>, fleet: &mut Fleet, request: &Request<'_>) -> Vec<Verdict> {
    let choice = fleet.choice(draft, request);
    all_verdicts(draft, fleet, request, &choice)
}

fn all_verdicts(
    draft: &Draft<'_>,
    fleet: &mut Fleet,
    request: &Request<'_>,
    choice: &Choice,
) -> Vec<Verdict> {
    let hosts = u32::try_from(fleet.len()).unwrap_or(u32::MAX);
    (0..hosts).map(|host| sentences::verdict(draft, fleet, request, choice, host)).collect()
}
