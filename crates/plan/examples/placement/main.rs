//! Placement and planning, measured: `cargo run --release -p ashlar-plan --example placement -- COMMAND`.
//!
//! `traces DIRECTORY`: the CoSpot traces (CSV files below it), replayed with first fit, best fit and Ashlar.
//! `pool`: a synthetic pool of NUMA hosts with anti-affinity: placements a second.
//! `plan`: a plan for 1 000 hosts, 200 clusters and 3 000 machines, and one that has nothing to do.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench reads files and the clock, and stops at the first thing that is wrong"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod planning;
mod policies;
mod pool;
mod trace;
mod traces;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["traces", directory] => traces::run(directory.as_ref()),
        ["pool"] => pool::run(),
        ["plan"] => planning::run(1000, 200, 15),
        ["plan", hosts, clusters, machines] => {
            planning::run(hosts.parse().unwrap(), clusters.parse().unwrap(), machines.parse().unwrap());
        }
        _ => {
            eprintln!("traces DIRECTORY | pool | plan [HOSTS CLUSTERS MACHINES-OF-EACH]");
            std::process::exit(2);
        }
    }
}
