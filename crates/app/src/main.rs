//! `ashlar`: plain Linux/KVM hosts in, isolated kubeadm Kubernetes clusters in virtual machines out.
//!
//! Wiring and presentation only: flags become settings ([`settings`]), settings become a command ([`commands`]),
//! and everything that is said goes through one printer ([`output`]). What is decided is decided in `ashlar-plan`,
//! what is done is done by `ashlar-engine`.

mod bundle;
mod cli;
mod commands;
mod confirm;
mod daemon;
mod failure;
mod input;
mod interrupt;
mod objects;
mod output;
mod progress;
mod selector;
mod settings;
mod wiring;

use std::process::ExitCode;

/// What a whole look at a pool took goes back to the system; glibc's keeps it for ever in pieces.
/// Tests have the simulated world's.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::main().into()
}
