//! A worker that a person replaces, under an app whose PodDisruptionBudget is in the way at first.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::{Fleet, WORKERS};
use super::seconds;
use crate::app::{self, REPLICAS};
use crate::e2e::context::wait_for;

/// A boot under software emulation, with everything around it.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

pub(super) fn replaced(fleet: &mut Fleet) -> Result<()> {
    let worker = fleet.worker(true)?;
    let before = fleet.workers()?;
    let image = fleet.context.json(&["get", "machine", &worker.name])?;
    let image = image.pointer("/spec/image/name").and_then(serde_json::Value::as_str);
    let image = image.context("a machine without an image")?;
    let app = app::start(&mut fleet.context, &[image], REPLICAS)?;
    let app = app.context("the node image holds no image that an app could run")?;
    let nodes = app::nodes(&mut fleet.context)?;
    ensure!(nodes.contains(&worker.name), "no pod of the app is on {}: {nodes:?}", worker.name);

    let moment = Instant::now();
    let replace = ["--timeout", "30m", "machine", "replace", &worker.name, "--yes"];
    let said = fleet.context.fails(fleet.context.command(&replace), 1)?;
    let refusal = "PodDisruptionBudget default/web never lets one go";
    ensure!(said.contains(refusal), "the command does not say what is in the way: {said}");
    let told = moment.elapsed();
    let plan = fleet.context.ok(fleet.context.command(&["plan"]))?;
    ensure!(plan.contains(refusal), "the plan does not say what is in the way:\n{plan}");
    let now = fleet.workers()?;
    let newcomer = now.iter().find(|worker| !before.contains(worker));
    let newcomer = newcomer.with_context(|| format!("nobody is in its place: {now:?}"))?.clone();
    wait_for("its successor is Ready", DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(fleet.is_ready(&newcomer.name))
    })?;
    let joined = moment.elapsed();
    ensure!(fleet.is_ready(&worker.name), "{} was taken away under its pods", worker.name);
    ensure!(app::nodes(&mut fleet.context)? == nodes, "a pod was moved against its budget");

    // The daemon goes on by itself.
    let moment = Instant::now();
    app.wants(&mut fleet.context, REPLICAS - 1)?;
    fleet.gone(&worker, DEADLINE)?;
    wait_for("there are as many workers as before", DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(fleet.workers()?.len() == WORKERS)
    })?;
    let gone = moment.elapsed();
    let evictions = app.judge(&mut fleet.context)?;
    ensure!(evictions > 0, "no event tells that a pod was evicted");
    app.end(&mut fleet.context)?;
    println!(
        "test-day-two replaced figures: the budget in the way of {} told for good after {}, {} Ready beside it after {}; once it let \
         go, the old one gone after {}; {evictions} events of evictions",
        worker.name,
        seconds(told),
        newcomer.name,
        seconds(joined),
        seconds(gone)
    );
    Ok(())
}
