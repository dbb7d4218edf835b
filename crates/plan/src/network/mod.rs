//! Networks on hosts: what should be there, what is left to do for it, and when it goes.
//!
//! A host has something of a network as long as a machine there is attached to it: of every network the filters on the
//! machines' taps, of one that Ashlar makes also bridge, gateway and overlay. The Network's record names the hosts
//! before anything is made there, and keeps them until they were seen without.

mod decide;
mod host_network;
pub mod names;
mod population;
mod steps;

pub use host_network::{HostNetwork, MadeBridge, Overlay, TapFilter};
pub use population::{Population, underlay};

pub(crate) use decide::{decide, is_left_behind};
pub(crate) use population::bridge;
pub(crate) use steps::{ready, steps};

use crate::{Snapshot, draft::Draft};

/// What should be there of a network on a host, as far as the store says.
///
/// # Errors
/// For people: what has to be added to the store first.
pub fn desired(snapshot: &Snapshot, network: &str, host: &str) -> Result<HostNetwork, String> {
    committed(snapshot).desired(network, host)
}

/// What the store says of all networks: for who asks about many.
pub fn committed(snapshot: &Snapshot) -> Population<'_> {
    Population::new(
        snapshot.installation,
        snapshot.networks.values(),
        snapshot.machines.values(),
        snapshot.clusters.values(),
        snapshot.hosts.values(),
    )
}

/// What it will say once this plan's decisions are committed.
fn population<'d>(draft: &'d Draft<'_>) -> Population<'d> {
    Population::new(
        draft.snapshot.installation,
        draft.networks.values(),
        draft.machines.values(),
        draft.clusters.values(),
        draft.hosts.values(),
    )
}
