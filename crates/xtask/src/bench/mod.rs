//! Benches: Ashlar beside what a person would use in its place, in the same run on the same machine. They report and
//! judge nothing: a lost ratio is a finding, not a failed test.

mod create;
mod facts;
mod get;
mod lab;
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
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Create(options) => create::run(options),
        Bench::Get(options) => get::run(options),
    }
}
