//! How `ssh` is called.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostTarget};

use super::{SshAddress, gate};

/// Everything that is needed to start `ssh` to one host.
#[derive(Clone, Debug)]
pub(crate) struct Ssh {
    pub(crate) target: HostTarget,
    pub(crate) address: SshAddress,
    known_hosts: PathBuf,
}

impl Ssh {
    /// Writes the file with the one pinned key into the directory, under a name of this process's.
    pub(crate) fn new(target: &HostTarget, dir: &Path, stem: &str) -> Result<Self, EffectError> {
        let address = SshAddress::parse(&target.name, &target.uri)?;
        let refused = |message: String| {
            EffectError::new(EffectErrorKind::Refused, format!("host {}: {message}", target.name))
        };
        let mut words = target.ssh_host_key.split_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else {
            return Err(refused(
                "its pinned SSH host key is none: write it as in known_hosts without the name (ssh-ed25519 AAAA…)"
                    .to_owned(),
            ));
        };
        let known_hosts = dir.join(format!("known-hosts-{stem}"));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&known_hosts)?;
            writeln!(file, "{} {kind} {key}", alias(&target.name))
        };
        write().map_err(|error| refused(format!("{} cannot be written: {error}", known_hosts.display())))?;
        if let Some(path) = &target.ssh_key_path
            && !Path::new(path).is_file()
        {
            return Err(refused(format!("there is no SSH private key at {path}")));
        }
        Ok(Ssh { target: target.clone(), address, known_hosts })
    }

    /// The long-lived connection whose socket the other sessions share. Its session ends when our end of its standard
    /// input closes, at the latest with this process.
    pub(super) fn trunk(&self, socket: &Path, ready: &str) -> Command {
        let mut command = self.ssh();
        command.arg("-o").arg("ControlMaster=yes").arg("-S").arg(socket);
        let script = format!("echo {ready}; exec cat >/dev/null");
        self.remote(&mut command, &["/bin/sh", "-c", &script]);
        command
    }

    /// A session: over the trunk's connection, or one of its own.
    pub(crate) fn session(&self, trunk: Option<&Path>, argv: &[&str]) -> Command {
        let mut command = self.ssh();
        command.arg("-o").arg("ControlMaster=no");
        match trunk {
            Some(socket) => command.arg("-S").arg(socket),
            None => command.arg("-S").arg("none"),
        };
        self.remote(&mut command, argv);
        command
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        // Nothing from ~/.ssh/config or /etc/ssh: only what stands here.
        command.args(["-F", "none", "-T"]);
        let mut options = vec![
            "BatchMode=yes".to_owned(),
            "ConnectTimeout=10".to_owned(),
            "ServerAliveInterval=5".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile=\"{}\"", self.known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("HostKeyAlias={}", alias(&self.target.name)),
            "CheckHostIP=no".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "VerifyHostKeyDNS=no".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "ForwardAgent=no".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        if let Some(path) = &self.target.ssh_key_path {
            options.push("IdentitiesOnly=yes".to_owned());
            options.push(format!("IdentityFile=\"{path}\""));
        }
        for option in options {
            command.arg("-o").arg(option);
        }
        command.arg("-p").arg(self.address.port.to_string()).arg("-l").arg(&self.address.user);
        // Messages are told apart by their words.
        command.env("LC_ALL", "C");
        command
    }

    fn remote(&self, command: &mut Command, argv: &[&str]) {
        let as_root = self.address.user == "root";
        command.arg("--").arg(&self.address.host).arg(gate::command_line(&self.target, as_root, argv));
    }

    /// Removes what [`Ssh::new`] wrote.
    pub(crate) fn remove_files(&self) {
        let _ = fs::remove_file(&self.known_hosts);
    }
}

/// The name under which the key is pinned: a host may change its address, never its key.
fn alias(host: &str) -> String {
    format!("ashlar-{host}")
}
