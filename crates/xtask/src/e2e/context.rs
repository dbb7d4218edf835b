//! Running the binary under test, and looking at the lab's host behind its back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What all checks share.
pub(crate) struct Context {
    ashlar: PathBuf,
    /// Name of the lab and of the cluster.
    pub(crate) name: String,
    /// Everything that was printed by any command so far, for the canary search.
    pub(crate) printed: Vec<u8>,
    /// Where evidence of failures is put.
    evidence: PathBuf,
    /// Secrets seen while the cluster came up: join tokens.
    pub(crate) tokens: std::collections::BTreeSet<String>,
    /// Whether creation is killed in the middle.
    pub(crate) kills: bool,
    /// When tokens were last looked for.
    pub(crate) token_watch: Option<Instant>,
    /// Command lines and environments of all processes, sampled throughout.
    pub(crate) sampler: Option<super::canary::Sampler>,
}

impl Context {
    pub(crate) fn new(ashlar: &Path, name: &str) -> Result<Self> {
        let ashlar = fs::canonicalize(ashlar).with_context(|| {
            format!("{} is not there; build it with `cargo build -p ashlar-app`", ashlar.display())
        })?;
        let evidence = std::env::temp_dir().join(format!("ashlar-e2e-{}", std::process::id()));
        Ok(Context {
            ashlar,
            name: name.to_owned(),
            printed: Vec::new(),
            evidence,
            tokens: Default::default(),
            kills: true,
            token_watch: None,
            sampler: None,
        })
    }

    /// A command of the binary under test, inside the lab.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ashlar);
        command.arg("--lab").arg(&self.name).args(arguments).stdin(Stdio::null());
        command
    }

    /// The same without `--lab`: for commands about the lab itself.
    pub(crate) fn outside(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ashlar);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, whatever its exit code.
    pub(crate) fn output(&mut self, mut command: Command) -> Result<Output> {
        let output = command.output().with_context(|| format!("could not run {command:?}"))?;
        self.printed.extend_from_slice(&output.stdout);
        self.printed.extend_from_slice(&output.stderr);
        Ok(output)
    }

    /// Runs a command that must work; its stdout.
    pub(crate) fn ok(&mut self, command: Command) -> Result<String> {
        let shown = format!("{command:?}");
        let output = self.output(command)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{shown}: {}\n{}", output.status, tail(&stderr, 30));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that must fail; its stderr.
    pub(crate) fn fails(&mut self, command: Command, code: i32) -> Result<String> {
        let shown = format!("{command:?}");
        let output = self.output(command)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "{shown}: expected exit code {code}, got {}\n{stderr}",
            output.status
        );
        Ok(stderr)
    }

    /// Starts a command in the background, its output in a file.
    pub(crate) fn spawn(&self, mut command: Command, log: &Path) -> Result<Child> {
        let file = fs::File::options().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        command.spawn().with_context(|| format!("could not run {command:?}"))
    }

    /// `ashlar … -o json`.
    pub(crate) fn json(&mut self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let text = self.ok(self.command(&all))?;
        serde_json::from_str(&text).with_context(|| format!("ashlar {} printed no JSON", arguments.join(" ")))
    }

    /// kubectl against the cluster, through Ashlar's tunnel.
    pub(crate) fn kubectl(&mut self, arguments: &[&str]) -> Result<String> {
        let name = self.name.clone();
        self.kubectl_of(&name, arguments)
    }

    /// The same, against another cluster.
    pub(crate) fn kubectl_of(&mut self, cluster: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["kubectl", cluster, "--"];
        all.extend(arguments);
        self.ok(self.command(&all))
    }

    /// Makes kubectl commands, for whoever runs them on its own.
    pub(crate) fn kubectl_maker(&self, cluster: &str) -> impl Fn(&[&str]) -> Command + Send + use<> {
        let (ashlar, lab, cluster) = (self.ashlar.clone(), self.name.clone(), cluster.to_owned());
        move |arguments| {
            let mut command = Command::new(&ashlar);
            command.args(["--lab", &lab, "kubectl", &cluster, "--"]).args(arguments);
            command
        }
    }

    /// A program on the lab's host, behind Ashlar's back.
    pub(crate) fn on_host(&mut self, program: &[&str]) -> Result<String> {
        self.on("h1", program)
    }

    /// A program on one of the lab's hosts.
    pub(crate) fn on(&mut self, host: &str, program: &[&str]) -> Result<String> {
        let name = self.name.clone();
        let mut all = vec!["lab", "exec", name.as_str(), "--on", host, "--"];
        all.extend(program);
        self.ok(self.outside(&all))
    }

    /// Facts about the lab.
    pub(crate) fn description(&self) -> Result<Value> {
        let path = PathBuf::from("/var/lib/ashlar-labs").join(&self.name).join("lab.json");
        let text = fs::read_to_string(&path).with_context(|| format!("no lab at {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn described(&self, pointer: &str) -> Result<PathBuf> {
        let description = self.description()?;
        let text = description.pointer(pointer).and_then(Value::as_str);
        Ok(PathBuf::from(text.with_context(|| format!("lab.json has no {pointer}"))?))
    }

    /// The host's pool, as the machine sees it.
    pub(crate) fn pool_dir(&self) -> Result<PathBuf> {
        self.described("/hosts/0/pool_dir")
    }

    /// Directory with all of the host's state.
    pub(crate) fn host_dir(&self) -> Result<PathBuf> {
        self.described("/hosts/0/state_dir")
    }

    /// Ashlar's own state in this lab.
    pub(crate) fn state_dir(&self) -> Result<PathBuf> {
        self.described("/ashlar_state_dir")
    }

    /// File names in the host's pool.
    pub(crate) fn pool_files(&self) -> Result<Vec<String>> {
        file_names(&self.pool_dir()?)
    }

    /// Names of the domains that libvirt has defined, running or not.
    pub(crate) fn domains(&mut self) -> Result<Vec<String>> {
        self.domains_on("h1")
    }

    /// The same, of one of several hosts.
    pub(crate) fn domains_on(&mut self, host: &str) -> Result<Vec<String>> {
        let list = self.on(host, &["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"])?;
        Ok(list.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// A lab with nothing in it.
    pub(crate) fn fresh_lab(&mut self) -> Result<()> {
        self.fresh_lab_of(1)
    }

    /// The same, of so many hosts.
    pub(crate) fn fresh_lab_of(&mut self, hosts: usize) -> Result<()> {
        let name = self.name.clone();
        let hosts = hosts.to_string();
        // A lab that an earlier run left is of no use: its store may be half made on purpose.
        let _ = self.output(self.outside(&["lab", "down", &name, "--yes"]))?;
        self.ok(self.outside(&["lab", "up", &name, "--hosts", &hosts])).map(drop)
    }

    pub(crate) fn take_lab_down(&mut self) -> Result<()> {
        let name = self.name.clone();
        self.ok(self.outside(&["lab", "down", &name, "--yes"])).map(drop)
    }

    /// Copies what tells why a check failed, and says where it is.
    pub(crate) fn keep_evidence(&mut self, check: &str) {
        let directory = self.evidence.join(check);
        if fs::create_dir_all(&directory).is_err() {
            return;
        }
        let _ = fs::write(directory.join("printed.txt"), &self.printed);
        for arguments in [&["get", "all", "-o", "yaml"][..], &["events"][..], &["cluster", "status"][..]] {
            if let Ok(output) = self.output(self.command(arguments)) {
                let _ = fs::write(directory.join(format!("{}.txt", arguments.join("-"))), output.stdout);
            }
        }
        if let Ok(host) = self.host_dir() {
            let consoles = host.join("log/libvirt/qemu");
            for file in file_names(&consoles).unwrap_or_default() {
                let _ = fs::copy(consoles.join(&file), directory.join(&file));
            }
        }
        println!("e2e {check}: evidence in {}", directory.display());
    }
}

/// Names in a directory, sorted; none if it is not there.
pub(crate) fn file_names(directory: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Waits until the condition holds; looks often, since what it waits for may pass quickly.
pub(crate) fn wait_for(
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let begin = Instant::now();
    while !holds()? {
        if begin.elapsed() > deadline {
            bail!("{what}: not within {} s", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
