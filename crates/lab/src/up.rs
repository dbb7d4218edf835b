//! `up`: makes what is missing of a lab.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::daemon::LibvirtFlavour;
use crate::describe::LabDescription;
use crate::host::RunningHost;
use crate::names::{self, MAX_HOSTS, NetnsRole};
use crate::{Lab, LabError, config, host, netns, network, pool, preflight};

/// What `up` did.
#[derive(Debug, Clone)]
pub struct UpReport {
    /// The lab as it is now.
    pub description: LabDescription,
    /// One line for each thing that was missing and was made. Empty if the lab was complete.
    pub changes: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Collects changes and passes them on while they happen; hosts are brought up side by side.
struct Changes<'a> {
    lines: Mutex<Vec<String>>,
    progress: &'a (dyn Fn(&str) + Sync),
}

impl Changes<'_> {
    fn note(&self, line: String) {
        (self.progress)(&line);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn note_if(&self, changed: bool, line: impl FnOnce() -> String) {
        if changed {
            self.note(line());
        }
    }
}

impl Lab {
    /// Brings the lab up with at least `hosts` hosts. Hosts that are there stay, also beyond that number; daemons that
    /// died are started again, hosts that were powered off are powered on, cut links are healed. `progress` gets a
    /// line for each thing that is done.
    ///
    /// # Errors
    /// Anything of [`preflight`]; a state directory that is not this lab's; a daemon that does not start.
    pub fn up(&self, hosts: u16, progress: &(dyn Fn(&str) + Sync)) -> Result<UpReport, LabError> {
        let began = Instant::now();
        if hosts == 0 || hosts > MAX_HOSTS {
            return Err(LabError::BadHostCount { asked: hosts, max: MAX_HOSTS });
        }
        preflight()?;
        self.refuse_other_state_dir()?;
        let _lock = self.lock_or_claim()?;

        let changes = Changes { lines: Mutex::new(Vec::new()), progress };
        let there = self.description()?.map_or(0, |old| old.hosts.len());
        let count = hosts.max(u16::try_from(there).unwrap_or(MAX_HOSTS));
        let (description, changed) = self.ensure_description(count)?;
        changes.note_if(changed, || format!("lab {}: keys and description for {count} host(s)", self.name));
        self.ensure_network(count, &changes)?;
        let results: Vec<Result<(), LabError>> = thread::scope(|scope| {
            let workers: Vec<_> = description
                .hosts
                .iter()
                .zip(1..=count)
                .map(|(it, index)| {
                    scope.spawn({
                        let (changes, description) = (&changes, &description);
                        move || self.ensure_host(index, it.host_uuid, description, changes)
                    })
                })
                .collect();
            let died = || Err(LabError::sys("bring up a host")(Errno::EAGAIN));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| died())).collect()
        });
        results.into_iter().collect::<Result<(), _>>()?;

        let changes = changes.lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(UpReport { description, changes, elapsed: began.elapsed() })
    }

    fn ensure_network(&self, count: u16, changes: &Changes<'_>) -> Result<(), LabError> {
        let indices: Vec<u16> = (1..=count).collect();
        let mut roles = vec![NetnsRole::Switch, NetnsRole::Control];
        roles.extend(indices.iter().map(|index| NetnsRole::Host(*index)));
        for role in roles {
            let name = role.netns_name(&self.name);
            changes.note_if(netns::ensure(&name)?, || format!("network namespace {name}: made"));
        }
        let linked = network::ensure(&self.name, &indices)?;
        changes.note_if(linked, || format!("lab {}: network linked", self.name));
        Ok(())
    }

    fn ensure_host(
        &self,
        index: u16,
        host_uuid: uuid::Uuid,
        description: &LabDescription,
        changes: &Changes<'_>,
    ) -> Result<(), LabError> {
        let name = names::host_name(index);
        let paths = self.paths.host(&name);
        let flavour = LibvirtFlavour::of_this_machine();
        let neighbours: Vec<_> =
            description.hosts.iter().map(|it| (it.name.clone(), it.ssh_address)).collect();
        host::ensure_hosts_file(&paths, &neighbours)?;
        let running = match RunningHost::find(&self.name, &self.paths, index)? {
            Some(running) => running,
            None => {
                host::ensure_files(&paths, &name, host_uuid)?;
                config::ensure_libvirt(&paths, host_uuid, flavour)?;
                let running = RunningHost::power_on(&self.name, &self.paths, index)?;
                changes.note(format!("{name}: powered on"));
                running
            }
        };
        for daemon in flavour.daemons() {
            if let Some(done) = daemon.ensure_running(&running)? {
                changes.note(format!("{name}: {} {done}", daemon.program()));
            }
        }
        let changed = pool::ensure(&running)?;
        changes.note_if(changed, || format!("{name}: storage pool {} active", names::POOL_NAME));
        Ok(())
    }
}
