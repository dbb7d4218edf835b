//! `cargo xtask ci`: every check there is, in order. `make test` and `.ci/run` run this and nothing else.

mod stages;
mod tally;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;

use self::stages::{Runs, STAGES, Stage};
use self::tally::Tally;
use crate::cargo::cargo;
use crate::sim::commit;

/// `cargo xtask ci`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Stages to run; none means all
    stages: Vec<String>,
    /// Print the stages and stop
    #[arg(long)]
    list: bool,
}

/// How a stage ended.
struct Outcome {
    stage: &'static Stage,
    took: Duration,
    is_good: bool,
    tally: Tally,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for stage in STAGES {
            println!("{:<14} {}", stage.name, stage.what);
        }
        return Ok(());
    }
    for name in &options.stages {
        let known = STAGES.iter().any(|stage| stage.name == name);
        ensure!(known, "there is no stage {name}; `cargo xtask ci --list` shows them");
    }
    let chosen =
        |stage: &&Stage| options.stages.is_empty() || options.stages.iter().any(|name| name == stage.name);
    let began = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut beside = Vec::new();
    for stage in STAGES.iter().filter(chosen) {
        println!("==> {}: {} ({})", stage.name, stage.what, room());
        if stage.runs == Runs::Beside {
            beside.push(thread::spawn(|| execute(stage)));
            continue;
        }
        if stage.runs == Runs::Alone {
            for thread in beside.drain(..) {
                outcomes.push(ended(thread)?);
            }
        }
        let outcome = execute(stage)?;
        let is_over = !outcome.is_good && stage.is_vital;
        outcomes.push(outcome);
        if is_over {
            break;
        }
    }
    for thread in beside {
        outcomes.push(ended(thread)?);
    }
    report(&outcomes, began.elapsed())
}

fn ended(beside: JoinHandle<Result<Outcome>>) -> Result<Outcome> {
    beside.join().map_err(|_| anyhow!("a thread of this program panicked"))?
}

fn report(outcomes: &[Outcome], total: Duration) -> Result<()> {
    println!();
    for Outcome { stage, took, is_good, .. } in outcomes {
        let beside = if stage.runs == Runs::Beside { " (beside others)" } else { "" };
        println!(
            "{:<14} {:>12}  {}{beside}",
            stage.name,
            human(*took),
            if *is_good { "ok" } else { "FAILED" }
        );
    }
    println!("{:<14} {:>12}", "total", human(total));
    let broken: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_good).collect();
    for outcome in &broken {
        println!("\n{} ended badly:", outcome.stage.name);
        for line in outcome.tally.told() {
            println!("    {line}");
        }
    }
    let sum = |count: fn(&Tally) -> u64| outcomes.iter().map(|outcome| count(&outcome.tally)).sum::<u64>();
    // A stage that counts nothing (a lint) still counts when it fails.
    let failed = sum(|tally| tally.failed).max(broken.len() as u64);
    println!("{} passed, {failed} failed", sum(|tally| tally.passed));
    if broken.is_empty() && failed == 0 {
        return Ok(());
    }
    let names: Vec<&str> = broken.iter().map(|outcome| outcome.stage.name).collect();
    bail!("failed stages: {}", names.join(", "))
}

/// Runs a stage, its output passed on while it is read.
fn execute(stage: &'static Stage) -> Result<Outcome> {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut command = command(stage)?;
    // One pipe for both, so that lines stay in their order.
    let (output, input) = std::io::pipe().context("no pipe")?;
    let mut child = command
        .env("ASHLAR_COMMIT", commit())
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("no pipe")?)
        .stderr(input)
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    // Else its ends of the pipe stay open here, and the reading never ends.
    drop(command);
    let speaker = if stage.runs == Runs::Beside { format!("{}: ", stage.name) } else { String::new() };
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("unreadable output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{speaker}{line}");
        tally.read(&line);
    }
    let is_good = child.wait()?.success();
    let took = began.elapsed();
    println!("    {}: {} ({})", stage.name, if is_good { "ok" } else { "FAILED" }, human(took));
    if !is_good {
        tally.read(&format!("afterwards {}", room()));
    }
    Ok(Outcome { stage, took, is_good, tally })
}

fn command(stage: &Stage) -> Result<Command> {
    let [program, arguments @ ..] = stage.command else { bail!("stage {} has no command", stage.name) };
    let mut command = if *program == "cargo" { cargo() } else { Command::new(program) };
    command.args(arguments);
    if stage.runs != Runs::Beside {
        return Ok(command);
    }
    // Linux shares processors between sessions first (sched(7), "The autogroup feature"): a nice value counts only
    // within one.
    let mut low = Command::new("setsid");
    low.args([
        "--wait",
        "sh",
        "-c",
        r#"echo 19 2>/dev/null >/proc/self/autogroup; exec nice -n 19 "$@""#,
        "low",
    ]);
    low.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => low.env(name, value),
            None => low.env_remove(name),
        };
    }
    Ok(low)
}

/// What is free where builds, labs and images are: a full disk has many faces.
fn room() -> String {
    let free = |path: &str| {
        let fs = nix::sys::statvfs::statvfs(path).ok()?;
        Some((fs.blocks_available() * fs.fragment_size()) >> 30)
    };
    let rooms = [".", "/var/lib", "/var/cache", "/tmp"].map(|path| (path, free(path)));
    let told = rooms.map(|(path, gib)| gib.map_or(String::new(), |gib| format!("{path} {gib}")));
    format!("GiB free: {}", told.join(", "))
}

fn human(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}
