//! Real libvirt on the hosts of a lab. Needs root, and the busybox test image.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_engine::contract;
use common::{TestLab, place};

#[test]
fn the_contract_holds_on_real_libvirt() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        contract::all(&place).await;
    });
}
