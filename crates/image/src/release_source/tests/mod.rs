//! Each test has a network namespace of its own, with a web server and Debian's registry in it.

mod failures;
mod from_modules;
mod published;
mod registry;
mod server;
mod transfer;
mod whole;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::cache::Context;
use crate::error::Result;
use crate::fetch::Timing;
use crate::report::Reporter;
use crate::source::{Kubernetes, Release};
use published::{FLANNEL, VERSION};

/// As patient as a test may be.
const TIMING: Timing = Timing {
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(1),
    total: None,
    pauses: &[Duration::from_millis(5), Duration::from_millis(5)],
};

/// Runs `work` on a thread that has a network namespace of its own, and so do its children.
fn in_own_network<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root: run the tests as root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Remembers what a build says.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Reporter for Said {
    fn started(&self, _stage: &str) {}
    fn finished(&self, stage: &str, _took: Duration, cached: bool) {
        let how = if cached { "kept" } else { "made" };
        self.0.lock().unwrap().push(format!("{stage}: {how}"));
    }
    fn note(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

impl Said {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Fetches a release into a cache.
fn fetch(cache: &Path, said: &Said, release: &Release) -> Result<Kubernetes> {
    let cancel = AtomicBool::new(false);
    let ctx = Context { cache_dir: cache, reporter: said, cancel: &cancel };
    let lock = ctx.lock()?;
    super::prepare_within(&ctx, &lock, &VERSION.parse()?, FLANNEL, release, TIMING)
}
