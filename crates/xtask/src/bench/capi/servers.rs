//! The processes of the peer.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::program::output_of;
use super::build::{MANAGERS, Manager, Programs};
use super::report::Usage;

const API_PORT: u16 = 6443;
const TOKEN: &str = "ashlar-bench";
/// Until a process listens: on a busy machine kube-apiserver takes long.
const START: Duration = Duration::from_secs(180);

/// All of them; they end with the process namespace.
pub(super) struct Servers {
    directory: PathBuf,
    logs: PathBuf,
    running: Vec<(String, Child)>,
}

/// kubectl, as administrator.
pub(super) struct Kubectl {
    program: PathBuf,
    config: PathBuf,
}

impl Kubectl {
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.config).args(arguments).stdin(Stdio::null());
        command
    }

    pub(super) fn ok(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(arguments))
    }

    /// With something on its standard input, through a file.
    pub(super) fn ok_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::{Seek as _, Write as _};
        let mut file = tempfile::tempfile()?;
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        output_of(self.command(arguments).stdin(file))
    }
}

impl Servers {
    /// Makes certificate and kubeconfig; starts nothing.
    pub(super) fn new(directory: &Path, logs: &Path) -> Result<Self> {
        let servers = Servers { directory: directory.to_owned(), logs: logs.to_owned(), running: Vec::new() };
        let certificates = servers.certificates();
        fs::create_dir_all(&certificates)?;
        output_of(
            Command::new("openssl")
                .current_dir(&certificates)
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .args(["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
                .args(["-keyout", "tls.key", "-out", "tls.crt"]),
        )?;
        output_of(
            Command::new("openssl")
                .current_dir(&certificates)
                .args(["pkey", "-in", "tls.key", "-pubout", "-out", "tls.pub"]),
        )?;
        fs::write(directory.join("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: bench\nclusters: [{{name: bench, cluster: {{server: \
             'https://127.0.0.1:{API_PORT}', certificate-authority: '{}'}}}}]\nusers: [{{name: bench, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\n",
            certificates.join("tls.crt").display()
        );
        fs::write(servers.kubeconfig(), config)?;
        Ok(servers)
    }

    fn certificates(&self) -> PathBuf {
        self.directory.join("certificates")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    pub(super) fn docker_socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// The CA bundle of the managers' webhooks.
    pub(super) fn ca(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.certificates().join("tls.crt"))?)
    }

    pub(super) fn kubectl(&self, programs: &Programs) -> Kubectl {
        Kubectl { program: programs.kubectl.clone(), config: self.kubeconfig() }
    }

    /// etcd, and kube-apiserver over it.
    pub(super) fn start_store(&mut self, programs: &Programs) -> Result<()> {
        let mut etcd = Command::new(&programs.etcd);
        etcd.arg("--data-dir")
            .arg(self.directory.join("etcd"))
            .args([
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
            ])
            .args([
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            ])
            .args(["--initial-cluster=default=http://127.0.0.1:2380", "--quota-backend-bytes=8589934592"])
            .arg("--log-level=error");
        self.start("etcd", etcd, 2379)?;
        let certificates = self.certificates();
        let file = |flag: &str, name: &str| format!("--{flag}={}", certificates.join(name).display());
        let mut server = Command::new(&programs.kube_apiserver);
        server
            .args(["--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1"])
            .args(["--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .arg(format!("--secure-port={API_PORT}"))
            .arg(file("tls-cert-file", "tls.crt"))
            .arg(file("tls-private-key-file", "tls.key"))
            .arg(format!("--token-auth-file={}", self.directory.join("tokens.csv").display()))
            .args(["--authorization-mode=AlwaysAllow", "--disable-admission-plugins=ServiceAccount"])
            .args(["--service-cluster-ip-range=10.96.0.0/24", "--service-account-issuer=https://127.0.0.1"])
            .arg(file("service-account-key-file", "tls.pub"))
            .arg(file("service-account-signing-key-file", "tls.key"))
            .args(["--enable-priority-and-fairness=false", "--max-requests-inflight=2000"])
            .args(["--max-mutating-requests-inflight=1000", "--v=0"]);
        self.start("kube-apiserver", server, API_PORT)?;
        let kubectl = self.kubectl(programs);
        let until = Instant::now() + START;
        while let Err(error) = kubectl.ok(&["get", "namespace", "default"]) {
            if Instant::now() > until {
                return Err(error.context("kube-apiserver does not become ready"));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// The four managers, with what their authors raised for their own scale tests.
    pub(super) fn start_managers(&mut self, programs: &Programs, qps: u32, concurrency: u32) -> Result<()> {
        for (index, manager) in (0_u16..).zip(&MANAGERS) {
            let mut command = Command::new(programs.manager(manager));
            command
                .env("KUBECONFIG", self.kubeconfig())
                .env("DOCKER_HOST", format!("unix://{}", self.docker_socket().display()))
                .envs([("POD_IP", "127.0.0.1"), ("POD_NAMESPACE", "default")])
                .envs([("POD_NAME", manager.name), ("POD_UID", "00000000-0000-4000-8000-000000000001")])
                .arg(format!("--webhook-port={}", webhook_port(index)))
                .arg(format!("--webhook-cert-dir={}", self.certificates().display()))
                .arg(format!("--health-addr=127.0.0.1:{}", 9440 + index))
                .arg(format!("--diagnostics-address=127.0.0.1:{}", 8440 + index))
                .args([
                    "--insecure-diagnostics",
                    "--feature-gates=ClusterTopology=true,MachinePool=true",
                    "--v=0",
                ])
                .arg(format!("--kube-api-qps={qps}"))
                .arg(format!("--kube-api-burst={}", qps * 2));
            for kind in manager.concurrencies {
                command.arg(format!("--{kind}-concurrency={concurrency}"));
            }
            self.start(manager.name, command, webhook_port(index))?;
        }
        Ok(())
    }

    /// Starts a process and waits until it listens.
    fn start(&mut self, name: &str, mut command: Command, port: u16) -> Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        let file = File::create(&log)?;
        // Memory is there: collecting garbage less often gives the peer's processes more of the processor.
        command.env("GOGC", "400");
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).current_dir(&self.directory);
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{name} does not listen on port {port} ({ended:?}):\n{}", tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    /// What each process used so far.
    pub(super) fn usage(&self) -> Result<Vec<Usage>> {
        self.running.iter().map(|(name, child)| Usage::of(name, child.id())).collect()
    }
}

pub(super) fn webhook_port(index: u16) -> u16 {
    9540 + index
}

/// For messages.
impl std::fmt::Display for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
