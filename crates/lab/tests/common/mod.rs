//! What the tests of the lab share: a lab that goes away by itself, and a search for what one leaves behind.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use ashlar_lab::{Lab, Place, UpReport};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A lab of a name that no other test has, removed at the end of the test.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    dir: TempDir,
}

impl TestLab {
    pub(crate) fn new(tag: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("t{}-{tag}", std::process::id());
        let lab = Lab::with_state_dir(&name, &dir.path().join("lab")).unwrap();
        Self { lab, dir }
    }

    pub(crate) fn up(&self, hosts: u16) -> UpReport {
        self.lab.up(hosts, &|_| {}).unwrap_or_else(|error| panic!("up: {}", chain(&error)))
    }

    pub(crate) fn ssh(&self, host: &str, script: &str) -> Output {
        let config = self.lab.description().unwrap().unwrap().ssh_config;
        let config = config.to_str().unwrap();
        let argv = ["ssh", "-F", config, "-o", "ConnectTimeout=3", host, script];
        self.lab.output(&Place::Control, &argv, DEADLINE).unwrap()
    }

    pub(crate) fn in_host(&self, host: &str, argv: &[&str]) -> Output {
        self.lab.output(&Place::Host(host.to_owned()), argv, DEADLINE).unwrap()
    }

    pub(crate) fn in_control(&self, argv: &[&str]) -> Output {
        self.lab.output(&Place::Control, argv, DEADLINE).unwrap()
    }

    /// Where a TCP connection from the control namespace or a host ends: `open`, or bash's complaint.
    pub(crate) fn connect(&self, place: &Place, address: &str, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/{address}/{port} && echo open");
        let output = self.lab.output(place, &["timeout", "5", "bash", "-c", &script], DEADLINE).unwrap();
        stdout(&output) + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if let Err(error) = self.lab.down(&|_| {}) {
            eprintln!("lab {} stays behind: {}", self.lab.name(), chain(&error));
        }
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

pub(crate) fn wait_for(what: &str, deadline: Duration, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !ready() {
        assert!(Instant::now() < end, "{what} did not happen within {deadline:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Everything by which a lab could be found on the machine.
pub(crate) struct Traces {
    name: String,
    state_dir: PathBuf,
    net_inodes: BTreeSet<u64>,
    pids: BTreeSet<i32>,
}

impl Traces {
    /// To be taken while the lab runs: afterwards, nothing tells any more which namespaces were its.
    pub(crate) fn of(lab: &Lab) -> Self {
        let net_inodes: BTreeSet<u64> = lab
            .status()
            .unwrap()
            .namespaces
            .iter()
            .map(|name| fs::metadata(Path::new("/run/netns").join(name)).unwrap().ino())
            .collect();
        let mut traces = Self {
            name: lab.name().to_owned(),
            state_dir: lab.state_dir().to_owned(),
            net_inodes,
            pids: BTreeSet::new(),
        };
        traces.pids = pids().into_iter().filter(|pid| traces.is_inside(*pid)).collect();
        assert!(traces.pids.len() >= 5, "a host has at least a holder and four daemons: {:?}", traces.pids);
        traces
    }

    fn is_inside(&self, pid: i32) -> bool {
        let net = fs::metadata(format!("/proc/{pid}/ns/net")).map(|meta| meta.ino());
        let group = format!("/ashlar-{}/", self.name);
        net.is_ok_and(|inode| self.is_our_namespace(inode))
            || read(&format!("/proc/{pid}/cgroup")).contains(&group)
    }

    /// Whether it is a namespace of the lab's. The kernel gives the number of one that is gone to the next one that is
    /// made, and labs of other tests come and go meanwhile.
    fn is_our_namespace(&self, inode: u64) -> bool {
        let ours = format!("ashlar-{}-", self.name);
        let is_anothers = |name: &String| {
            let found = fs::metadata(Path::new("/run/netns").join(name)).map(|meta| meta.ino());
            !name.starts_with(&ours) && found.is_ok_and(|theirs| theirs == inode)
        };
        self.net_inodes.contains(&inode) && !names_in("/run/netns").iter().any(is_anothers)
    }

    /// What is left of it, by all means of looking.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let namespaces: Vec<String> = self
            .net_inodes
            .iter()
            .filter(|inode| self.is_our_namespace(**inode))
            .map(|inode| format!("net:[{inode}]"))
            .collect();
        for pid in pids() {
            let alive = !read(&format!("/proc/{pid}/stat")).contains(") Z ");
            if alive && (self.pids.contains(&pid) && pid != own_pid() || self.is_inside(pid)) {
                left.push(format!(
                    "process {pid}: {}",
                    read(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
                ));
            }
            // A mount anywhere, also in another lab's host, would keep a namespace or a directory.
            for line in read(&format!("/proc/{pid}/mountinfo")).lines() {
                let namespace = namespaces.iter().any(|name| line.contains(name));
                if namespace || line.contains(self.state_dir.to_str().unwrap()) {
                    left.push(format!("mount seen by process {pid}: {line}"));
                }
            }
        }
        for name in names_in("/run/netns") {
            if name.starts_with(&format!("ashlar-{}-", self.name)) {
                left.push(format!("network namespace {name}"));
            }
        }
        for dir in ["/sys/fs/cgroup".to_owned()]
            .into_iter()
            .chain(names_in("/sys/fs/cgroup").into_iter().map(|name| format!("/sys/fs/cgroup/{name}")))
        {
            let group = Path::new(&dir).join(format!("ashlar-{}", self.name));
            if group.exists() {
                left.push(format!("cgroup {}", group.display()));
            }
        }
        if self.state_dir.exists() {
            left.push(format!("state directory {}", self.state_dir.display()));
        }
        left
    }
}

/// The machine's mounts, without the namespaces of other tests' labs, which come and go.
pub(crate) fn own_mounts() -> Vec<String> {
    let text = read("/proc/thread-self/mountinfo");
    text.lines().filter(|line| !line.contains(" /run/netns")).map(str::to_owned).collect()
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

pub(crate) fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names_in(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

pub(crate) fn pids() -> Vec<i32> {
    names_in("/proc").iter().filter_map(|name| name.parse().ok()).collect()
}
