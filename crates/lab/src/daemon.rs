//! The daemons of a host: which they are, whether they live, how they are started.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::LabError;
use crate::command::{self, wait_until};
use crate::host::RunningHost;
use crate::process::{self, ProcessId};

/// How long a daemon may take to say that it is ready. libvirtd first asks QEMU what it can do, which takes seconds
/// on a loaded host.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// A daemon of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Daemon {
    /// OpenSSH's server.
    Sshd,
    /// Writes the serial consoles' logs.
    Virtlogd,
    /// Locks disks, for those who configure libvirt so.
    Virtlockd,
    /// libvirt in one daemon (Debian 12 and 13).
    Libvirtd,
    /// Modular libvirt: secrets.
    Virtsecretd,
    /// Modular libvirt: devices of the host.
    Virtnodedevd,
    /// Modular libvirt: virtual networks.
    Virtnetworkd,
    /// Modular libvirt: packet filters.
    Virtnwfilterd,
    /// Modular libvirt: storage pools.
    Virtstoraged,
    /// Modular libvirt: QEMU.
    Virtqemud,
}

/// How libvirt is installed on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LibvirtFlavour {
    Monolithic,
    Modular,
}

impl LibvirtFlavour {
    /// One daemon where there is one: Debian ships both kinds of binaries.
    pub(crate) fn of_this_machine() -> Self {
        let modular =
            command::find_program("libvirtd").is_none() && command::find_program("virtqemud").is_some();
        if modular { Self::Modular } else { Self::Monolithic }
    }

    /// The daemons in the order of their start.
    pub(crate) fn daemons(self) -> &'static [Daemon] {
        match self {
            Self::Monolithic => &[Daemon::Sshd, Daemon::Virtlogd, Daemon::Virtlockd, Daemon::Libvirtd],
            Self::Modular => &[
                Daemon::Sshd,
                Daemon::Virtlogd,
                Daemon::Virtlockd,
                Daemon::Virtsecretd,
                Daemon::Virtnodedevd,
                Daemon::Virtnetworkd,
                Daemon::Virtnwfilterd,
                Daemon::Virtstoraged,
                Daemon::Virtqemud,
            ],
        }
    }

    /// The one that drives QEMU.
    pub(crate) fn hypervisor(self) -> Daemon {
        match self {
            Self::Monolithic => Daemon::Libvirtd,
            Self::Modular => Daemon::Virtqemud,
        }
    }
}

/// What a daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// It runs.
    Running,
    /// It was stopped by a signal (SIGSTOP).
    Stopped,
    /// There is no such process.
    Dead,
}

impl Daemon {
    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Sshd => "sshd",
            Self::Virtlogd => "virtlogd",
            Self::Virtlockd => "virtlockd",
            Self::Libvirtd => "libvirtd",
            Self::Virtsecretd => "virtsecretd",
            Self::Virtnodedevd => "virtnodedevd",
            Self::Virtnetworkd => "virtnetworkd",
            Self::Virtnwfilterd => "virtnwfilterd",
            Self::Virtstoraged => "virtstoraged",
            Self::Virtqemud => "virtqemud",
        }
    }

    /// Its pid file, as the host sees it.
    fn pid_file(self) -> String {
        match self {
            Self::Sshd => "/run/sshd.pid".to_owned(),
            _ => format!("/run/libvirt/{}.pid", self.program()),
        }
    }

    fn args(self) -> Vec<String> {
        match self {
            Self::Sshd => {
                ["-f", "/etc/ssh/sshd_config", "-E", "/var/log/sshd.log"].map(str::to_owned).to_vec()
            }
            _ => {
                let config = format!("/etc/libvirt/{}.conf", self.program());
                vec!["-d".to_owned(), "-f".to_owned(), config, "-p".to_owned(), self.pid_file()]
            }
        }
    }

    /// Its process, if it lives in the host.
    pub(crate) fn process(self, host: &RunningHost) -> Option<ProcessId> {
        let text = fs::read_to_string(host.paths.in_run(&self.pid_file())).ok()?;
        let process = host.process(text.trim().parse().ok()?)?;
        (process::program(process.pid).as_deref() == Some(self.program())).then_some(process)
    }

    /// Starts the daemon unless it runs; a stopped one is continued. Says what was done.
    pub(crate) fn ensure_running(self, host: &RunningHost) -> Result<Option<&'static str>, LabError> {
        if let Some(process) = self.process(host) {
            if !is_stopped(process) {
                return Ok(None);
            }
            process.signal(Signal::SIGCONT)?;
            return Ok(Some("continued"));
        }
        self.start(host)?;
        Ok(Some("started"))
    }

    fn start(self, host: &RunningHost) -> Result<(), LabError> {
        let began = Instant::now();
        let log = host.paths.log().join(format!("start-{}.log", self.program()));
        // A file, not a pipe: the daemon inherits it, and a pipe would never end.
        let stderr = File::create(&log).map_err(LabError::io("create", &log))?;
        let again = stderr.try_clone().map_err(LabError::io("open", &log))?;
        let mut command = command::command(self.program());
        command.args(self.args()).stdin(Stdio::null()).stdout(stderr).stderr(again);
        // All of them fork into the background; libvirt's do so once they are ready, and tell by their exit code.
        let mut starter = host.spawn(&mut command)?;
        let mut status = None;
        wait_until(START_DEADLINE, || {
            status = starter.try_wait().map_err(LabError::io("wait for", &log))?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if status.success() => {}
            // One that a killed `up` had started was still on its way, and holds the pid file or the port.
            Some(_) if self.appears(host)? => return Ok(()),
            Some(status) => {
                let said = fs::read(&log).unwrap_or_default();
                return Err(command::failure(&command, status, &said));
            }
            None => {
                let _ = starter.kill();
                let _ = starter.wait();
                return Err(self.not_started(host));
            }
        }
        if !self.appears(host)? {
            return Err(self.not_started(host));
        }
        tracing::debug!(host = host.name, daemon = self.program(), elapsed = ?began.elapsed(), "started");
        Ok(())
    }

    /// Waits for its process.
    fn appears(self, host: &RunningHost) -> Result<bool, LabError> {
        wait_until(Duration::from_secs(5), || Ok(self.process(host).is_some()))
    }

    fn not_started(self, host: &RunningHost) -> LabError {
        LabError::Timeout {
            what: format!("the start of {} on host {}", self.program(), host.name),
            after: START_DEADLINE,
            look_at: host.paths.log(),
        }
    }
}

/// Whether a process was stopped by a signal.
pub(crate) fn is_stopped(process: ProcessId) -> bool {
    process::stat(process.pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}
