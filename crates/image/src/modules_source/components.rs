//! etcd, CoreDNS, flannel and pause, from their modules.

use std::fs;
use std::path::Path;

use super::go::{self, GoBuild};
use crate::cache::Context;
use crate::error::{Error, Result};

pub(crate) const ETCD: &str = "go.etcd.io/etcd/server/v3";
pub(crate) const COREDNS: &str = "github.com/coredns/coredns";
pub(crate) const FLANNEL: &str = "github.com/flannel-io/flannel";

/// Plugins of CoreDNS left out: clients of clouds and of other stores, tracing, transports beside DNS.
const COREDNS_LEFT_OUT: &[&str] = &[
    "azure",
    "clouddns",
    "dnstap",
    "etcd",
    "geoip",
    "grpc",
    "grpc_server",
    "https",
    "https3",
    "nomad",
    "on",
    "pprof",
    "proxyproto",
    "quic",
    "route53",
    "trace",
];
/// Backends of flannel left out: clients of clouds, and one that needs a C compiler and is for debugging.
const FLANNEL_LEFT_OUT: &[&str] = &["alivpc", "awsvpc", "tencentvpc", "udp"];

/// A program that waits, and buries what its pod leaves behind.
const PAUSE: &str = r#"package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
"#;

/// etcd, etcdctl and etcdutl.
pub(crate) fn etcd(ctx: &Context<'_>, stage: &str, version: &str, out: &Path) -> Result<()> {
    let programs = [
        ("etcd", ETCD),
        ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
        ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
    ];
    let imports: String = programs.iter().map(|(_, package)| format!("\t_ \"{package}\"\n")).collect();
    GoBuild {
        requires: programs.iter().map(|(_, module)| ((*module).to_owned(), version.to_owned())).collect(),
        replaces: Vec::new(),
        files: vec![(
            "tools.go".to_owned(),
            format!("//go:build tools\n\npackage build\n\nimport (\n{imports})\n"),
        )],
        programs: programs
            .iter()
            .map(|(name, package)| ((*name).to_owned(), (*package).to_owned()))
            .collect(),
        ldflags: Vec::new(),
    }
    .run(ctx, stage, out)
}

/// CoreDNS with the plugins that run inside a cluster, in upstream's order.
pub(crate) fn coredns(ctx: &Context<'_>, stage: &str, version: &str, out: &Path) -> Result<()> {
    let module = go::download(ctx, stage, COREDNS, version)?;
    let path = Path::new(&module.dir).join("plugin.cfg");
    let config = fs::read_to_string(&path).map_err(Error::io(stage, "read", &path))?;
    GoBuild {
        requires: vec![(COREDNS.to_owned(), version.to_owned())],
        replaces: Vec::new(),
        files: vec![("main.go".to_owned(), coredns_main(&config))],
        programs: vec![("coredns".to_owned(), ".".to_owned())],
        ldflags: Vec::new(),
    }
    .run(ctx, stage, out)
}

fn coredns_main(plugin_cfg: &str) -> String {
    let plugins: Vec<(&str, &str)> = plugin_cfg
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| !COREDNS_LEFT_OUT.contains(name))
        .collect();
    let imports: String =
        plugins.iter().map(|(_, dir)| format!("\t_ \"{COREDNS}/plugin/{dir}\"\n")).collect();
    let names: String = plugins.iter().map(|(name, _)| format!("\t\t\"{name}\",\n")).collect();
    format!(
        "package main\n\nimport (\n\t\"{COREDNS}/core/dnsserver\"\n\t\"{COREDNS}/coremain\"\n{imports})\n\n\
         func init() {{\n\tdnsserver.Directives = []string{{\n{names}\t}}\n}}\n\nfunc main() {{ coremain.Run() }}\n"
    )
}

/// flannel's daemon, with the backends that need nothing but a network.
pub(crate) fn flannel(ctx: &Context<'_>, stage: &str, version: &str, out: &Path) -> Result<()> {
    let module = go::download(ctx, stage, FLANNEL, version)?;
    let path = Path::new(&module.dir).join("main.go");
    let main = fs::read_to_string(&path).map_err(Error::io(stage, "read", &path))?;
    GoBuild {
        requires: vec![(FLANNEL.to_owned(), version.to_owned())],
        replaces: Vec::new(),
        files: vec![("main.go".to_owned(), flannel_main(&main))],
        programs: vec![("flanneld".to_owned(), ".".to_owned())],
        ldflags: vec![format!("-X {FLANNEL}/pkg/version.Version={version}")],
    }
    .run(ctx, stage, out)
}

fn flannel_main(main: &str) -> String {
    let left_out =
        |line: &str| FLANNEL_LEFT_OUT.iter().any(|name| line.contains(&format!("/pkg/backend/{name}\"")));
    main.lines().filter(|line| !left_out(line)).map(|line| format!("{line}\n")).collect()
}

/// pause.
pub(crate) fn pause(ctx: &Context<'_>, stage: &str, out: &Path) -> Result<()> {
    GoBuild {
        requires: Vec::new(),
        replaces: Vec::new(),
        files: vec![("main.go".to_owned(), PAUSE.to_owned())],
        programs: vec![("pause".to_owned(), ".".to_owned())],
        ldflags: Vec::new(),
    }
    .run(ctx, stage, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coredns_keeps_the_order_and_leaves_the_clouds_out() {
        let main = coredns_main(
            "# comment\n\nmetadata:metadata\nroute53:route53\nprometheus:metrics\nforward:forward\n",
        );
        assert!(!main.contains("route53"));
        let at = |text: &str| main.find(text).unwrap();
        assert!(
            at("\t\t\"metadata\",") < at("\t\t\"prometheus\",")
                && at("\t\t\"prometheus\",") < at("\t\t\"forward\",")
        );
        assert!(main.contains("\t_ \"github.com/coredns/coredns/plugin/metrics\"\n"));
    }

    #[test]
    fn flannel_loses_only_the_backends_left_out() {
        let main = "import (\n\t_ \"github.com/flannel-io/flannel/pkg/backend/udp\"\n\t_ \"github.com/flannel-io/flannel/pkg/backend/vxlan\"\n)\n";
        assert_eq!(
            flannel_main(main),
            "import (\n\t_ \"github.com/flannel-io/flannel/pkg/backend/vxlan\"\n)\n"
        );
    }
}
