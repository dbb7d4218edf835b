//! How long a cold `ashlar get` takes on a store of thousands of objects.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use super::facts;
use super::lab::Lab;
use super::process::{Samples, sample};
use super::program::{Program, cargo, output_of};
use super::table::Table;

/// `cargo xtask bench get`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Objects in each store
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Runs of each command, in turn
    #[arg(long, default_value_t = 50)]
    runs: usize,
    /// Binary under test [default: the release build of this tree]
    #[arg(long)]
    ashlar: Option<PathBuf>,
    /// Lab whose libvirtd answers virsh; made for the bench and taken away after it
    #[arg(long, default_value = "bench-get")]
    lab: String,
}

/// What every ratio is taken to.
const YARDSTICK: &str = "virsh list --all";

struct Entry {
    title: String,
    command: Command,
    samples: Samples,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let ashlar = Program::find(options.ashlar.as_deref())?;
    facts::print(&ashlar);
    let directory = tempfile::tempdir()?;
    let lab = Lab::up(&ashlar, &options.lab, 1)?;
    let measured = measure(options, &ashlar, &lab, directory.path());
    let gone = lab.down();
    let entries = measured?;
    gone?;
    print(&entries);
    println!(
        "\nCold processes, warm page cache; wall time from fork to wait, {} runs each, in turn, output thrown away. \
         The host of virsh has no domain.",
        options.runs
    );
    Ok(())
}

fn measure(options: &Options, ashlar: &Program, lab: &Lab, directory: &Path) -> Result<Vec<Entry>> {
    let uri = lab.libvirt_uri()?;
    let mut entries = Vec::new();
    let mut add = |title: &str, command: Command| {
        entries.push(Entry { title: title.to_owned(), command, samples: Samples::default() });
    };
    let virsh = |arguments: &[&str]| {
        let mut command = Command::new("virsh");
        command.args(arguments);
        command
    };
    add(YARDSTICK, virsh(&["-q", "-c", &uri, "list", "--all"]));
    add("virsh --version", virsh(&["--version"]));
    add("ashlar version", ashlar.command(&["version"]));
    for mix in ["mixed", "machines"] {
        let state = directory.join(mix);
        std::fs::create_dir(&state)?;
        let file = state.join("store.db");
        fill(&file, options.objects, mix)?;
        let state = state.to_string_lossy().into_owned();
        let get = |arguments: &[&str]| {
            let mut command = ashlar.command(&["--state-dir", &state, "get"]);
            command.args(arguments);
            command
        };
        let machines = count(get(&["machines", "--no-headers"]))?;
        let hosts = count(get(&["hosts", "--no-headers"]))?;
        ensure!(machines > 0 && hosts > 0, "the {mix} store lists {machines} machines and {hosts} hosts");
        ensure!(
            mix != "machines" || machines == options.objects,
            "{machines} machines are listed of {}",
            options.objects
        );
        let size_kib = std::fs::metadata(&file)?.len() / 1024;
        println!(
            "store     {mix}: {} objects ({machines} machines) and {hosts} hosts, {size_kib} KiB",
            options.objects
        );
        let one = output_of(&mut get(&["machines", "-o", "name"]))?;
        let one = one.lines().nth(machines / 2).unwrap_or_default().to_owned();
        add(&format!("{mix}: ashlar get machines"), get(&["machines"]));
        add(&format!("{mix}: ashlar get machine NAME -o json"), get(&[&one, "-o", "json"]));
        add(&format!("{mix}: ashlar get hosts"), get(&["hosts"]));
    }
    // In turn, so that what else the machine does meets all alike. The first turn fills caches and does not count.
    for turn in 0..=options.runs {
        for entry in &mut entries {
            let sample = sample(&mut entry.command)?;
            if turn > 0 {
                entry.samples.push(sample);
            }
        }
    }
    Ok(entries)
}

fn fill(file: &Path, objects: usize, mix: &str) -> Result<()> {
    let objects = objects.to_string();
    let file = file.to_string_lossy();
    cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "ashlar-store",
        "--example",
        "fill_store",
        "--",
        &file,
        &objects,
        mix,
    ])
    .map(drop)
}

fn count(mut command: Command) -> Result<usize> {
    Ok(output_of(&mut command)?.lines().count())
}

fn print(entries: &[Entry]) {
    let median = |entry: &Entry| entry.samples.figures().map(|figures| figures.median);
    let yardstick = entries.iter().find(|entry| entry.title == YARDSTICK).and_then(median);
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let mut table = Table::new(&["MILLISECONDS", "MIN", "MEDIAN", "MAX", "CPU", "/ VIRSH LIST"]);
    for entry in entries {
        let Some(figures) = entry.samples.figures() else { continue };
        let ratio = yardstick.map(|yardstick| figures.median.as_secs_f64() / yardstick.as_secs_f64());
        table.push(vec![
            entry.title.clone(),
            ms(figures.min),
            ms(figures.median),
            ms(figures.max),
            ms(figures.cpu),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    println!("\n{table}");
}
