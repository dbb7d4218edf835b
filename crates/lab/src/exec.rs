//! Programs inside a lab.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::enter::{Namespaces, place_child};
use crate::names::NetnsRole;
use crate::{Lab, LabError, command, netns};

/// Where in a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The control namespace: the machine's files, the lab's management network.
    Control,
    /// Inside a host: its files, its networks.
    Host(String),
    /// The switch, for looking at traffic.
    Switch,
}

impl Lab {
    /// Becomes the program (a shell if there is none): it has the terminal, and its exit code is this process's.
    /// `ASHLAR_LAB` and `ASHLAR_STATE_DIR` are set, so that an `ashlar` started so works against the lab.
    ///
    /// Inside a host, which has processes of its own, the program is a child of this one, which waits for it and then
    /// exits as it did. To be called on the main thread of a process without others, since Ctrl-C is the child's.
    ///
    /// # Errors
    /// Returns only if that fails: no such place, no such program.
    pub fn exec(&self, place: &Place, argv: &[impl AsRef<OsStr>]) -> Result<Infallible, LabError> {
        let mut command = self.command(argv);
        let namespaces = self.namespaces(place, &mut command, false)?;
        let program = command.get_program().to_string_lossy().into_owned();
        if !matches!(place, Place::Host(_)) {
            namespaces.enter()?;
            return Err(LabError::Spawn { program, source: command.exec() });
        }
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGQUIT);
        signals.thread_block().map_err(LabError::sys("leave Ctrl-C to the program"))?;
        let mut child = namespaces.run(|| command::spawn(&mut command))?;
        let status = child.wait().map_err(|source| LabError::Spawn { program, source })?;
        std::process::exit(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1))
    }

    /// Runs a program, collects what it prints, and kills it at the deadline. The exit code is the caller's to judge.
    ///
    /// # Errors
    /// No such place, no such program, deadline passed.
    pub fn output(
        &self,
        place: &Place,
        argv: &[impl AsRef<OsStr>],
        deadline: Duration,
    ) -> Result<Output, LabError> {
        let mut command = self.command(argv);
        command.stdin(Stdio::null());
        let namespaces = self.namespaces(place, &mut command, true)?;
        command::collect(&mut command, deadline, |command| namespaces.run(|| command::spawn(command)))
    }

    /// Starts a command inside the lab; the caller sets up its pipes before, and waits for it.
    ///
    /// # Errors
    /// No such place, no such program.
    pub fn spawn(&self, place: &Place, command: &mut Command) -> Result<Child, LabError> {
        self.set_environment(command);
        self.namespaces(place, command, true)?.run(|| command::spawn(command))
    }

    fn command(&self, argv: &[impl AsRef<OsStr>]) -> Command {
        let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/bash".into());
        let mut command = match argv.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
            None => Command::new(shell()),
        };
        self.set_environment(&mut command);
        command
    }

    fn set_environment(&self, command: &mut Command) {
        command.env("ASHLAR_LAB", &self.name).env("ASHLAR_STATE_DIR", self.paths.ashlar_state());
    }

    fn namespaces(
        &self,
        place: &Place,
        command: &mut Command,
        own_session: bool,
    ) -> Result<Namespaces, LabError> {
        let network = |role: NetnsRole| {
            let name = role.netns_name(&self.name);
            if netns::inode(&name).is_none() {
                let what = format!("lab {:?}", self.name);
                return Err(LabError::NotRunning { lab: self.name.clone(), what });
            }
            netns::open(&name).map(Namespaces::network)
        };
        match place {
            Place::Control => network(NetnsRole::Control),
            Place::Switch => network(NetnsRole::Switch),
            Place::Host(name) => {
                let host = self.running_host(name)?;
                place_child(command, host.child_place(own_session)?);
                host.namespaces()
            }
        }
    }
}
