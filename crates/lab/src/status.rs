//! `status`: what of a lab is there and alive. Looks only; changes nothing, and takes no lock.

use std::fs;

use serde::Serialize;

use crate::daemon::{self, Daemon, DaemonState, LibvirtFlavour};
use crate::describe::HostDescription;
use crate::files::disk_use_bytes;
use crate::host::{self, RunningHost};
use crate::names::{self, NetnsRole};
use crate::network::{self, Link};
use crate::{Lab, LabError, cgroup, netns, process};

/// The whole lab.
#[derive(Debug, Clone, Serialize)]
pub struct LabStatus {
    /// Name of the lab.
    pub name: String,
    /// Whether `lab.json` is there. Without it, `hosts` is empty, and `namespaces` may show what a crash left.
    pub exists: bool,
    /// Its network namespaces on this machine.
    pub namespaces: Vec<String>,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

/// One host.
#[derive(Debug, Clone, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// On or off.
    pub power: Power,
    /// Its daemons.
    pub daemons: Vec<DaemonStatus>,
    /// Its namespaces; empty when it is off.
    pub namespaces: Vec<NamespaceStatus>,
    /// Number of processes in it, virtual machines included.
    pub processes: usize,
    /// Names of the domains that run.
    pub domains: Vec<String>,
    /// What its disks take, in bytes.
    pub disk_bytes: u64,
    /// Whether its link to the management network is up.
    pub management_link: bool,
    /// Whether its link to the node network is up.
    pub node_link: bool,
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Its namespaces are there.
    On,
    /// They are not.
    Off,
}

/// One daemon.
#[derive(Debug, Clone, Serialize)]
pub struct DaemonStatus {
    /// Which one.
    pub daemon: Daemon,
    /// What it is doing.
    pub state: DaemonState,
    /// Its process, if it lives.
    pub pid: Option<i32>,
}

/// One namespace.
#[derive(Debug, Clone, Serialize)]
pub struct NamespaceStatus {
    /// `net`, `mnt`, `uts`, `ipc`, `pid` or `cgroup`.
    pub kind: &'static str,
    /// What identifies it.
    pub inode: u64,
}

impl LabStatus {
    /// Whether everything that `up` makes is there and alive.
    pub fn is_complete(&self) -> bool {
        self.exists && !self.hosts.is_empty() && self.hosts.iter().all(HostStatus::is_complete)
    }
}

impl HostStatus {
    /// Whether everything of the host is there and alive.
    pub fn is_complete(&self) -> bool {
        self.power == Power::On
            && self.management_link
            && self.node_link
            && self.daemons.iter().all(|it| it.state == DaemonState::Running)
    }

    /// The state of one daemon; [`DaemonState::Dead`] for one that such a host does not have.
    pub fn daemon(&self, daemon: Daemon) -> DaemonState {
        self.daemons.iter().find(|it| it.daemon == daemon).map_or(DaemonState::Dead, |it| it.state)
    }
}

impl Lab {
    /// Looks at the lab.
    ///
    /// # Errors
    /// Its description cannot be read; `ip` fails.
    pub fn status(&self) -> Result<LabStatus, LabError> {
        let namespaces = netns::of_lab(&self.name).into_iter().map(|(_, name)| name).collect();
        let description = self.description()?;
        let hosts = description.iter().flat_map(|it| &it.hosts);
        Ok(LabStatus {
            name: self.name.clone(),
            exists: description.is_some(),
            namespaces,
            hosts: hosts.map(|it| self.host_status(it)).collect::<Result<_, _>>()?,
        })
    }

    fn host_status(&self, host: &HostDescription) -> Result<HostStatus, LabError> {
        let index = names::host_index(&host.name).unwrap_or_default();
        let paths = self.paths.host(&host.name);
        let running = RunningHost::find(&self.name, &self.paths, index)?;
        let daemon_status = |daemon: Daemon| {
            let process = running.as_ref().and_then(|it| daemon.process(it));
            let state = match process {
                None => DaemonState::Dead,
                Some(process) if daemon::is_stopped(process) => DaemonState::Stopped,
                Some(_) => DaemonState::Running,
            };
            DaemonStatus { daemon, state, pid: process.map(|it| it.pid) }
        };
        let namespace = |kind: &'static str| {
            let inode = process::namespace_inode(running.as_ref()?.holder.pid, kind)?;
            Some(NamespaceStatus { kind, inode })
        };
        let dirs = cgroup::dirs(&cgroup::hierarchies()?, &self.name, Some(&host.name));
        let processes = host::membership(&self.name, index, &paths, dirs).processes().len();
        let switch_is_there = netns::inode(&NetnsRole::Switch.netns_name(&self.name)).is_some();
        let link = |link| match switch_is_there {
            true => Ok(network::link_is_up(&self.name, &host.name, link)?.unwrap_or(false)),
            false => Ok::<_, LabError>(false),
        };
        Ok(HostStatus {
            name: host.name.clone(),
            power: if running.is_some() { Power::On } else { Power::Off },
            daemons: LibvirtFlavour::of_this_machine().daemons().iter().copied().map(daemon_status).collect(),
            namespaces: ["net", "mnt", "uts", "ipc", "pid", "cgroup"]
                .into_iter()
                .filter_map(namespace)
                .collect(),
            processes,
            domains: running.as_ref().map(running_domains).unwrap_or_default(),
            disk_bytes: disk_use_bytes(&paths.lib()),
            management_link: link(Link::Management)?,
            node_link: link(Link::Nodes)?,
        })
    }
}

/// libvirt keeps a pid file for every domain that runs; one may outlive its process for a moment.
fn running_domains(host: &RunningHost) -> Vec<String> {
    let dir = host.paths.in_run("/run/libvirt/qemu");
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?.strip_suffix(".pid")?.to_owned();
            let pid: i32 = fs::read_to_string(entry.path()).ok()?.trim().parse().ok()?;
            let program = process::program(host.process(pid)?.pid)?;
            program.starts_with("qemu-").then_some(name)
        })
        .collect();
    names.sort();
    names
}
