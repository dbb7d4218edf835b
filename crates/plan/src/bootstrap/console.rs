//! Understands a node's serial console: the text is that of `bootstrap.sh` and of the image's initrd.

use std::collections::VecDeque;

/// Longest line that is kept, in bytes; the rest of it is dropped.
const LINE_LIMIT: usize = 512;
/// Most log lines of a failure that are kept.
const LOG_LIMIT: usize = 40;
/// How many ordinary console lines are kept, for a machine that dies without a word of ours.
const TAIL_LIMIT: usize = 40;
/// So many kernel panics are a failure. After one the node is started again, by its own `panic=30` or by the engine:
/// first boot goes on where it was, and a kernel can panic by chance (under emulation QEMU now and then lets a CPU run
/// into a breakpoint that Linux has already patched away: one boot in hundreds, kernel bug "int3" of Fedora 2216496).
const PANICS_THAT_FAIL: u32 = 2;

/// Where first boot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was heard of a kernel yet.
    Firmware,
    /// The kernel runs.
    Kernel,
    /// The initial RAM file system looks for the root disk.
    Initrd,
    /// systemd starts units.
    System,
    /// cloud-init configures the network.
    CloudInit,
    /// A step of the bootstrap script, such as `kubeadm-certs`, in its n-th attempt.
    Step {
        /// Its name.
        name: String,
        /// 1 the first time.
        attempt: u32,
    },
    /// The node has joined: the script is done.
    Ready,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Phase::Firmware => f.write_str("firmware"),
            Phase::Kernel => f.write_str("kernel"),
            Phase::Initrd => f.write_str("initrd"),
            Phase::System => f.write_str("system"),
            Phase::CloudInit => f.write_str("cloud-init"),
            Phase::Step { name, attempt } => {
                match name.strip_prefix("kubeadm-") {
                    Some(step) => write!(f, "kubeadm {step}")?,
                    None => f.write_str(name)?,
                }
                if *attempt > 1 { write!(f, " (attempt {attempt})") } else { Ok(()) }
            }
            Phase::Ready => f.write_str("ready"),
        }
    }
}

/// Why first boot ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Phase as the script names it, or `kernel` for a panic.
    pub phase: String,
    /// One word: `deadline`, `image-missing`, `endpoint-unreachable`, `kernel-panic`, …
    pub reason: String,
    /// Last lines, scrubbed of secrets by the node.
    pub log_lines: Vec<String>,
}

/// Feeds on console bytes in any pieces, and says how far first boot has come.
#[derive(Clone, Debug)]
pub struct Progress {
    phase: Phase,
    failure: Option<Failure>,
    ssh_host_key: Option<String>,
    log: VecDeque<String>,
    tail: VecDeque<String>,
    line: Vec<u8>,
    out_of_memory: bool,
    kernel_panics: u32,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            phase: Phase::Firmware,
            failure: None,
            ssh_host_key: None,
            log: VecDeque::new(),
            tail: VecDeque::new(),
            line: Vec::new(),
            out_of_memory: false,
            kernel_panics: 0,
        }
    }
}

impl Progress {
    /// Takes the next bytes of the console.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.take_line(String::from_utf8_lossy(&line).trim_end());
                }
                b'\r' => {}
                _ if self.line.len() < LINE_LIMIT => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// How far it has come.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Set once first boot has failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the script ended well.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The node's SSH host key as it said it itself (`ssh-ed25519 AAAA…`).
    pub fn ssh_host_key(&self) -> Option<&str> {
        self.ssh_host_key.as_deref()
    }

    /// How often its kernel has panicked.
    pub fn kernel_panics(&self) -> u32 {
        self.kernel_panics
    }

    /// The last lines, for a machine that goes silent.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// A likely cause of the failure and what to do, in a sentence or two.
    pub fn advice(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(advice(failure, self.out_of_memory))
    }

    fn take_line(&mut self, line: &str) {
        // The kernel may write in the middle of our line, never inside of a word of ours: look for the mark.
        if let Some(at) = line.find("ASHLAR-") {
            self.take_mark(&line[at..]);
        } else if line.contains("Kernel panic - not syncing") {
            self.push_tail(line);
            self.kernel_panics += 1;
            if self.kernel_panics >= PANICS_THAT_FAIL {
                self.fail("kernel", "kernel-panic", self.tail.iter().cloned().collect());
            }
            return;
        } else if line.contains("Out of memory: Killed process") || line.contains("oom-kill:") {
            self.out_of_memory = true;
        } else if self.phase == Phase::Firmware && line.contains("Linux version") {
            self.phase = Phase::Kernel;
        }
        if !line.is_empty() {
            self.push_tail(line);
        }
    }

    fn push_tail(&mut self, line: &str) {
        push_bounded(&mut self.tail, line, TAIL_LIMIT);
    }

    fn fail(&mut self, phase: &str, reason: &str, log_lines: Vec<String>) {
        // The first failure is the cause; what follows is the consequence.
        if self.failure.is_none() {
            self.failure = Some(Failure { phase: phase.to_owned(), reason: reason.to_owned(), log_lines });
        }
    }

    fn take_mark(&mut self, mark: &str) {
        let (kind, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        match kind {
            "ASHLAR-BOOT" => self.take_boot(rest.trim()),
            "ASHLAR-PHASE" => self.take_phase(rest),
            "ASHLAR-LOG" => push_bounded(&mut self.log, rest, LOG_LIMIT),
            "ASHLAR-SSH-HOST-KEY" => self.ssh_host_key = Some(rest.trim().to_owned()),
            "ASHLAR-FAILED" => {
                let field = |key: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(key));
                let phase = field("phase=").unwrap_or("unknown").to_owned();
                let reason = field("reason=").unwrap_or("unknown").to_owned();
                let log = std::mem::take(&mut self.log).into();
                self.fail(&phase, &reason, log);
            }
            _ => {}
        }
    }

    fn take_boot(&mut self, stage: &str) {
        let phase = match stage {
            "initrd" => Phase::Initrd,
            "system" => Phase::System,
            "cloud-init" => Phase::CloudInit,
            _ => return,
        };
        // A reboot in the middle starts over; what a first boot has reached stays reached.
        if !matches!(self.phase, Phase::Step { .. } | Phase::Ready) {
            self.phase = phase;
        }
    }

    fn take_phase(&mut self, rest: &str) {
        let mut words = rest.split_whitespace();
        let (Some(name), Some(state)) = (words.next(), words.next()) else { return };
        match (name, state) {
            ("ready", "ok") => {
                self.phase = Phase::Ready;
                self.failure = None;
            }
            (_, "start") => {
                self.log.clear();
                // A node that starts a step again after a failure was rebooted, and tries again.
                self.failure = None;
                self.phase = Phase::Step { name: name.to_owned(), attempt: 1 };
            }
            (_, "retry") => {
                let attempt = words.next().and_then(|n| n.split('/').next()?.parse().ok()).unwrap_or(2);
                self.phase = Phase::Step { name: name.to_owned(), attempt };
            }
            _ => {}
        }
    }
}

fn push_bounded(lines: &mut VecDeque<String>, line: &str, limit: usize) {
    if lines.len() == limit {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

fn advice(failure: &Failure, out_of_memory: bool) -> String {
    let said = |text: &str| failure.log_lines.iter().any(|line| line.contains(text));
    let text = match failure.reason.as_str() {
        "image-missing" => {
            "an OCI image that the cluster's configuration names is not in the node image; build the image again, \
             or use the tags of its manifest (`ashlar image inspect`)"
        }
        "endpoint-unreachable" => {
            "the cluster's API address does not answer from this node; see whether the first control plane is up, and \
             whether both are on the same network segment"
        }
        "no-network" => {
            "the node has no working network: it lacks its static address or default route, or nobody on its segment \
             answers; check that the VM's tap is in the network's bridge on the host, that the bridge has its uplink, \
             and the MAC filter"
        }
        "etcd-disk" => {
            "etcd's disk is missing or holds other data, and is never formatted over; check the machine's volumes"
        }
        "kernel-panic" => {
            "the guest's kernel panicked, and again after it was started anew; see the console's last lines, and verify \
             the image (`ashlar image inspect`)"
        }
        _ if out_of_memory || said("[ERROR Mem]") || said("Cannot allocate memory") => {
            "the machine has too little memory; kubeadm asks 1700 MiB for a control plane: use a larger MachineClass"
        }
        "kubelet-not-admitted" => {
            "the cluster did not sign the node's certificate; its join token may have expired (15 minutes), or the \
             controller manager is not running: see `kubectl get csr`"
        }
        _ if said("[ERROR NumCPU]") => "kubeadm asks two CPUs for a control plane: use a larger MachineClass",
        _ if said("x509: certificate signed by unknown authority") => {
            "something else answers at the cluster's API address; check for an address used twice"
        }
        _ if said("certificate has expired or is not yet valid") => {
            "the node's clock is wrong; check the host's clock and NTP"
        }
        "deadline" => "the phase did not end in time; the host may be overloaded: see its load",
        _ => "see the phase's last lines",
    };
    text.to_owned()
}
