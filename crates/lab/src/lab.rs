//! The handle of a lab, its lock, and its description on the disk.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::describe::{AddressRange, HostDescription, LabDescription, ManagementNetwork, NodeNetwork};
use crate::files::{ensure_dir, ensure_file};
use crate::host::{RunningHost, STATE_DIR_VARIABLE};
use crate::layout::LabPaths;
use crate::names::{self, NetnsRole};
use crate::process::{self, Membership};
use crate::{LabError, netns, ssh};

/// Name of the lab when none is given.
pub const DEFAULT_NAME: &str = "lab";
/// Labs lie here, each in a directory of its name, unless another one is given.
pub const DEFAULT_ROOT: &str = "/var/lib/ashlar-labs";

/// A lab of that name and state directory, whether it exists or not.
#[derive(Debug, Clone)]
pub struct Lab {
    pub(crate) name: String,
    pub(crate) paths: LabPaths,
}

impl Lab {
    /// The lab of that name in [`DEFAULT_ROOT`].
    ///
    /// # Errors
    /// The name is not one: 1 to 32 lower-case letters, digits and dashes, a letter first.
    pub fn new(name: &str) -> Result<Self, LabError> {
        Self::with_state_dir(name, &Path::new(DEFAULT_ROOT).join(name))
    }

    /// A lab with a state directory of the caller's choice. Names are unique on a machine all the same: they name
    /// its network namespaces and cgroups.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_state_dir(name: &str, state_dir: &Path) -> Result<Self, LabError> {
        names::check_lab_name(name)?;
        let root = std::path::absolute(state_dir).map_err(LabError::io("find", state_dir))?;
        Ok(Self { name: name.to_owned(), paths: LabPaths::new(&root) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        self.paths.root()
    }

    /// What is written in its `lab.json`; `None` if there is no such lab (or `up` never came that far).
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn description(&self) -> Result<Option<LabDescription>, LabError> {
        LabDescription::read(&self.paths.description())
    }

    /// The description of a lab that must exist.
    pub(crate) fn existing(&self) -> Result<LabDescription, LabError> {
        self.description()?.ok_or_else(|| LabError::NotRunning {
            lab: self.name.clone(),
            what: format!("lab {:?}", self.name),
        })
    }

    /// Number of a host that must exist.
    pub(crate) fn host_index(&self, host: &str) -> Result<u16, LabError> {
        let description = self.existing()?;
        let known = || description.hosts.iter().map(|it| it.name.clone()).collect();
        description.host(host).and_then(|it| names::host_index(&it.name)).ok_or_else(|| {
            LabError::NoSuchHost { lab: self.name.clone(), host: host.to_owned(), known: known() }
        })
    }

    /// A host that must be powered on.
    pub(crate) fn running_host(&self, host: &str) -> Result<RunningHost, LabError> {
        let index = self.host_index(host)?;
        RunningHost::find(&self.name, &self.paths, index)?.ok_or_else(|| LabError::NotRunning {
            lab: self.name.clone(),
            what: format!("host {host} of lab {:?}", self.name),
        })
    }

    /// Claims the state directory: an empty one, or one that already is this lab's.
    pub(crate) fn claim_state_dir(&self) -> Result<(), LabError> {
        let root = self.paths.root();
        if !self.owns_state_dir() {
            let marker = self.paths.marker();
            let foreign =
                |path: PathBuf| path != marker || fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
            let taken =
                fs::read_dir(root).is_ok_and(|entries| entries.flatten().any(|it| foreign(it.path())));
            if taken {
                return Err(LabError::NotALab { path: root.to_owned(), name: self.name.clone() });
            }
        }
        ensure_dir(root, 0o711)?;
        if !self.owns_state_dir() {
            // Written in place: a crash must not leave a file of another name, which would make the directory foreign.
            let marker = self.paths.marker();
            fs::write(&marker, format!("{}\n", self.name)).map_err(LabError::io("write", marker))?;
        }
        Ok(())
    }

    /// Whether the state directory carries this lab's mark.
    pub(crate) fn owns_state_dir(&self) -> bool {
        fs::read_to_string(self.paths.marker()).is_ok_and(|text| text.trim() == self.name)
    }

    /// A lab of this name that runs, and whose state is elsewhere, is somebody else's: names are unique on a machine.
    pub(crate) fn refuse_other_state_dir(&self) -> Result<(), LabError> {
        let mut members = Membership::default();
        members
            .net_inodes
            .extend(netns::of_lab(&self.name).iter().filter_map(|(_, name)| netns::inode(name)));
        let dirs =
            members.processes().into_iter().filter_map(|it| process::variable(it.pid, STATE_DIR_VARIABLE));
        let other = dirs
            .map(PathBuf::from)
            .find(|dir| dir != self.paths.root() && LabPaths::new(dir).marker().exists());
        match other {
            Some(path) => Err(LabError::OtherStateDir { name: self.name.clone(), path }),
            None => Ok(()),
        }
    }

    /// Keeps other operations on this lab out until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, LabError> {
        let gone = || LabError::NotRunning { lab: self.name.clone(), what: format!("lab {:?}", self.name) };
        self.try_lock()?.ok_or_else(gone)
    }

    /// The same for `up`, which makes the state directory anew if a `down` has just removed it.
    pub(crate) fn lock_or_claim(&self) -> Result<File, LabError> {
        loop {
            self.claim_state_dir()?;
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
        }
    }

    /// `None` if the state directory went away: whoever held the lock may have been `down`.
    fn try_lock(&self) -> Result<Option<File>, LabError> {
        let path = self.paths.lock();
        let file = match File::options().create(true).truncate(false).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(LabError::io("open", &path))?,
        };
        file.lock().map_err(LabError::io("lock", &path))?;
        let ours = file.metadata().map_err(LabError::io("look at", &path))?;
        let same =
            fs::metadata(&path).is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev());
        Ok((same && self.owns_state_dir()).then_some(file))
    }

    /// Writes keys and `lab.json` for hosts 1 to `count`; what is there stays. Says whether `lab.json` changed.
    pub(crate) fn ensure_description(&self, count: u16) -> Result<(LabDescription, bool), LabError> {
        let keys = self.paths.client_key();
        ensure_dir(keys.parent().unwrap_or(self.paths.root()), 0o700)?;
        ensure_dir(&self.paths.ashlar_state(), 0o700)?;
        let client_public_key = ssh::ensure_key(&keys, &format!("ashlar lab {}", self.name))?;
        let old = self.description()?;
        let mut hosts = Vec::new();
        for index in 1..=count {
            let known = old.as_ref().and_then(|old| old.host(&names::host_name(index)));
            let host_uuid = known.map_or_else(Uuid::new_v4, |known| known.host_uuid);
            hosts.push(self.ensure_host_description(index, host_uuid, &client_public_key)?);
        }
        let lines: String = hosts.iter().map(|host| host.known_hosts_line.clone() + "\n").collect();
        ensure_file(&self.paths.known_hosts(), lines.as_bytes(), 0o644)?;
        let description = LabDescription {
            name: self.name.clone(),
            state_dir: self.paths.root().to_owned(),
            control_namespace: NetnsRole::Control.netns_name(&self.name),
            switch_namespace: NetnsRole::Switch.netns_name(&self.name),
            client_key: keys,
            client_public_key,
            known_hosts: self.paths.known_hosts(),
            ssh_config: self.paths.ssh_config(),
            ashlar_state_dir: self.paths.ashlar_state(),
            management: ManagementNetwork {
                cidr: names::MANAGEMENT_CIDR.to_owned(),
                control_address: names::CONTROL_ADDRESS,
                mtu: names::MTU,
            },
            nodes: NodeNetwork {
                cidr: names::NODE_CIDR.to_owned(),
                gateway: names::NODE_GATEWAY,
                ranges: vec![AddressRange { first: names::NODE_RANGE_FIRST, last: names::NODE_RANGE_LAST }],
                mtu: names::MTU,
                bridge: names::NODE_BRIDGE.to_owned(),
            },
            hosts,
        };
        ensure_file(&self.paths.ssh_config(), ssh::client_config(&description).as_bytes(), 0o644)?;
        let path = self.paths.description();
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|source| LabError::Description { path: path.clone(), source })?;
        let changed = ensure_file(&path, &text, 0o644)?;
        Ok((description, changed))
    }

    fn ensure_host_description(
        &self,
        index: u16,
        host_uuid: Uuid,
        client_public_key: &str,
    ) -> Result<HostDescription, LabError> {
        let name = names::host_name(index);
        let paths = self.paths.host(&name);
        let ssh_address = names::management_address(index);
        let public_key = ssh::ensure_server(&paths, &name, ssh_address, client_public_key)?;
        Ok(HostDescription {
            ssh_address,
            ssh_port: 22,
            ssh_user: "root".to_owned(),
            known_hosts_line: format!("{ssh_address} {public_key}"),
            host_uuid,
            pool_name: names::POOL_NAME.to_owned(),
            pool_path: PathBuf::from(names::POOL_PATH),
            pool_dir: paths.pool(),
            bridge: names::NODE_BRIDGE.to_owned(),
            node_address: names::node_address(index),
            namespace: NetnsRole::Host(index).netns_name(&self.name),
            state_dir: paths.root().to_owned(),
            log_dir: paths.log(),
            name,
        })
    }
}
