//! libvirt and SSH on real hosts: the implementation of the engine's effects.
//!
//! [`Hosts`] is [`Hypervisor`](ashlar_engine::effects::Hypervisor), [`HostShell`](ashlar_engine::effects::HostShell)
//! and [`Dial`](ashlar_engine::effects::Dial). Per host it keeps
//!
//! - a *trunk*: one SSH connection with the pinned host key, which short commands, tunnels and the control lane share;
//! - a *control lane* and a *bulk lane*: connections to libvirt, each with a thread of its own. The bulk lane has its
//!   own SSH connection.
//!
//! Every session passes the *gate*, a shell snippet sent along with it, which holds the host lease. Every call has a
//! deadline: a host that hangs holds nobody else up.
//!
//! [`PowerControl`] turns hosts off without them: `ipmitool`, and users' own commands.
//!
//! libvirt's C library is loaded when the first connection is opened. There is nothing of `virsh`, and no pool is
//! ever refreshed: volumes are made through libvirt, so that it knows them.

mod command;
mod console;
mod counters;
mod dial;
mod error;
mod ffi;
mod hosts;
mod hypervisor;
mod known;
mod lane;
pub mod network;
mod pair;
mod power;
mod settings;
mod shell;
mod ssh;
pub mod xml;

pub use counters::{Counters, READ};
pub use hosts::Hosts;
pub use power::PowerControl;
pub use settings::Settings;
