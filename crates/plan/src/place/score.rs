//! Which of the hosts that fit is best.

use super::packer::PackedHost;
use super::room::{Demand, signed};

/// What having the image already is worth, in thousandths: a host on which a machine leaves CPU and memory five per cent
/// less even is better than one that would have to be sent the image first.
const IMAGE_THERE: i64 = 50;
/// An empty host is a last resort: it could stay off, or take a big machine.
const EMPTY: i64 = -100_000;
/// For each doubling of the time that a host's oldest machine has been there.
const OLDER: i64 = 1_000;

/// How well a machine fits on a host, in thousandths of a host: the highest wins.
///
/// A host whose machines have been there for long will not become empty soon, and whatever it has left is free of charge;
/// one that was opened lately may be empty again tomorrow if nothing is put there. So the oldest come first. Among those
/// of an age, the machine goes where it evens out what is left of CPU and memory, then to the first host.
///
/// Where the weights come from: a search on four of the traces of `cargo xtask bench placement`, when their host-days were
/// still counted to day 90. They are not the best of any search on more of them.
pub(crate) fn packing_score(host: &PackedHost, number: usize, demand: &Demand, image_is_there: bool) -> i64 {
    let (room, offer) = (&host.room, &host.offer);
    let left = |left: i64, of: i64| if of > 0 { left * 1000 / of } else { 0 };
    let vcpus = if demand.dedicated { 0 } else { signed(demand.vcpus) };
    let memory_mib = if demand.hugepages.is_some() { 0 } else { signed(demand.memory_mib) };
    let uneven = |vcpus: i64, memory_mib: i64| {
        (left(room.vcpus - vcpus, offer.vcpus) - left(room.memory_mib - memory_mib, offer.memory_mib)).abs()
    };
    let worse = uneven(vcpus, memory_mib) - uneven(0, 0);
    let bound_left = if demand.nodes == 0 {
        0
    } else {
        // Whole NUMA nodes stay free: those that are in use already are filled up first.
        let sum = |nodes: &[super::room::NodeRoom]| -> i64 {
            nodes.iter().map(|node| node.dedicated + node.huge_mib.iter().sum::<i64>() / 1024).sum()
        };
        left(sum(&room.nodes), sum(&offer.nodes))
    };
    let age = match host.claims.keys().next() {
        Some(oldest) => OLDER * log2_thousandths(host.changed_at.saturating_sub(*oldest) + 64) / 1000,
        None => EMPTY,
    };
    let image = if image_is_there { IMAGE_THERE } else { 0 };
    age + image - worse - bound_left - i64::try_from(number).unwrap_or(i64::MAX / 4)
}

/// 1000 × log2, with a straight line between powers of two: the same on every machine, which floats need not be.
fn log2_thousandths(number: u64) -> i64 {
    let number = number.max(1);
    let whole = number.ilog2();
    let rest = u128::from(number - (1 << whole)) * 1000 / (1_u128 << whole);
    i64::from(whole) * 1000 + i64::try_from(rest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::log2_thousandths;

    #[test]
    fn logarithms_grow_steadily() {
        assert_eq!([0, 1, 2, 3, 4, 1024].map(log2_thousandths), [0, 0, 1000, 1500, 2000, 10_000]);
        assert!(log2_thousandths(u64::MAX) < 64_000);
    }
}
