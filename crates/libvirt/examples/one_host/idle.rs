//! P8: what the daemon costs while nothing is to be done, over domains that are defined and off.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use ashlar_engine::{Control, EngineError, PassReport, ServeObserver};
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::steady;

/// Until the first pass, which asks for everything, is long over.
const SETTLE: Duration = Duration::from_secs(90);

pub(crate) fn run(rig: &Rig, count: usize, seconds: &str) -> Value {
    rig.inside(async || steady::make(rig, count).await);
    // In a process of its own: what making a thousand machines took is not the daemon's.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["idle-in", rig.lab.name()])
        .arg(&rig.dir)
        .arg(seconds)
        // As the unit in `packaging/systemd` starts it.
        .env("MIMALLOC_ALLOW_THP", "0")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", output.status);
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["domains"] = json!(count);
    report
}

#[derive(Default)]
struct Passes(Mutex<(Vec<Duration>, Vec<String>)>);

impl ServeObserver for Passes {
    fn pass(&self, report: &PassReport<'_>) {
        let mut seen = self.0.lock().unwrap();
        seen.0.push(report.elapsed);
        if report.has_decided || report.in_flight > 0 || !report.plan.steps.is_empty() {
            seen.1.push(format!("something was left to do: {:?}", report.plan.steps));
        }
    }

    fn failed(&self, error: &EngineError, _: Duration) {
        self.0.lock().unwrap().1.push(error.to_string());
    }
}

/// Serves for so long, and tells what that took of this process.
pub(crate) fn measure(rig: &Rig, seconds: u64) -> Value {
    rig.inside(async || {
        let (engine, _, _) = rig.engine();
        let (control, passes) = (Control::new(), Passes::default());
        let idle = async {
            tokio::time::sleep(SETTLE).await;
            passes.0.lock().unwrap().0.clear();
            let (before, ssh_before) = (ticks_of("self"), ssh_ticks());
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (ticks_of("self") - before, ssh_ticks() - ssh_before)
        };
        let (ticks, ssh_ticks) = tokio::select! {
            () = engine.serve(&control, &passes) => panic!("the daemon ended"),
            told = idle => told,
        };
        let (passes, troubles) = std::mem::take(&mut *passes.0.lock().unwrap());
        assert!(troubles.is_empty(), "{troubles:?}");
        let longest = passes.iter().max().copied().unwrap_or_default();
        json!({
            "seconds": seconds, "passes": passes.len(), "longest_pass_ms": longest.as_secs_f64() * 1000.0,
            // Ticks are hundredths of a second.
            "processor_percent": ticks / (seconds as f64), "ssh_percent": ssh_ticks / (seconds as f64),
            "rss_mib": memory_mib("VmRSS:"), "peak_mib": memory_mib("VmHWM:"), "ssh_processes": children().len(),
        })
    })
}

/// In and for user space, all threads of a process that is there.
fn ticks_of(process: &str) -> f64 {
    // One that ended meanwhile has none.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum()
}

/// The `ssh` under the connections.
fn ssh_ticks() -> f64 {
    children().iter().map(|child| ticks_of(child)).sum()
}

fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn memory_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}
