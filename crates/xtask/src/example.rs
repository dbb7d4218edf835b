//! `cargo xtask test-example`: what the README says of a pool of three, typed in as it stands there.
//!
//! Where the machines land is decided before the first one boots, so that it takes a minute and no kubeadm. Whether such
//! a cluster comes up is another test: `make test-ha`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::e2e::context::{Context, wait_for};
use crate::hosts;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
/// An image is sent before the first machine starts.
const DEADLINE: Duration = Duration::from_secs(300);

/// `cargo xtask test-example`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/debug/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab
    #[arg(long, default_value = "example")]
    name: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut context = Context::new(&options.ashlar, &options.name)?;
    println!("e2e example: the pool of the README lands on three hosts as the rules say");
    let outcome = play(&mut context);
    if outcome.is_err() {
        context.keep_evidence("example");
    }
    context.take_lab_down()?;
    let took = begin.elapsed().as_secs_f64();
    match &outcome {
        Ok(()) => println!("e2e example: ok ({took:.1} s)"),
        Err(error) => println!("e2e example: FAILED ({took:.1} s): {error:#}"),
    }
    outcome
}

fn play(context: &mut Context) -> Result<()> {
    let manifest = example(&fs::read_to_string("README.md").context("run it in the workspace's root")?)?;
    let version = manifest.split("kubernetesVersion: ").nth(1).and_then(|rest| rest.lines().next());
    let version = version.context("the example names no version")?.trim().to_owned();
    hosts::fresh_lab(context, HOSTS.len())?;
    let image = hosts::node_images(context)?.into_iter().find(|image| image.kubernetes == version);
    let image =
        image.with_context(|| format!("the cache has no image of {version}; `ashlar image build`"))?;
    context.ok(context.command(&["image", "register", &image.name]))?;
    let file = env::temp_dir().join(format!("ashlar-example-{}.yaml", process::id()));
    fs::write(&file, manifest)?;
    let outcome = land(context, &file);
    fs::remove_file(&file)?;
    outcome
}

/// The YAML of the README with three control planes.
fn example(readme: &str) -> Result<String> {
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let found: Vec<&str> = blocks.filter(|block| block.contains("controlPlane: {replicas: 3")).collect();
    ensure!(found.len() == 1, "the README has {} examples with three control planes", found.len());
    Ok(found[0].to_owned())
}

fn land(context: &mut Context, manifest: &Path) -> Result<()> {
    let apply = context.command(&["apply", "-f", &manifest.to_string_lossy()]);
    let log = env::temp_dir().join(format!("ashlar-example-{}.log", process::id()));
    let mut apply = context.spawn(apply, &log)?;
    let started = wait_for("the first control plane starts on the host that was chosen", DEADLINE, || {
        let told = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(apply.try_wait()?.is_none(), "apply ended:\n{}", told());
        first_runs(context)
    });
    // One who changes his mind: Ctrl-C, and then delete. It may have ended by itself: then `started` says what it said.
    if apply.try_wait()?.is_none() {
        kill(Pid::from_raw(apply.id().try_into()?), Signal::SIGINT)?;
    }
    apply.wait()?;
    started?;
    fs::remove_file(&log)?;
    let machines = machines(context)?;
    ensure!(machines.len() == 6, "{} machines, not 6: {machines:?}", machines.len());
    for role in ["-ctrl-", "-wkr-"] {
        let of_role = machines.iter().filter(|(name, _)| name.contains(role));
        let on: BTreeSet<&str> = of_role.map(|(_, host)| host.as_str()).collect();
        ensure!(on == BTreeSet::from(HOSTS), "prod{role}*: on {on:?}, not one on each host");
    }
    for (name, host) in &machines {
        let why = context.ok(context.command(&["explain", "machine", name]))?;
        ensure!(HOSTS.iter().all(|host| why.contains(host)), "{name}: a host is not spoken of:\n{why}");
        println!("e2e example: {name} on {host}");
    }
    context.ok(context.command(&["cluster", "delete", "prod", "--yes"]))?;
    for host in HOSTS {
        let left = context.domains_on(host)?;
        ensure!(left.is_empty(), "left on {host}: {left:?}");
    }
    Ok(())
}

/// Judged by libvirt of the host that the store names, and by no other's.
fn first_runs(context: &mut Context) -> Result<bool> {
    let machines = machines(context)?;
    let Some((_, chosen)) = machines.iter().find(|(name, _)| name == "prod-ctrl-1") else { return Ok(false) };
    for host in HOSTS {
        let there = context.domains_on(host)?.iter().any(|domain| domain == "prod-ctrl-1");
        ensure!(!there || host == chosen, "prod-ctrl-1 is on {host}, although {chosen} was chosen");
        if there {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names and hosts of all machines.
fn machines(context: &mut Context) -> Result<Vec<(String, String)>> {
    let list = context.json(&["get", "machines"])?;
    let text = |machine: &Value, pointer: &str| {
        machine.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items.map(|machine| (text(machine, "/metadata/name"), text(machine, "/spec/host"))).collect())
}
