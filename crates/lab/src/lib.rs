//! A lab: a pool of hosts made out of one Linux machine, for people who want to try one and for end-to-end tests.
//!
//! Each host has network, mount, UTS, IPC, process and cgroup namespaces of its own, its own `sshd`, libvirt, storage
//! pool and cgroup subtree, and is reached as a real one is: over SSH, with pinned keys. Commands against the lab run in
//! its control namespace, which reaches the hosts' SSH and nothing else; nothing leaves the machine.
//!
//! Everything is found by name and by namespace, so that `up` and `down` complete whatever a crash left behind.
//!
//! - [`Lab::up`], [`Lab::down`], [`Lab::status`]: life of a lab
//! - [`LabDescription`]: `lab.json`, everything a client needs
//! - [`Lab::exec`], [`Lab::output`], [`Lab::spawn`]: programs inside
//! - [`Lab::cut_link`], [`Lab::kill_daemon`], [`Lab::power_off`], …: faults

mod cgroup;
mod command;
mod config;
mod daemon;
mod describe;
mod down;
mod enter;
mod error;
mod exec;
mod fault;
mod files;
mod host;
mod lab;
mod layout;
mod mountinfo;
mod mounts;
mod names;
mod netns;
mod network;
mod pool;
mod preflight;
mod process;
mod ssh;
mod status;
mod up;

pub use daemon::{Daemon, DaemonState};
pub use describe::{AddressRange, HostDescription, LabDescription, ManagementNetwork, NodeNetwork};
pub use down::DownReport;
pub use error::{LabError, MissingProgram};
pub use exec::Place;
pub use lab::{DEFAULT_NAME, DEFAULT_ROOT, Lab};
pub use names::{CONTROL_ADDRESS, MAX_HOSTS, NODE_BRIDGE, NODE_GATEWAY, POOL_NAME, POOL_PATH};
pub use network::Link;
pub use preflight::preflight;
pub use status::{DaemonStatus, HostStatus, LabStatus, NamespaceStatus, Power};
pub use up::UpReport;
