//! Namespaces on the lab's management network, and cuts between them.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use ashlar_lab::LabDescription;

/// A machine of its own on the management network.
pub(crate) struct Netns {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

impl Netns {
    /// Makes it; `last` is the end of its address.
    pub(crate) fn add(lab: &LabDescription, name: &str, last: u8) -> Self {
        let [a, b, c, _] = lab.management.control_address.octets();
        let address = Ipv4Addr::new(a, b, c, last);
        let netns = Netns { name: format!("x-{}-{name}", lab.name), address };
        let (switch, port, mtu) =
            (&lab.switch_namespace, format!("x-{name}"), lab.management.mtu.to_string());
        ip(&["netns", "add", &netns.name]);
        ip(&[
            "-n",
            switch,
            "link",
            "add",
            &port,
            "mtu",
            &mtu,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "mtu",
            &mtu,
            "netns",
            &netns.name,
        ]);
        ip(&["-n", switch, "link", "set", &port, "master", "br-mgmt", "up"]);
        ip(&["-n", &netns.name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        for link in ["lo", "eth0"] {
            ip(&["-n", &netns.name, "link", "set", link, "up"]);
        }
        netns
    }

    /// Nothing more comes from these or goes to them, and nobody is told.
    pub(crate) fn cut(&self, others: &[Ipv4Addr]) {
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let others = others.join(", ");
        let chain = |hook: &str, side: &str| {
            format!(
                "chain {hook} {{\ntype filter hook {hook} priority 0\nip {side} {{ {others} }} drop\n}}\n"
            )
        };
        let rules = format!("table inet cut {{\n{}{}}}", chain("input", "saddr"), chain("output", "daddr"));
        self.nft(&rules);
    }

    /// As it was.
    pub(crate) fn heal(&self) {
        self.nft("delete table inet cut");
    }

    /// A program in it. Not by `ip netns exec`, which makes a mount namespace as well: labs know their processes by the numbers of
    /// such, and they are given out again.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    fn nft(&self, rules: &str) {
        let output = self.command("nft").arg(rules).stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success(),
            "{rules}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Its link goes with it.
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
