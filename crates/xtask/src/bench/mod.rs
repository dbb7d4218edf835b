//! Benches: Ashlar beside what a person would use in its place, in the same run on the same machine. They report and
//! judge nothing: a lost ratio is a finding, not a failed test.

mod capi;
mod create;
mod facts;
mod fleet;
mod get;
mod host;
mod idle;
mod image;
mod lab;
mod peers;
mod placement;
mod pool;
mod process;
mod program;
mod scale;
mod table;

use anyhow::Result;
use clap::Subcommand;

/// `cargo xtask bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Cluster API's in-memory provider, with a real kube-apiserver and etcd: clusters of 3 nodes that it brings up (the peer of P2)
    Capi(capi::Options),
    /// `cluster create` until all nodes are Ready, beside a shell script with virsh and kubeadm
    Create(create::Options),
    /// A simulated fleet: clusters brought up, passes with nothing to do and with hosts lost, the simulation's own speed
    Fleet(fleet::Options),
    /// Cold `ashlar get` over a large store, beside `virsh list`
    Get(get::Options),
    /// One host with real libvirt: a plan with nothing to do, machines made and deleted, beside virsh (P3, P4)
    Host(host::Options),
    /// The daemon while nothing is to be done, over 1 000 machines: simulated ones of 100 clusters, and domains of a real libvirt (P8)
    Idle(idle::Options),
    /// A node image's way to each of three empty hosts: bytes over the link, and seconds until a machine starts there
    Image(image::Options),
    /// Packing of real traces and placements a second, beside first fit, best fit, OpenStack placement and Ganeti's hspace
    Placement(placement::Options),
    /// The proof of scale in one table: P2, P3, P4, P9 and P12, each beside its peer or floor
    Scale(scale::Options),
    /// Time of a plan for 1 000 hosts, 200 clusters and 3 000 machines, and of one with nothing to do, at three sizes
    Plan(placement::PlanOptions),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Capi(options) => capi::run(options),
        Bench::Create(options) => create::run(options),
        Bench::Fleet(options) => fleet::run(options),
        Bench::Get(options) => get::run(options),
        Bench::Host(options) => host::run(options),
        Bench::Idle(options) => idle::run(options),
        Bench::Image(options) => image::run(options),
        Bench::Placement(options) => placement::placement(options),
        Bench::Scale(options) => scale::run(options),
        Bench::Plan(options) => placement::plan(options),
    }
}
