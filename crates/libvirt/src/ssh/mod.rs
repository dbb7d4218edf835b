//! SSH to hosts, by the system's `ssh`: pinned host keys, nothing of the user's configuration, and every session
//! through the gate.

mod address;
mod command;
mod failure;
mod gate;
mod mux;
mod trunk;

pub(crate) use address::SshAddress;
pub(crate) use command::Ssh;
pub(crate) use failure::failure;
pub(crate) use mux::{Forward, open_forward};
pub(crate) use trunk::{Trunk, read_all};
