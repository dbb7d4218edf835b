//! One lab host, real libvirt, the production engine: what `cargo xtask bench host` runs.
//!
//! `steady N [ANSIBLE]`: the plan with nothing to do over N defined domains, beside virsh, and Ansible if it is named (P3).
//! `churn N`: N small machines made and deleted, beside the same by virsh on many connections (P4); `churn N alone`: without
//! virsh, for a profile.
//! `idle N SECONDS`: the daemon, which has nothing to do for so long, over N defined domains (P8).
//!
//! Needs root. Guests have a kernel of five bytes that halts: nothing boots, so that the host's time is libvirt's.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends here")]

mod ansible;
mod churn;
mod idle;
mod image;
mod rig;
mod steady;
mod virsh;
mod world;

use std::path::Path;

/// The program's own: what stays resident is measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let rig = rig::Rig::up;
    let report = match words.as_slice() {
        ["steady", count] => steady::run(&rig(), count.parse().unwrap(), None),
        ["steady", count, ansible] => steady::run(&rig(), count.parse().unwrap(), Some(ansible)),
        ["churn", count, "alone"] => churn::alone(&rig(), count.parse().unwrap()),
        ["churn", count, ..] => churn::run(&rig(), count.parse().unwrap()),
        ["idle", count, seconds] => idle::run(&rig(), count.parse().unwrap(), seconds),
        ["idle-in", lab, dir, seconds] => {
            idle::measure(&rig::Rig::of(lab, Path::new(dir)), seconds.parse().unwrap())
        }
        _ => {
            eprintln!("usage: one_host steady N [ANSIBLE] | churn N [alone] | idle N SECONDS");
            std::process::exit(2);
        }
    };
    println!("{report}");
}
