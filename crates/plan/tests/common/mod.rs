//! A pool of hosts in memory, and a perfect world: every decision is committed, every ready step succeeds.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a failure here is a failed test"
)]

pub mod patients;
pub mod pool;
pub mod world;

pub use pool::*;
pub use world::*;

use ashlar_plan::Ids;

/// Ids from a seed: the same purpose gives the same bits.
pub struct SeededIds(pub u64);

impl Ids for SeededIds {
    fn bits(&mut self, purpose: &str) -> u128 {
        // FNV-1a over seed and purpose, then two rounds of splitmix64 to spread the bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.0.to_be_bytes().into_iter().chain(purpose.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut next = || {
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = hash;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        u128::from(next()) << 64 | u128::from(next())
    }
}
