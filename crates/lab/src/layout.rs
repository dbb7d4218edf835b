//! Where the files of a lab lie. Nothing of a lab is anywhere else, except its namespaces' names in `/run/netns` and
//! its cgroups.

use std::path::{Path, PathBuf};

/// Paths under a lab's state directory.
#[derive(Debug, Clone)]
pub(crate) struct LabPaths {
    root: PathBuf,
}

impl LabPaths {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Holds the lab's name. Its presence is what lets `down` remove the directory.
    pub(crate) fn marker(&self) -> PathBuf {
        self.root.join(".ashlar-lab")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn description(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    pub(crate) fn client_key(&self) -> PathBuf {
        self.root.join("keys/id_ed25519")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.root.join("keys/known_hosts")
    }

    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.root.join("keys/ssh_config")
    }

    /// State directory of an `ashlar` that runs against the lab.
    pub(crate) fn ashlar_state(&self) -> PathBuf {
        self.root.join("ashlar")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    pub(crate) fn host(&self, name: &str) -> HostPaths {
        HostPaths { root: self.hosts().join(name) }
    }
}

/// Paths of one host, as the machine sees them.
#[derive(Debug, Clone)]
pub(crate) struct HostPaths {
    root: PathBuf,
}

impl HostPaths {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Written once the host's namespaces are complete.
    pub(crate) fn record(&self) -> PathBuf {
        self.root.join("host.json")
    }

    /// `/etc/libvirt` of the host.
    pub(crate) fn etc_libvirt(&self) -> PathBuf {
        self.root.join("etc-libvirt")
    }

    /// `/etc/ssh` of the host.
    pub(crate) fn etc_ssh(&self) -> PathBuf {
        self.root.join("etc-ssh")
    }

    /// `/etc/apparmor.d/libvirt` of the host, where the machine has AppArmor.
    pub(crate) fn apparmor(&self) -> PathBuf {
        self.root.join("apparmor")
    }

    /// Single files of `/etc` that differ between hosts.
    pub(crate) fn etc_file(&self, name: &str) -> PathBuf {
        self.root.join("etc").join(name)
    }

    /// `/var/lib/libvirt` of the host.
    pub(crate) fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// The storage pool's directory.
    pub(crate) fn pool(&self) -> PathBuf {
        self.root.join("lib/images")
    }

    /// `/var/cache/libvirt` of the host.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// `/var/log` of the host.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// `/run` of the host: emptied when it is powered off, as a real one's is.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `/root` of the host.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// `/tmp` of the host.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where things are put together, in the host's mount namespace, before they are mounted where they belong; an
    /// empty directory to everybody else.
    pub(crate) fn stage(&self) -> PathBuf {
        self.root.join("stage")
    }

    /// Maps a path that the host sees under its `/run` to where the machine sees it.
    pub(crate) fn in_run(&self, path: &str) -> PathBuf {
        self.run().join(path.trim_start_matches("/run/"))
    }
}
