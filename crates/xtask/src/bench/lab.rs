//! The lab that a bench runs in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::program::{Program, output_of};

/// A lab with hosts `h1`, `h2` and so on.
pub(super) struct Lab {
    ashlar: Program,
    pub(super) name: String,
    description: Value,
}

impl Lab {
    /// Brings it up, or finds it up.
    pub(super) fn up(ashlar: &Program, name: &str, hosts: u32) -> Result<Self> {
        ashlar.ok(&["lab", "up", name, "--hosts", &hosts.to_string()])?;
        let path = Path::new("/var/lib/ashlar-labs").join(name).join("lab.json");
        let text = fs::read_to_string(&path).with_context(|| format!("no lab at {}", path.display()))?;
        Ok(Lab { ashlar: ashlar.clone(), name: name.to_owned(), description: serde_json::from_str(&text)? })
    }

    /// Takes it away with everything in it.
    pub(super) fn down(&self) -> Result<()> {
        self.ashlar.ok(&["lab", "down", &self.name, "--yes"]).map(drop)
    }

    /// A fact of its description, by JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Result<&str> {
        self.value(pointer)?.as_str().with_context(|| format!("{pointer} in lab.json is no text"))
    }

    /// The same, of any type.
    pub(super) fn value(&self, pointer: &str) -> Result<&Value> {
        self.description.pointer(pointer).with_context(|| format!("lab.json has no {pointer}"))
    }

    pub(super) fn path(&self, pointer: &str) -> Result<PathBuf> {
        self.text(pointer).map(PathBuf::from)
    }

    /// A command of Ashlar inside the lab.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ashlar.command(&["--lab", &self.name]);
        command.args(arguments);
        command
    }

    /// The same, which must work; its stdout.
    pub(super) fn ok(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(arguments))
    }

    /// `ashlar --lab … -o json`.
    pub(super) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["--lab", self.name.as_str()];
        all.extend(arguments);
        self.ashlar.json(&all)
    }

    /// A program in the namespaces of `h1`.
    pub(super) fn on_host(&self, program: &[&str]) -> Command {
        self.on("h1", program)
    }

    /// A program in a host's namespaces.
    pub(super) fn on(&self, host: &str, program: &[&str]) -> Command {
        let mut command = self.ashlar.command(&["lab", "exec", &self.name, "--on", host, "--"]);
        command.args(program);
        command
    }

    /// URI of the host's libvirtd for a client that stays outside: through that daemon's own view of the file system.
    /// Entering the host's namespaces would cost a process more, which is not virsh's.
    pub(super) fn libvirt_uri(&self) -> Result<String> {
        let namespace = Path::new("/run/netns").join(self.text("/hosts/0/namespace")?);
        let wanted = namespace.metadata().with_context(|| format!("no {}", namespace.display()))?.ino();
        for entry in fs::read_dir("/proc")? {
            let process = entry?.path();
            let is_daemon =
                fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim() == "libvirtd");
            if is_daemon && process.join("ns/net").metadata().is_ok_and(|meta| meta.ino() == wanted) {
                return Ok(format!(
                    "qemu:///system?socket={}/root/run/libvirt/libvirt-sock",
                    process.display()
                ));
            }
        }
        anyhow::bail!("no libvirtd runs in {}", namespace.display())
    }
}
