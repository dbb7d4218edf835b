//! What happens to the cluster, and what has to come of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::{Fleet, WORKERS, Worker};
use super::seconds;
use crate::e2e::context::wait_for;
use crate::hosts;

/// A boot under software emulation, with everything around it.
const BOOT_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Until the API server says that a kubelet is silent: its own grace time, and a slow machine.
const SILENCE_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Longer than the patience with any ailment: whatever would be done without proof would be done by then.
const WITHOUT_PROOF: Duration = Duration::from_secs(150);

pub(super) fn killed(fleet: &mut Fleet) -> Result<()> {
    let worker = fleet.worker(true)?;
    kill_and_wait(fleet, &worker, "killed").map(drop)
}

/// Whose libvirtd hangs is asked for everything, in every pass: whoever waited for it would be late.
pub(super) fn killed_beside_a_hung_host(fleet: &mut Fleet) -> Result<()> {
    let (worker, other) = (fleet.worker(true)?, fleet.worker(false)?);
    fleet.context.on(&other.host, &["pkill", "-STOP", "-x", "libvirtd"])?;
    let outcome = kill_and_wait(fleet, &worker, "hung");
    fleet.context.on(&other.host, &["pkill", "-CONT", "-x", "libvirtd"])?;
    let started = outcome?;
    ensure!(started < Duration::from_secs(60), "it was started only after {started:?}");
    ensure!(fleet.is_ready(&other.name), "the node of the hung host is not Ready: its VM ran all the time");
    Ok(())
}

/// Kills its QEMU, and waits until the same node is Ready again; how long the domain was off.
fn kill_and_wait(fleet: &mut Fleet, worker: &Worker, stage: &str) -> Result<Duration> {
    let (uuid, _) = fleet.domain(worker)?;
    let boot = fleet.boot_id(worker)?;
    let before = fleet.workers()?;
    let pid = hosts::qemu_pid(&mut fleet.context, &worker.host, &worker.name)?;
    fleet.context.on(&worker.host, &["kill", "-9", &pid])?;
    let moment = Instant::now();
    wait_for("its domain runs again", BOOT_DEADLINE, || {
        Ok(hosts::qemu_pid(&mut fleet.context, &worker.host, &worker.name).is_ok_and(|new| new != pid))
    })?;
    let started = moment.elapsed();
    wait_for("the same node is Ready after another boot", BOOT_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(fleet.is_ready(&worker.name) && fleet.boot_id(worker).is_ok_and(|new| new != boot))
    })?;
    let (after, state) = fleet.domain(worker)?;
    ensure!(uuid == after && state == "running", "another domain has its name: {uuid}, {after}, {state}");
    ensure!(before == fleet.workers()?, "a worker was replaced: {:?}", fleet.workers()?);
    println!(
        "test-day-two {stage} figures: domain started again after {}, node Ready after {}",
        seconds(started),
        seconds(moment.elapsed())
    );
    Ok(started)
}

pub(super) fn corrupted(fleet: &mut Fleet) -> Result<()> {
    let worker = fleet.worker(true)?;
    let before = fleet.workers()?;
    // Behind the file system's back, as a disk does that lies; what runs from memory goes on for a while.
    let spoil = "root=$(findmnt -no SOURCE /); sync; dd if=/dev/zero of=$root bs=1M count=1000 conv=notrunc,fsync 2>&1; echo spoiled";
    let said = fleet.inside(&worker, spoil)?;
    ensure!(said.contains("spoiled"), "the disk was not overwritten: {said}");
    let moment = Instant::now();
    fleet.context.on(&worker.host, &["virsh", "-q", "-c", "qemu:///system", "reset", &worker.name])?;
    // Its lease tells earlier than its node's condition.
    let (newcomer, decided, ready) = fleet.newcomer(&before, BOOT_DEADLINE)?;
    fleet.gone(&worker, BOOT_DEADLINE)?;
    println!(
        "test-day-two corrupted figures: {} on {} recorded in the place of {} after {}, Ready after {}; the old one gone after {}",
        newcomer.name,
        newcomer.host,
        worker.name,
        seconds(decided),
        seconds(ready),
        seconds(moment.elapsed())
    );
    Ok(())
}

/// What the replacements of other stages are measured by.
pub(super) fn plain(fleet: &mut Fleet) -> Result<()> {
    let before = fleet.workers()?;
    let mut more = fleet.scale(WORKERS + 1)?;
    let (newcomer, decided, ready) = fleet.newcomer(&before, BOOT_DEADLINE)?;
    ensure!(more.wait()?.success(), "the command that asked for one worker more failed");
    println!(
        "test-day-two plain figures: one worker more: {} on {} recorded after {}, Ready after {}",
        newcomer.name,
        newcomer.host,
        seconds(decided),
        seconds(ready)
    );
    let mut fewer = fleet.scale(WORKERS)?;
    ensure!(fewer.wait()?.success(), "the command that asked for one worker fewer failed");
    wait_for("there are as many workers as before", BOOT_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(fleet.workers()?.len() == WORKERS)
    })
}

pub(super) fn powerless(fleet: &mut Fleet) -> Result<()> {
    let worker = fleet.worker(false)?;
    let before = fleet.workers()?;
    let (lab, host) = (fleet.context.name.clone(), worker.host.clone());
    let power = |fleet: &mut Fleet, what: &str| {
        fleet.context.ok(fleet.context.outside(&["lab", "power", what, &lab, "--on", &host])).map(drop)
    };
    power(fleet, "freeze")?;
    let moment = Instant::now();
    wait_for("its node is not Ready", SILENCE_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(!fleet.is_ready(&worker.name))
    })?;
    println!(
        "test-day-two powerless figures: host {host} froze, node not Ready after {}",
        seconds(moment.elapsed())
    );
    std::thread::sleep(WITHOUT_PROOF);
    nothing_was_done(fleet, &before, "while its host was frozen")?;
    power(fleet, "off")?;
    std::thread::sleep(WITHOUT_PROOF);
    nothing_was_done(fleet, &before, "while nobody had said that its host is off")?;

    let unproved = fleet.context.command(&["host", "fence", &host]);
    let said = fleet.context.fails(unproved, 1)?;
    ensure!(said.contains("--confirm-powered-off"), "the refusal does not say what would do: {said}");
    let safe_host = fleet.safe_host.clone();
    let alive = fleet.context.command(&["host", "fence", &safe_host, "--confirm-powered-off"]);
    let said = fleet.context.fails(alive, 1)?;
    ensure!(said.contains("answers"), "a host that answers was taken for off: {said}");

    let moment = Instant::now();
    let fence = fleet.context.command(&["--timeout", "20m", "host", "fence", &host, "--confirm-powered-off"]);
    let log = std::env::temp_dir().join(format!("ashlar-test-day-two-fence-{}.log", std::process::id()));
    let mut fence = fleet.context.spawn(fence, &log)?;
    let (newcomer, decided, ready) = fleet.newcomer(&before, BOOT_DEADLINE)?;
    ensure!(newcomer.host == safe_host, "{} is on {}, which is off", newcomer.name, newcomer.host);
    let status = fence.wait()?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    ensure!(status.success(), "host fence: {status}\n{said}");
    println!(
        "test-day-two powerless figures: after the proof {} recorded in {}, Ready in {}, the command done in {}",
        newcomer.name,
        seconds(decided),
        seconds(ready),
        seconds(moment.elapsed())
    );

    power(fleet, "on")?;
    let moment = Instant::now();
    wait_for("what is left of it there is removed", BOOT_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(fleet.context.domains_on(&host).is_ok_and(|domains| domains.is_empty()))
    })?;
    fleet.gone(&worker, BOOT_DEADLINE)?;
    println!(
        "test-day-two powerless figures: what was left there is gone {} after power-on",
        seconds(moment.elapsed())
    );
    let nodes = fleet.context.kubectl(&["get", "nodes", "-o", "name"])?;
    ensure!(nodes.lines().count() == 3, "three nodes are expected: {nodes}");
    fleet.context.ok(fleet.context.command(&["host", "uncordon", &host])).context("uncordon").map(drop)
}

/// No machine came or went, and nothing runs that did not before.
fn nothing_was_done(fleet: &mut Fleet, before: &[Worker], when: &str) -> Result<()> {
    let now = fleet.workers()?;
    ensure!(now == before, "machines were changed {when}: {before:?} became {now:?}");
    let safe_host = fleet.safe_host.clone();
    let domains = fleet.context.domains_on(&safe_host)?;
    let expected = before.iter().filter(|worker| worker.host == safe_host).count() + 1;
    ensure!(domains.len() == expected, "domains on {safe_host} {when}: {domains:?}");
    Ok(())
}
