//! `cargo xtask ci`: every check there is, in order. `make test` and `.ci/run` run this and nothing else.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::cargo::cargo;

/// `cargo xtask ci`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Stages to run; none means all
    stages: Vec<String>,
    /// Print the stages and stop
    #[arg(long)]
    list: bool,
}

/// One stage.
struct Stage {
    name: &'static str,
    what: &'static str,
    /// Program and arguments; `cargo` is the cargo that runs this.
    command: &'static [&'static str],
    /// Without it nothing after it makes sense.
    is_vital: bool,
}

/// What is run, in this order: cheap checks first, real VMs last.
const STAGES: &[Stage] = &[
    Stage {
        name: "build",
        what: "the binary",
        command: &["cargo", "build", "--package", "ashlar-app"],
        is_vital: true,
    },
    Stage {
        name: "setup",
        what: "system packages (apt)",
        command: &["target/debug/ashlar", "setup", "--tests"],
        is_vital: true,
    },
    Stage {
        name: "test-image",
        what: "the small guest that lab tests boot",
        command: &["target/debug/ashlar", "image", "build", "--test", "--no-register"],
        is_vital: true,
    },
    Stage {
        name: "format",
        what: "rustfmt",
        command: &["cargo", "fmt", "--all", "--check"],
        is_vital: false,
    },
    Stage {
        name: "lints",
        what: "clippy, warnings are errors",
        command: &["cargo", "clippy", "--workspace", "--", "-D", "warnings"],
        is_vital: false,
    },
    Stage {
        name: "lints-of-tests",
        what: "clippy in tests, where unwrap may stand",
        command: &[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
            "-A",
            "clippy::unwrap_used",
        ],
        is_vital: false,
    },
    Stage {
        name: "tests",
        what: "unit, golden, property and simulation tests; no network, no libvirt",
        command: &[
            "cargo",
            "test",
            "--workspace",
            "--no-fail-fast",
            "--exclude",
            "ashlar-lab",
            "--exclude",
            "ashlar-libvirt",
        ],
        is_vital: false,
    },
    Stage {
        name: "lab",
        what: "labs made of namespaces, and real libvirt in them",
        command: &["cargo", "test", "--no-fail-fast", "-p", "ashlar-lab", "-p", "ashlar-libvirt"],
        is_vital: false,
    },
    Stage {
        name: "node-image",
        what: "the node image: Kubernetes, Debian, every OCI image; from the cache where its inputs are unchanged",
        command: &["target/debug/ashlar", "image", "build", "--no-register"],
        is_vital: true,
    },
    Stage {
        name: "e2e",
        what: "one real cluster: made with kills in the middle, used, searched for secrets, rebooted, failing nodes, deleted",
        command: &["cargo", "xtask", "e2e"],
        is_vital: false,
    },
];

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Reads what `cargo test` and `cargo xtask e2e` say about their results.
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let number_before = |word: &str| -> u64 {
                let words: Vec<&str> = rest.split([' ', ';']).filter(|word| !word.is_empty()).collect();
                let at = words.iter().position(|other| *other == word);
                at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
            };
            self.passed += number_before("passed");
            self.failed += number_before("failed");
        } else if let Some(rest) = line.strip_prefix("e2e ") {
            if rest.contains(": ok (") {
                self.passed += 1;
            } else if rest.contains(": FAILED (") {
                self.failed += 1;
            }
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for stage in STAGES {
            println!("{:<8} {}", stage.name, stage.what);
        }
        return Ok(());
    }
    for name in &options.stages {
        let known = STAGES.iter().any(|stage| stage.name == name);
        ensure!(known, "there is no stage {name}; `cargo xtask ci --list` shows them");
    }
    let chosen =
        |stage: &&Stage| options.stages.is_empty() || options.stages.iter().any(|name| name == stage.name);
    let mut tally = Tally::default();
    let mut times = Vec::new();
    let mut broken = Vec::new();
    for stage in STAGES.iter().filter(chosen) {
        println!("==> {}: {}", stage.name, stage.what);
        let began = Instant::now();
        let is_good = execute(stage, &mut tally)?;
        let took = began.elapsed();
        println!("    {}: {} ({})", stage.name, if is_good { "ok" } else { "FAILED" }, human(took));
        times.push((stage.name, took, is_good));
        if !is_good {
            broken.push(stage.name);
            if stage.is_vital {
                break;
            }
        }
    }
    println!();
    for (name, took, is_good) in &times {
        println!("{name:<8} {:>12}  {}", human(*took), if *is_good { "ok" } else { "FAILED" });
    }
    let total = times.iter().map(|(_, took, _)| *took).sum();
    println!("{:<8} {:>12}", "total", human(total));
    // A stage that counts nothing (a lint) still counts when it fails.
    let failed = tally.failed.max(broken.len() as u64);
    println!("{} passed, {failed} failed", tally.passed);
    if broken.is_empty() && failed == 0 {
        return Ok(());
    }
    bail!("failed stages: {}", broken.join(", "))
}

/// Runs a stage, its output passed on while it is read.
fn execute(stage: &Stage, tally: &mut Tally) -> Result<bool> {
    let [program, arguments @ ..] = stage.command else { bail!("stage {} has no command", stage.name) };
    let mut command = if *program == "cargo" { cargo() } else { Command::new(program) };
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("unreadable output")?;
            println!("{line}");
            tally.read(&line);
        }
    }
    Ok(child.wait()?.success())
}

fn human(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "e2e create: a cluster comes up",
            "e2e create: ok (310.2 s)",
            "e2e canary: FAILED (1.0 s): found",
        ] {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed), (14, 3));
    }
}
