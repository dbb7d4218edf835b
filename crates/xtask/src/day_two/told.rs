//! What is told, put right or left alone, and for which nobody is replaced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::fleet::{Fleet, PATIENCE_S};
use super::seconds;
use crate::e2e::context::wait_for;
use crate::hosts;
use crate::nodes;

/// Kubelets look at their files every 20 s, the daemon every 30 s; a lease is silent a minute after it was last renewed.
const TOLD_DEADLINE: Duration = Duration::from_secs(6 * 60);
/// A quiet daemon reads a definition of which libvirt says nothing at least every tenth pass.
const HEALED_DEADLINE: Duration = Duration::from_secs(8 * 60);
/// Three times the patience, and whoever was to be replaced would be.
const NOBODY_REPLACED: Duration = Duration::from_secs(3 * PATIENCE_S as u64);

const MANIFESTS: &str = "/etc/kubernetes/manifests";
const TAINT: &str = "node-role.kubernetes.io/control-plane";

/// A scheduler that is gone, and a kubelet that nobody calls silent because no controller manager works.
pub(super) fn ailing(fleet: &mut Fleet) -> Result<()> {
    let (control_plane, worker) = (fleet.control_plane()?, fleet.worker(true)?);
    let (before, boot) = (fleet.workers()?, fleet.boot_id(&worker)?);

    take(fleet, &control_plane, "kube-scheduler")?;
    let told = until_told(fleet, &control_plane, "Healthy", Some("StaticPodNotReady"))?;
    give_back(fleet, &control_plane, "kube-scheduler")?;
    let forgotten = until_told(fleet, &control_plane, "Healthy", None)?;
    println!(
        "test-day-two ailing figures: a scheduler that is gone told after {}, and no more {} after it was back",
        seconds(told),
        seconds(forgotten)
    );

    take(fleet, &control_plane, "kube-controller-manager")?;
    until_told(fleet, &control_plane, "Healthy", Some("StaticPodNotReady"))?;
    fleet.inside(&worker, "systemctl stop kubelet")?;
    let told = until_told(fleet, &worker.name, "Healthy", Some("KubeletSilent"))?;
    ensure!(
        fleet.is_ready(&worker.name),
        "no controller manager runs, and somebody called the node not Ready"
    );
    std::thread::sleep(NOBODY_REPLACED);
    // Whoever looks once cannot tell a silent kubelet: the plan says so, and the daemon what it waits for.
    let plan = fleet.context.ok(fleet.context.command(&["plan"]))?;
    ensure!(plan.contains("its kubelet was silent from"), "the plan does not tell of the kubelet:\n{plan}");
    let log = std::fs::read_to_string(&fleet.log)?;
    let waits = |line: &str| line.contains(&worker.name) && line.contains("NoControllers");
    ensure!(log.lines().any(waits), "the daemon does not say what it waits for");
    ensure!(fleet.workers()? == before, "a worker was replaced: {:?}", fleet.workers()?);
    fleet.inside(&worker, "systemctl start kubelet")?;
    let forgotten = until_told(fleet, &worker.name, "Healthy", None)?;
    give_back(fleet, &control_plane, "kube-controller-manager")?;
    until_told(fleet, &control_plane, "Healthy", None)?;
    ensure!(fleet.workers()? == before, "a worker was replaced: {:?}", fleet.workers()?);
    ensure!(fleet.boot_id(&worker)? == boot, "{} was started again", worker.name);
    println!(
        "test-day-two ailing figures: a kubelet silent beside no controller manager told after {}, and no more {} after it ran \
         again; nobody was replaced",
        seconds(told),
        seconds(forgotten)
    );
    Ok(())
}

/// A taint that somebody takes away, a definition that is edited, and one that is removed under its QEMU: put right, and no guest
/// notices.
pub(super) fn drifted(fleet: &mut Fleet) -> Result<()> {
    let (control_plane, worker) = (fleet.control_plane()?, fleet.worker(true)?);
    let boot = fleet.boot_id(&worker)?;
    let pid = hosts::qemu_pid(&mut fleet.context, &worker.host, &worker.name)?;
    let moment = Instant::now();
    fleet.context.kubectl(&["taint", "node", &control_plane, &format!("{TAINT}:NoSchedule-")])?;
    wait_for("the taint is back", HEALED_DEADLINE, || {
        std::thread::sleep(Duration::from_millis(500));
        let path = "jsonpath={.spec.taints[*].key}";
        let taints = fleet.context.kubectl(&["get", "node", &control_plane, "-o", path])?;
        Ok(taints.split_whitespace().any(|key| key == TAINT))
    })?;
    println!(
        "test-day-two drifted figures: a control plane's taint is back after {}",
        seconds(moment.elapsed())
    );

    let virsh = "virsh -q -c qemu:///system";
    let declared = definition(fleet, &worker.host, &worker.name)?;
    let edit = format!(
        "{virsh} dumpxml --inactive {name} | sed 's,<vcpu\\([^>]*\\)>[0-9]*<,<vcpu\\1>1<,; /<topology/d' >/run/edited.xml && \
         {virsh} define /run/edited.xml && rm /run/edited.xml",
        name = worker.name
    );
    let moment = Instant::now();
    fleet.context.on(&worker.host, &["sh", "-c", &edit])?;
    ensure!(definition(fleet, &worker.host, &worker.name)? != declared, "the definition was not edited");
    wait_for("the definition is as it was", HEALED_DEADLINE, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(definition(fleet, &worker.host, &worker.name)? == declared)
    })?;
    println!(
        "test-day-two drifted figures: a worker's definition is as it was after {}",
        seconds(moment.elapsed())
    );

    let moment = Instant::now();
    fleet.context.on(&worker.host, &["sh", "-c", &format!("{virsh} undefine {}", worker.name)])?;
    wait_for("it is defined again", HEALED_DEADLINE, || {
        std::thread::sleep(Duration::from_millis(200));
        let defined = format!("{virsh} list --persistent --name");
        let defined = fleet.context.on(&worker.host, &["sh", "-c", &defined])?;
        Ok(defined.lines().any(|name| name == worker.name))
    })?;
    println!(
        "test-day-two drifted figures: a definition that was removed is there again after {}",
        seconds(moment.elapsed())
    );
    ensure!(
        definition(fleet, &worker.host, &worker.name)? == declared,
        "it was defined otherwise than before"
    );
    ensure!(hosts::qemu_pid(&mut fleet.context, &worker.host, &worker.name)? == pid, "QEMU was restarted");
    ensure!(fleet.boot_id(&worker)? == boot, "{} was booted anew", worker.name);
    Ok(())
}

/// A definition's lines, sorted: libvirt writes controllers in another order when a definition is made anew.
fn definition(fleet: &mut Fleet, host: &str, domain: &str) -> Result<Vec<String>> {
    let xml = ["virsh", "-q", "-c", "qemu:///system", "dumpxml", "--inactive", domain];
    let mut lines: Vec<String> = fleet.context.on(host, &xml)?.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

fn take(fleet: &mut Fleet, control_plane: &str, pod: &str) -> Result<()> {
    let program = format!("mv {MANIFESTS}/{pod}.yaml /root/{pod}.taken");
    nodes::inside(&mut fleet.context, control_plane, &program).map(drop)
}

fn give_back(fleet: &mut Fleet, control_plane: &str, pod: &str) -> Result<()> {
    let program = format!("mv /root/{pod}.taken {MANIFESTS}/{pod}.yaml");
    nodes::inside(&mut fleet.context, control_plane, &program).map(drop)
}

/// Waits until a machine's condition gives this reason, or there is no such condition; how long that took.
fn until_told(fleet: &mut Fleet, machine: &str, kind: &str, reason: Option<&str>) -> Result<Duration> {
    let moment = Instant::now();
    wait_for(&format!("machine {machine}, condition {kind}: {reason:?}"), TOLD_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(1));
        let machine = fleet.context.json(&["get", "machine", machine])?;
        let conditions = machine.pointer("/status/conditions").and_then(Value::as_array);
        let conditions = conditions.context("a machine without conditions")?;
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        Ok(found.and_then(|condition| condition["reason"].as_str()) == reason)
    })?;
    Ok(moment.elapsed())
}
