//! A writer that retries, and what became of what was acknowledged to it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::scene::Scene;

/// Writes ConfigMaps one after the other, each until it is acknowledged.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    /// When which was acknowledged.
    acknowledged: Arc<Mutex<Vec<(u32, Instant)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins. `kubectl` makes the command for one write.
    pub(super) fn start(kubectl: impl Fn(&[&str]) -> Command + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                if write(&kubectl, number) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now()));
                    number += 1;
                } else {
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        });
        Writer { stop, acknowledged, thread: Some(thread) }
    }

    /// How many were acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The longest time between two acknowledgements around a moment: what a client that retries feels.
    pub(super) fn pause_at(&self, moment: Instant) -> Option<Duration> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.iter().map(|(_, at)| *at).filter(|at| *at <= moment).max()?;
        let after = told.iter().map(|(_, at)| *at).filter(|at| *at > moment).min()?;
        Some(after - before)
    }

    /// When the first write after a moment was acknowledged.
    pub(super) fn first_after(&self, moment: Instant) -> Option<Duration> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().map(|(_, at)| *at).filter(|at| *at > moment).min().map(|at| at - moment)
    }

    pub(super) fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }

    /// Everything that was acknowledged is there.
    pub(super) fn judge(&self, scene: &mut Scene) -> Result<()> {
        let told = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let list = scene.context.kubectl(&["get", "configmaps", "-o", "name"])?;
        let there: BTreeSet<&str> = list.lines().map(str::trim).collect();
        let names: Vec<String> = told.iter().map(|(number, _)| format!("configmap/write-{number}")).collect();
        let lost: Vec<&String> = names.iter().filter(|name| !there.contains(name.as_str())).collect();
        println!("test-ha writes: {} acknowledged, {} lost", names.len(), lost.len());
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        ensure!(!names.is_empty(), "nothing was ever acknowledged");
        Ok(())
    }
}

/// One attempt. That it exists already means that an earlier attempt came through and nobody heard of it.
fn write(kubectl: &(impl Fn(&[&str]) -> Command + Send), number: u32) -> bool {
    let name = format!("write-{number}");
    let value = format!("--from-literal=number={number}");
    let output = kubectl(&["--request-timeout=10s", "create", "configmap", &name, &value])
        .stdin(Stdio::null())
        .output();
    output.context("kubectl").is_ok_and(|output| {
        output.status.success() || String::from_utf8_lossy(&output.stderr).contains("already exists")
    })
}
