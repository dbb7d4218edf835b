//! A writer that retries, and what became of what was acknowledged to it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::e2e::context::Context;

/// Writes ConfigMaps one after the other, each until it is acknowledged.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    /// When which was acknowledged.
    acknowledged: Arc<Mutex<Vec<(u32, Instant)>>>,
    /// What attempts that failed said.
    failures: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins. `kubectl` makes the command for one write.
    pub(crate) fn start(kubectl: impl Fn(&[&str]) -> Command + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let (stopped, told, failed) = (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&failures));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                match write(&kubectl, number) {
                    Ok(()) => {
                        told.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now()));
                        number += 1;
                    }
                    Err(error) => {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                        std::thread::sleep(Duration::from_millis(500));
                    }
                }
            }
        });
        Writer { stop, acknowledged, failures, thread: Some(thread) }
    }

    /// How many were acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What the attempts that failed said.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The longest time between two acknowledgements.
    pub(crate) fn longest_pause(&self) -> Duration {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        told.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap_or_default()
    }

    /// The longest time between two acknowledgements around a moment: what a client that retries feels.
    pub(crate) fn pause_at(&self, moment: Instant) -> Option<Duration> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.iter().map(|(_, at)| *at).filter(|at| *at <= moment).max()?;
        let after = told.iter().map(|(_, at)| *at).filter(|at| *at > moment).min()?;
        Some(after - before)
    }

    /// When the first write after a moment was acknowledged.
    pub(crate) fn first_after(&self, moment: Instant) -> Option<Duration> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().map(|(_, at)| *at).filter(|at| *at > moment).min().map(|at| at - moment)
    }

    pub(crate) fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }

    /// Everything that was acknowledged is there.
    pub(crate) fn judge(&self, context: &mut Context, cluster: &str) -> Result<()> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let list = context.kubectl_of(cluster, &["get", "configmaps", "-o", "name"])?;
        let there: BTreeSet<&str> = list.lines().map(str::trim).collect();
        let names: Vec<String> = told.iter().map(|(number, _)| format!("configmap/write-{number}")).collect();
        let lost: Vec<&String> = names.iter().filter(|name| !there.contains(name.as_str())).collect();
        println!("writes: {} acknowledged, {} lost", names.len(), lost.len());
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        ensure!(!names.is_empty(), "nothing was ever acknowledged");
        Ok(())
    }
}

/// One attempt. That it exists already means that an earlier attempt came through and nobody heard of it.
fn write(kubectl: &(impl Fn(&[&str]) -> Command + Send), number: u32) -> Result<()> {
    let name = format!("write-{number}");
    let value = format!("--from-literal=number={number}");
    let mut command = kubectl(&["--request-timeout=10s", "create", "configmap", &name, &value]);
    let output = command.stdin(Stdio::null()).output().context("kubectl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || said.contains("already exists") {
        return Ok(());
    }
    bail!("{name}: {}", said.trim())
}
