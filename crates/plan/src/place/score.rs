//! Which of the hosts that fit is best.

use ashlar_api::*;

use super::request::Request;
use super::rules::missing_image_mib;
use super::usage::{HostUsage, offer};
use crate::draft::Draft;

/// A host's score (the highest wins) and its parts for people.
///
/// Machines of one group spread over hosts, control planes over zones and racks too; then a host that has the image,
/// then the one with most memory left.
pub(crate) fn score(
    draft: &Draft<'_>,
    host: &Host,
    usage: &HostUsage,
    request: &Request<'_>,
) -> (i64, String) {
    let same = usage.groups.get(&(request.cluster.key(), request.group.to_owned())).copied().unwrap_or(0);
    let what = match request.role {
        MachineRole::ControlPlane => "control planes".to_owned(),
        MachineRole::Worker => format!("of {}", request.group),
    };
    let mut score = -1_000_000 * i64::from(same);
    let mut parts = vec![format!("{same} {what} there")];
    if request.role == MachineRole::ControlPlane {
        let others = request.control_plane_hosts.iter().filter_map(|name| draft.hosts.get(name));
        let (mut in_zone, mut in_rack) = (0_i64, 0_i64);
        for other in others {
            in_zone += i64::from(!host.spec.zone.is_empty() && other.spec.zone == host.spec.zone);
            in_rack += i64::from(
                !host.spec.rack.is_empty()
                    && other.spec.rack == host.spec.rack
                    && other.spec.zone == host.spec.zone,
            );
        }
        score -= 100_000 * in_zone + 10_000 * in_rack;
        if in_zone > 0 {
            parts.push(format!("{in_zone} in zone {}", host.spec.zone));
        }
        if in_rack > 0 {
            parts.push(format!("{in_rack} in rack {}", host.spec.rack));
        }
    }
    if missing_image_mib(draft, &host.metadata.name, request) == 0 {
        score += 1_000;
        parts.push("image there".to_owned());
    }
    if let Some(offer) = offer(host) {
        let after = offer.memory_mib.saturating_sub(usage.memory_mib + request.class.spec.memory.0);
        // Thousandths, so that hosts of a size are told apart by one small machine.
        let thousandths = (after * 1000).checked_div(offer.memory_mib).unwrap_or(0);
        score += i64::try_from(thousandths).unwrap_or(0);
        parts.push(format!("{} % of memory left after", thousandths / 10));
    }
    (score, parts.join(", "))
}
