//! The programs: Cluster API's managers from Go modules, kube-apiserver and etcd from the cache of node images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::super::program::{output_of, root};

const GO_MOD: &str = include_str!("go.mod.txt");
/// Cluster API's own version, and that of Kubernetes whose libraries it is built with.
pub(super) const CAPI: &str = "v1.14.2";
pub(super) const KUBERNETES: &str = "v1.36.3";

/// A manager: its name, its package, and where its `config` is, in which module.
pub(super) struct Manager {
    pub(super) name: &'static str,
    package: &'static str,
    module: &'static str,
    config: &'static str,
    /// Flags of how many objects it works on at a time.
    pub(super) concurrencies: &'static [&'static str],
}

const CORE: &str = "sigs.k8s.io/cluster-api";
const TEST: &str = "sigs.k8s.io/cluster-api/test";

pub(super) const MANAGERS: [Manager; 4] = [
    Manager {
        name: "core",
        package: "sigs.k8s.io/cluster-api/core",
        module: CORE,
        config: "core/config",
        concurrencies: &[
            "clustertopology",
            "cluster",
            "clustercache",
            "machine",
            "machineset",
            "machinedeployment",
            "machinehealthcheck",
        ],
    },
    Manager {
        name: "bootstrap",
        package: "sigs.k8s.io/cluster-api/bootstrap/kubeadm",
        module: CORE,
        config: "bootstrap/kubeadm/config",
        concurrencies: &["kubeadmconfig", "clustercache"],
    },
    Manager {
        name: "control-plane",
        package: "sigs.k8s.io/cluster-api/controlplane/kubeadm",
        module: CORE,
        config: "controlplane/kubeadm/config",
        concurrencies: &["kubeadmcontrolplane", "clustercache"],
    },
    Manager {
        name: "in-memory",
        package: "sigs.k8s.io/cluster-api/test/infrastructure/docker",
        module: TEST,
        config: "infrastructure/docker/config",
        concurrencies: &["devmachine", "devcluster", "devmachinetemplate", "clustercache"],
    },
];

/// Where everything is.
pub(super) struct Programs {
    managers: PathBuf,
    pub(super) kube_apiserver: PathBuf,
    pub(super) kubectl: PathBuf,
    pub(super) etcd: PathBuf,
    core: PathBuf,
    test: PathBuf,
}

impl Programs {
    pub(super) fn manager(&self, manager: &Manager) -> PathBuf {
        self.managers.join(manager.name)
    }

    fn module(&self, module: &str) -> &Path {
        if module == TEST { &self.test } else { &self.core }
    }

    /// A file or directory of a manager's configuration.
    pub(super) fn config(&self, manager: &Manager, path: &str) -> PathBuf {
        self.module(manager.module).join(manager.config).join(path)
    }

    pub(super) fn cluster_class(&self) -> PathBuf {
        self.test.join("infrastructure/docker/templates/clusterclass-in-memory.yaml")
    }
}

/// Builds the managers where they are not built yet (minutes), and finds the rest.
pub(super) fn programs() -> Result<Programs> {
    let directory = root().join("target/capi").join(CAPI);
    let source = directory.join("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("go.mod"), GO_MOD)?;
    for manager in &MANAGERS {
        let built = directory.join(manager.name);
        if !built.is_file() {
            println!("building  Cluster API's {} manager from Go modules", manager.name);
            let flags = ["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o"];
            output_of(go(&source).args(flags).arg(&built).arg(manager.package))?;
        }
    }
    let (kubernetes, etcd) = cached()?;
    Ok(Programs {
        managers: directory,
        kube_apiserver: kubernetes.join("kube-apiserver"),
        kubectl: kubernetes.join("kubectl"),
        etcd,
        core: module(&source, CORE)?,
        test: module(&source, TEST)?,
    })
}

fn go(source: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(source).env("CGO_ENABLED", "0").env("GOWORK", "off");
    command
}

fn module(source: &Path, module: &str) -> Result<PathBuf> {
    let directory = output_of(go(source).args(["list", "-mod=mod", "-m", "-f", "{{.Dir}}", module]))?;
    let directory = PathBuf::from(directory.trim());
    ensure!(directory.is_dir(), "Go keeps no source of module {module}");
    Ok(directory)
}

/// What `ashlar image build --source modules` built: the directory of Kubernetes's programs, and etcd.
fn cached() -> Result<(PathBuf, PathBuf)> {
    let cache = std::env::var("ASHLAR_CACHE_DIR").unwrap_or_else(|_| "/var/cache/ashlar".to_owned());
    let stages = Path::new(&cache).join("stages");
    let find = |prefix: &str, file: &str| {
        fs::read_dir(&stages)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|stage| stage.file_name().to_string_lossy().starts_with(prefix))
            .map(|stage| stage.path().join(file))
            .find(|path| path.is_file())
    };
    let kubernetes = find(&format!("Kubernetes-{KUBERNETES}-from-modules-"), "bin/kube-apiserver");
    let etcd = find("etcd-v3.6.", "etcd").or_else(|| find("etcd-", "etcd"));
    let (Some(kubernetes), Some(etcd)) = (kubernetes, etcd) else {
        bail!(
            "{} holds no kube-apiserver {KUBERNETES} and etcd: `ashlar image build --kubernetes {KUBERNETES} --source modules` \
             builds them",
            stages.display()
        )
    };
    let directory = kubernetes.parent().context("a file is in a directory")?;
    Ok((directory.to_owned(), etcd))
}
