//! Which of the hosts that fit is best.

use super::room::{Demand, Room};

/// What having the image already is worth, in the same unit: a host that is five per cent fuller is better than one
/// that would have to be sent the image first.
const IMAGE_THERE: i64 = 50;

/// How well a machine fills a host: the highest wins. The fuller the host is afterwards, and the more evenly CPU and
/// memory are used up, the better: what is left stays usable for machines of every shape, and empty hosts stay empty.
pub(crate) fn packing_score(room: &Room, offer: &Room, demand: &Demand, image_is_there: bool) -> i64 {
    let left = |left: i64, of: i64| if of > 0 { left * 1000 / of } else { 0 };
    let vcpus = if demand.dedicated { 0 } else { super::room::signed(demand.vcpus) };
    let memory_mib = if demand.hugepages.is_some() { 0 } else { super::room::signed(demand.memory_mib) };
    let cpu_left = left(room.vcpus - vcpus, offer.vcpus);
    let memory_left = left(room.memory_mib - memory_mib, offer.memory_mib);
    let bound_left = if demand.nodes == 0 {
        0
    } else {
        // The nodes that it would fill: few dedicated threads or huge pages left elsewhere is no concern of its.
        let free: i64 =
            room.nodes.iter().map(|node| node.dedicated + node.huge_mib.iter().sum::<i64>() / 1024).sum();
        let all: i64 =
            offer.nodes.iter().map(|node| node.dedicated + node.huge_mib.iter().sum::<i64>() / 1024).sum();
        left(free, all)
    };
    let image = if image_is_there { IMAGE_THERE } else { 0 };
    image - cpu_left - memory_left - 2 * (cpu_left - memory_left).abs() - bound_left
}
