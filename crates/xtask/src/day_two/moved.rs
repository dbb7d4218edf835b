//! A host that is emptied while what runs there goes on: its machines move alive.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::{Fleet, PING_LOG, Worker};
use super::seconds;
use crate::e2e::context::wait_for;
use crate::writer::Writer;

/// Memory and disks of one machine, on a machine with two busy processors.
const MOVE_TIMEOUT: &str = "30m";
/// A ping every so often.
const PERIOD_MS: u32 = 200;

/// The only control plane and the workers beside it: the same guests all the while, no pod asked to go, writes to the API go on.
pub(super) fn drained(fleet: &mut Fleet) -> Result<()> {
    let (from, before) = (fleet.safe_host.clone(), fleet.workers()?);
    let pinged = fleet.worker(true)?;
    let is_other = |other: &&Worker| other.name != pinged.name;
    let elsewhere = before.iter().filter(is_other).find(|other| other.host != from);
    let pinger = elsewhere.or_else(|| before.iter().find(is_other)).context("there is no other worker")?;
    let boots: Vec<String> = before.iter().map(|worker| fleet.boot_id(worker)).collect::<Result<_>>()?;
    let domains = fleet.context.domains_on(&from)?;
    let address = fleet.address(&pinged.name)?;
    fleet.ping(pinger, &address, PERIOD_MS)?;
    wait_for("the ping is heard", Duration::from_secs(60), || Ok(answers(fleet, pinger)?.len() > 5))?;
    let mut writer = Writer::start(fleet.context.kubectl_maker(&fleet.context.name));
    wait_for("writes before it", Duration::from_secs(120), || Ok(writer.count() > 5))?;

    let begin = Instant::now();
    let drain = fleet.context.command(&["--timeout", MOVE_TIMEOUT, "host", "drain", &from, "--yes"]);
    fleet.context.ok(drain)?;
    let took = begin.elapsed();

    let (heard, written) = (answers(fleet, pinger)?.len(), writer.count());
    wait_for("writes after it", Duration::from_secs(300), || Ok(writer.count() > written + 5))?;
    wait_for("the ping is heard after it", Duration::from_secs(60), || {
        Ok(answers(fleet, pinger)?.len() > heard + 20)
    })?;
    writer.finish();
    let heard = answers(fleet, pinger)?;
    fleet.inside(pinger, "pkill -x ping || true")?;
    let (sent, longest) = losses(&heard);
    println!(
        "test-day-two drained figures: {from} with {} machines empty after {}; ping every {PERIOD_MS} ms: {} of {sent} lost, longest \
         silence {}; writes: longest pause {}, {} attempts failed",
        domains.len(),
        seconds(took),
        sent - heard.len(),
        seconds(longest),
        seconds(writer.longest_pause()),
        writer.failures().len()
    );
    let left = fleet.context.domains_on(&from)?;
    ensure!(left.is_empty(), "left on {from}: {left:?}");
    let after = fleet.workers()?;
    for (worker, boot) in before.iter().zip(&boots) {
        let now = after.iter().find(|now| now.name == worker.name);
        let now = now.with_context(|| format!("{} was replaced: {after:?}", worker.name))?;
        ensure!(now.host != from, "{} is recorded on {from}", now.name);
        ensure!(fleet.domain(now)?.1 == "running", "{} does not run on {}", now.name, now.host);
        ensure!(fleet.boot_id(now)? == *boot, "{} was booted anew", now.name);
        ensure!(fleet.is_ready(&now.name), "the node of {} is not Ready", now.name);
    }
    let cluster = fleet.context.name.clone();
    writer.judge(&mut fleet.context, &cluster)?;
    fleet.context.ok(fleet.context.command(&["host", "uncordon", &from])).context("uncordon").map(drop)
}

/// Sequence numbers that were answered, with the moments (`ping -D`).
fn answers(fleet: &mut Fleet, pinger: &Worker) -> Result<Vec<(usize, f64)>> {
    let text = fleet.inside(pinger, &format!("cat {PING_LOG}"))?;
    let answers = text
        .lines()
        .filter_map(|line| {
            let at = line.strip_prefix('[')?.split_once(']')?.0.parse().ok()?;
            let number = line.split_once("icmp_seq=")?.1.split_whitespace().next()?.parse().ok()?;
            line.contains("time=").then_some((number, at))
        })
        .collect();
    Ok(answers)
}

/// How many were sent until the last answer, and the longest time without one.
fn losses(answers: &[(usize, f64)]) -> (usize, Duration) {
    let sent = answers.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let silences = answers.windows(2).map(|pair| pair[1].1 - pair[0].1);
    let longest = silences.fold(0.0, f64::max);
    (sent, Duration::from_secs_f64(longest.max(0.0)))
}
