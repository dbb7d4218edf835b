//! The daemon on real libvirt: what goes off or away is brought back, and commands watch it work.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::canary::leaks;
use super::context::{Context, file_names, wait_for};
use super::identity::{boot_ids, identity};
use super::needles::{forms, random_word};

/// A boot under software emulation, with everything around it.
const HEAL_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A daemon that is ended with the check, however that ends.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(context: &Context, log: &Path) -> Result<Daemon> {
        let _ = std::fs::remove_file(log);
        let daemon = Daemon(context.spawn(context.command(&["serve", "--log-format", "json"]), log)?);
        wait_for("the daemon's first pass", Duration::from_secs(120), || {
            Ok(std::fs::read_to_string(log)?.contains("the first pass is over"))
        })?;
        Ok(daemon)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.0.id().try_into()?), signal)?)
    }

    /// Asks it to stop, and waits until it has.
    fn stop(mut self) -> Result<Duration> {
        let began = Instant::now();
        self.signal(Signal::SIGTERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "SIGTERM: the daemon ended with {status}");
        Ok(began.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn heals(context: &mut Context) -> Result<()> {
    let log = std::env::temp_dir().join(format!("ashlar-e2e-{}-serve.log", std::process::id()));
    // Before the daemon, which copies etcd as soon as it has begun.
    let word = random_word()?;
    let name = format!("e2e-canary-{}", &word[..6]);
    context.kubectl(&["create", "configmap", &name, &format!("--from-literal=word={word}")])?;
    let daemon = Daemon::start(context, &log)?;
    let evidence = || std::fs::read_to_string(&log).unwrap_or_default();
    undefined_is_defined(context).with_context(evidence)?;
    etcd_is_copied(context, &word).with_context(evidence)?;
    let daemon = cold_reboot(context, daemon, &log).with_context(evidence)?;
    let took = daemon.stop()?;
    println!("e2e daemon: ended {:.1} s after SIGTERM", took.as_secs_f64());
    ensure!(took < Duration::from_secs(60), "it took {took:?} to stop");
    Ok(())
}

/// Where a cluster's copies lie (`INSTALLATION/default/NAME/UID`), and the manifest of one.
fn copies_of(root: &Path, name: &str) -> Option<(PathBuf, String)> {
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
    below(root).flat_map(|installation| below(&installation.join("default").join(name))).find_map(|of| {
        let manifest = file_names(&of).ok()?.into_iter().find(|name| name.ends_with(".json"))?;
        Some((of, manifest))
    })
}

/// Sealed, with all that a restore needs; what is in the cluster shows in no file of it, and comes out with the key.
fn etcd_is_copied(context: &mut Context, word: &str) -> Result<()> {
    let (root, name) = (context.state_dir()?.join("etcd-snapshots"), context.name.clone());
    let mut found = None;
    wait_for("a copy of etcd", Duration::from_secs(180), || {
        found = copies_of(&root, &name);
        Ok(found.is_some())
    })?;
    let (directory, manifest) = found.context("a copy of etcd")?;
    let mut places = Vec::new();
    for name in file_names(&directory)? {
        let path = directory.join(&name);
        let mode = std::fs::metadata(&path)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "others may read {name}, of a copy of etcd");
        places.push((name, std::fs::read(&path)?));
    }
    let needles = forms(word.as_bytes());
    let shown = leaks(&places, &needles);
    ensure!(shown.is_empty(), "what is in the cluster shows in {}", shown.join(", "));
    let told = context.ok(context.command(&["etcd-snapshot", "verify"]))?;
    ensure!(told.contains(": good: "), "etcd-snapshot verify: {told}");
    let out = tempfile::tempdir()?;
    let to = out.path().join("copy");
    let file = directory.join(manifest).display().to_string();
    context.ok(context.command(&["etcd-snapshot", "extract", &file, "--to", &to.display().to_string()]))?;
    let database = std::fs::read(to.join("etcd.db"))?;
    ensure!(database.len() > 1 << 20, "the copy of etcd has {} bytes", database.len());
    println!("e2e daemon: etcd was copied, {} MiB", database.len() >> 20);
    let extracted = [("etcd.db".to_owned(), database)];
    ensure!(
        leaks(&extracted, &needles) == ["etcd.db"],
        "what is in the cluster is not in the copy of its etcd"
    );
    Ok(())
}

fn undefined_is_defined(context: &mut Context) -> Result<()> {
    let worker = format!("{}-wkr-1", context.name);
    let began = Instant::now();
    let before = boot_id(context, &worker)?;
    let uuid = context.on_host(&["virsh", "-q", "-c", "qemu:///system", "domuuid", &worker])?;
    context.on_host(&["virsh", "-q", "-c", "qemu:///system", "destroy", &worker])?;
    context.on_host(&["virsh", "-q", "-c", "qemu:///system", "undefine", &worker])?;
    wait_for("the undefined worker to be defined, started and Ready", HEAL_DEADLINE, || {
        Ok(boot_id(context, &worker).is_ok_and(|boot| boot != before) && is_ready(context, &worker))
    })?;
    let after = context.on_host(&["virsh", "-q", "-c", "qemu:///system", "domuuid", &worker])?;
    ensure!(uuid == after, "another machine has the worker's name: {uuid} {after}");
    println!("e2e daemon: undefined by virsh, Ready again after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Commands declare and watch: the cluster is stopped and started, and the daemon is killed in the middle of the start.
fn cold_reboot(context: &mut Context, daemon: Daemon, log: &Path) -> Result<Daemon> {
    let name = context.name.clone();
    let (before, boots_before) = (identity(context)?, boot_ids(context)?);
    ensure!(before.len() == 2, "expected two nodes, got {before:?}");
    ensure!(before.values().all(|(_, machine_id, key)| !machine_id.is_empty() && key.starts_with("ssh-")));
    let stopped = context.output(context.command(&["cluster", "stop", &name]))?;
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    ensure!(
        stopped.status.success() && said.contains("the daemon (process"),
        "cluster stop: {}\n{said}",
        stopped.status
    );
    ensure!(!any_runs(context)?, "domains still run after `cluster stop`");

    let start = std::env::temp_dir().join(format!("ashlar-e2e-{}-watch.log", std::process::id()));
    let mut watcher = context.spawn(context.command(&["cluster", "start", &name]), &start)?;
    wait_for("a domain that the daemon started", Duration::from_secs(120), || any_runs(context))?;
    daemon.signal(Signal::SIGKILL)?;
    drop(daemon);
    ensure!(watcher.wait()?.code() == Some(1), "a command whose daemon was killed does not say so");
    let daemon = Daemon::start(context, log)?;
    let started = context.output(context.command(&["cluster", "start", &name]))?;
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    ensure!(started.status.success(), "cluster start: {}\n{said}", started.status);
    for node in before.keys() {
        wait_for("node Ready after the reboot", HEAL_DEADLINE, || Ok(is_ready(context, node)))?;
    }
    let (after, boots_after) = (identity(context)?, boot_ids(context)?);
    ensure!(before == after, "not the same after a cold reboot:\nbefore {before:?}\nafter  {after:?}");
    ensure!(
        boots_before.iter().all(|boot| !boots_after.contains(boot)),
        "a node was not rebooted: {boots_before:?} {boots_after:?}"
    );
    let domains = context.domains()?;
    ensure!(domains.len() == 2, "something was doubled: {domains:?}");
    Ok(daemon)
}

fn any_runs(context: &mut Context) -> Result<bool> {
    let running = context.on_host(&["virsh", "-q", "-c", "qemu:///system", "list", "--name"])?;
    Ok(!running.trim().is_empty())
}

fn boot_id(context: &mut Context, machine: &str) -> Result<String> {
    context.ok(context.command(&["ssh", machine, "--", "cat", "/proc/sys/kernel/random/boot_id"]))
}

fn is_ready(context: &mut Context, node: &str) -> bool {
    let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    context.kubectl(&["get", "node", node, "-o", path]).is_ok_and(|ready| ready.trim() == "True")
}
