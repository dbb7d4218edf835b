//! Faults on purpose, for tests and for people who want to see what happens.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::wait_until;
use crate::daemon::{Daemon, LibvirtFlavour, is_stopped};
use crate::host::{self, RunningHost};
use crate::network::{self, Link};
use crate::process::ProcessId;
use crate::{Lab, LabError};

const SIGNAL_DEADLINE: Duration = Duration::from_secs(10);

impl Lab {
    /// The daemon that drives QEMU here: libvirtd, or virtqemud where libvirt is modular only.
    pub fn hypervisor_daemon(&self) -> Daemon {
        LibvirtFlavour::of_this_machine().hypervisor()
    }

    /// Pulls a host's cable out of the switch.
    ///
    /// # Errors
    /// No such host, or the lab is down.
    pub fn cut_link(&self, host: &str, link: Link) -> Result<(), LabError> {
        self.host_index(host)?;
        network::set_link(&self.name, host, link, false)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// No such host, or the lab is down.
    pub fn heal_link(&self, host: &str, link: Link) -> Result<(), LabError> {
        self.host_index(host)?;
        network::set_link(&self.name, host, link, true)
    }

    /// Kills a daemon with SIGKILL, and waits until it is gone. [`Lab::start_daemon`] or [`Lab::up`] starts it again.
    ///
    /// # Errors
    /// No such host; the daemon does not run.
    pub fn kill_daemon(&self, host: &str, daemon: Daemon) -> Result<(), LabError> {
        let process = self.daemon_process(host, daemon)?;
        process.signal(Signal::SIGKILL)?;
        wait_until(SIGNAL_DEADLINE, || Ok(!process.is_alive())).map(drop)
    }

    /// Freezes a daemon with SIGSTOP: its sockets stay open, and nobody answers.
    ///
    /// # Errors
    /// No such host; the daemon does not run.
    pub fn pause_daemon(&self, host: &str, daemon: Daemon) -> Result<(), LabError> {
        let process = self.daemon_process(host, daemon)?;
        process.signal(Signal::SIGSTOP)?;
        // A signal is delivered when the process runs next, on a busy machine a while later.
        wait_until(SIGNAL_DEADLINE, || Ok(is_stopped(process))).map(drop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// No such host; the daemon does not run.
    pub fn resume_daemon(&self, host: &str, daemon: Daemon) -> Result<(), LabError> {
        let process = self.daemon_process(host, daemon)?;
        process.signal(Signal::SIGCONT)?;
        wait_until(SIGNAL_DEADLINE, || Ok(!is_stopped(process))).map(drop)
    }

    /// Starts a daemon unless it runs.
    ///
    /// # Errors
    /// No such host, or it is off; the daemon does not start.
    pub fn start_daemon(&self, host: &str, daemon: Daemon) -> Result<(), LabError> {
        let _lock = self.lock()?;
        daemon.ensure_running(&self.running_host(host)?).map(drop)
    }

    /// Pulls a host's plug: everything in it dies at once, virtual machines included; its disks stay.
    /// [`Lab::power_on`] or [`Lab::up`] starts it again.
    ///
    /// # Errors
    /// No such host; a process hangs in the kernel.
    pub fn power_off(&self, host: &str) -> Result<(), LabError> {
        let index = self.host_index(host)?;
        let _lock = self.lock()?;
        host::power_off(&self.name, &self.paths, index).map(drop)
    }

    /// Freezes a host as it is: nothing in it goes on, virtual machines included, and whoever asks it gets no answer.
    ///
    /// # Errors
    /// No such host.
    pub fn freeze(&self, host: &str) -> Result<(), LabError> {
        let index = self.host_index(host)?;
        let _lock = self.lock()?;
        host::signal(&self.name, &self.paths, index, Signal::SIGSTOP)
    }

    /// Lets a frozen host go on where it was.
    ///
    /// # Errors
    /// No such host.
    pub fn thaw(&self, host: &str) -> Result<(), LabError> {
        let index = self.host_index(host)?;
        let _lock = self.lock()?;
        host::signal(&self.name, &self.paths, index, Signal::SIGCONT)
    }

    /// Powers a host on, with its daemons; its virtual machines stay off, as autostart is.
    ///
    /// # Errors
    /// No such host; a daemon does not start.
    pub fn power_on(&self, host: &str) -> Result<(), LabError> {
        let index = self.host_index(host)?;
        let _lock = self.lock()?;
        let running = match RunningHost::find(&self.name, &self.paths, index)? {
            Some(running) => running,
            None => RunningHost::power_on(&self.name, &self.paths, index)?,
        };
        for daemon in LibvirtFlavour::of_this_machine().daemons() {
            daemon.ensure_running(&running)?;
        }
        crate::pool::ensure(&running).map(drop)
    }

    fn daemon_process(&self, host: &str, daemon: Daemon) -> Result<ProcessId, LabError> {
        let running = self.running_host(host)?;
        daemon.process(&running).ok_or_else(|| LabError::NotRunning {
            lab: self.name.clone(),
            what: format!("{} on host {host} of lab {:?}", daemon.program(), self.name),
        })
    }
}
