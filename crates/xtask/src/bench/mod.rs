//! Benches: Ashlar beside what a person would use in its place, in the same run on the same machine. They report and
//! judge nothing: a lost ratio is a finding, not a failed test.

mod create;
mod facts;
mod get;
mod image;
mod lab;
mod peers;
mod placement;
mod pool;
mod process;
mod program;
mod table;

use anyhow::Result;
use clap::Subcommand;

/// `cargo xtask bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// `cluster create` until all nodes are Ready, beside a shell script with virsh and kubeadm
    Create(create::Options),
    /// Cold `ashlar get` over a large store, beside `virsh list`
    Get(get::Options),
    /// A node image's way to each of three empty hosts: bytes over the link, and seconds until a machine starts there
    Image(image::Options),
    /// Packing of real traces and placements a second, beside first fit, best fit, OpenStack placement and Ganeti's hspace
    Placement(placement::Options),
    /// Time of a plan for 1 000 hosts, 200 clusters and 3 000 machines, and of one with nothing to do, at three sizes
    Plan(placement::PlanOptions),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Create(options) => create::run(options),
        Bench::Get(options) => get::run(options),
        Bench::Image(options) => image::run(options),
        Bench::Placement(options) => placement::placement(options),
        Bench::Plan(options) => placement::plan(options),
    }
}
