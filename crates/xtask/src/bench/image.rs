//! A node image's way to empty hosts: three lab hosts, one after the other the only one that takes new machines. For each:
//! bytes that came over its link, against the image's size, and seconds until a machine that boots the image was started.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::lab::Lab;
use super::program::{Program, output_of};
use super::{facts, pool};

const HOSTS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// The step whose end says that QEMU runs.
const STARTED: &str = "start it; first boot";
const MIB: f64 = 1024.0 * 1024.0;

/// `cargo xtask bench image`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test [default: the release build of this tree]
    #[arg(long)]
    ashlar: Option<PathBuf>,
    /// Node image of the cache [default: the newest one]
    #[arg(long)]
    image: Option<String>,
    /// Name of the lab; one of that name is taken away first
    #[arg(long, default_value = "bench-image")]
    lab: String,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
}

/// What it took to get a machine started on a host.
struct Measured {
    host: String,
    /// Bytes that the host received, and sent.
    received: u64,
    sent: u64,
    /// Until the machine's start.
    started: Duration,
    /// Lines of Ashlar about the image's files.
    lines: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let ashlar = Program::find(options.ashlar.as_deref())?;
    facts::print(&ashlar);
    ashlar.ok(&["lab", "down", &options.lab, "--yes"])?;
    let directory = tempfile::tempdir()?;
    // Keys are made here at first use: those of the developer are not for labs that come and go.
    let ashlar = ashlar.with_env("XDG_CONFIG_HOME", &directory.path().to_string_lossy());
    let manifest = pool::node_image(&ashlar, options.image.as_deref())?;
    let lab = Lab::up(&ashlar, &options.lab, u32::try_from(HOSTS)?)?;
    let measured = measure(&lab, directory.path(), &manifest);
    if options.keep || measured.is_err() {
        println!("lab {} stays up; `ashlar lab down {0}` takes it away", lab.name);
    } else {
        lab.down()?;
    }
    report(&manifest, &measured?);
    Ok(())
}

fn measure(lab: &Lab, directory: &std::path::Path, manifest: &Value) -> Result<Vec<Measured>> {
    let text = |name: &str| manifest[name].as_str().with_context(|| format!("the image has no {name}"));
    let (name, kubernetes) = (text("name")?, text("kubernetesVersion")?);
    println!("image     {name}");
    pool::enrol(lab)?;
    lab.ok(&["image", "register", name])?;
    pool::declare(lab, directory)?;
    let mut measured = Vec::new();
    for index in 0..HOSTS {
        cordon_all_but(lab, directory, index)?;
        let one = first_machine(lab, &format!("h{}", index + 1), kubernetes)?;
        println!("{}: a machine was started after {:.1} s", one.host, one.started.as_secs_f64());
        measured.push(one);
    }
    Ok(measured)
}

/// So that there is no choice where the next machine goes.
fn cordon_all_but(lab: &Lab, directory: &std::path::Path, chosen: usize) -> Result<()> {
    for index in 0..HOSTS {
        let mut host = lab.json(&["get", "host", &format!("h{}", index + 1)])?;
        host["spec"]["cordoned"] = Value::Bool(index != chosen);
        let name = host["metadata"]["name"].clone();
        let object = serde_json::json!({
            "apiVersion": host["apiVersion"], "kind": "Host", "metadata": {"name": name}, "spec": host["spec"],
        });
        let file = directory.join("host.json");
        fs::write(&file, object.to_string())?;
        lab.ok(&["apply", "-f", &file.to_string_lossy(), "--store-only"])?;
    }
    Ok(())
}

/// Begins a cluster, and ends it as soon as its first machine was started.
fn first_machine(lab: &Lab, host: &str, kubernetes: &str) -> Result<Measured> {
    let cluster = format!("image-{host}");
    let before = counters(lab, host)?;
    // The other hosts take nothing: room for the loss of one there is not.
    let mut command = lab.command(&[
        "-v",
        "cluster",
        "create",
        &cluster,
        "--kubernetes",
        kubernetes,
        "--control-plane-class",
        "ctrl",
        "--workers",
        "wkr=0:wkr",
        "--network",
        "lab",
        "--admission",
        "none",
    ]);
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let told = BufReader::new(child.stderr.take().context("no pipe")?);
    let mut lines = Vec::new();
    let mut started = None;
    let mut all = String::new();
    for line in told.lines() {
        let line = line?;
        all += &format!("{line}\n");
        if line.contains(": upload ") || line.contains(" MiB on ") || line.contains("digest on the host") {
            lines.push(line.clone());
        }
        if line.contains(STARTED) && line.contains(": done") {
            started = Some(begin.elapsed());
            break;
        }
        if begin.elapsed() > DEADLINE {
            break;
        }
    }
    let after = counters(lab, host)?;
    // Ctrl-C; the rest of what it says has to be read, or it waits for that.
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    child.wait()?;
    let Some(started) = started else { bail!("no machine was started on {host}\n{all}") };
    let machine = lab.json(&["get", "machine", &format!("{cluster}-ctrl-1")])?;
    ensure!(machine["spec"]["host"] == host, "the machine is on {}, not on {host}", machine["spec"]["host"]);
    lab.ok(&["cluster", "delete", &cluster, "--yes"])?;
    let (received, sent) = (after.0 - before.0, after.1 - before.1);
    Ok(Measured { host: host.to_owned(), received, sent, started, lines })
}

/// Bytes that the host received and sent over the management network: what comes to its SSH server.
fn counters(lab: &Lab, host: &str) -> Result<(u64, u64)> {
    let number: usize = host.trim_start_matches('h').parse()?;
    let address = lab.text(&format!("/hosts/{}/ssh_address", number - 1))?;
    let routes = output_of(&mut lab.on(host, &["ip", "-o", "-4", "addr", "show"]))?;
    let device = routes.lines().find(|line| line.contains(&format!(" {address}/")));
    let device = device.and_then(|line| line.split_whitespace().nth(1));
    let device = device.with_context(|| format!("{host} has no interface with {address}"))?;
    let table = output_of(&mut lab.on(host, &["cat", "/proc/net/dev"]))?;
    let row = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:")));
    let row: Vec<u64> = row
        .with_context(|| format!("no counters of {device}"))?
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let at = |column: usize| row.get(column).copied().context("a short row in /proc/net/dev");
    Ok((at(0)?, at(8)?))
}

fn report(manifest: &Value, measured: &[Measured]) {
    let files = manifest["files"].as_object();
    let size: u64 = files
        .into_iter()
        .flat_map(|files| files.values())
        .filter_map(|file| file.get("sizeBytes").or_else(|| file.get("size_bytes"))?.as_u64())
        .sum();
    println!("image's files: {:.0} MiB", size as f64 / MIB);
    println!(
        "{:<6} {:>12} {:>10} {:>9} {:>22}",
        "HOST", "RECEIVED MiB", "SENT MiB", "OF SIZE", "FIRST MACHINE STARTED"
    );
    for one in measured {
        println!(
            "{:<6} {:>12.1} {:>10.1} {:>8.3}x {:>20.1} s",
            one.host,
            one.received as f64 / MIB,
            one.sent as f64 / MIB,
            one.received as f64 / size.max(1) as f64,
            one.started.as_secs_f64()
        );
    }
    for one in measured {
        println!("{}:", one.host);
        for line in &one.lines {
            println!("  {line}");
        }
    }
}
