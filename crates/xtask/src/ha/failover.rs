//! QEMU of the machine that holds the API's address is killed, and the clock runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::scene::Scene;
use crate::e2e::context::wait_for;
use crate::hosts;
use crate::writer::Writer;

/// Until the address answers somewhere else. By hand it was 44 s for a write, on two emulated cores.
const MOVE_DEADLINE: Duration = Duration::from_secs(240);

/// What was measured.
pub(super) struct Told {
    /// Machine and host.
    pub(super) killed: (String, String),
    new_holder: (String, String),
    moved: Duration,
    answered: Duration,
    wrote: Duration,
    pause: Duration,
    pub(super) writer: Writer,
}

impl Told {
    pub(super) fn print(&self) {
        let seconds = |duration: &Duration| format!("{:.1} s", duration.as_secs_f64());
        println!("test-ha figures: QEMU of {} on {} killed with -9", self.killed.0, self.killed.1);
        println!(
            "test-ha figures: address at {} on {} after {}",
            self.new_holder.0,
            self.new_holder.1,
            seconds(&self.moved)
        );
        println!("test-ha figures: its port 6443 answers after {}", seconds(&self.answered));
        println!("test-ha figures: first write acknowledged after {}", seconds(&self.wrote));
        println!("test-ha figures: longest pause of the writer {}", seconds(&self.pause));
    }
}

/// Kills it while a writer writes, and waits until everything goes on.
pub(super) fn kill_the_holder(scene: &mut Scene) -> Result<Told> {
    let killed = scene.holder("h1")?.context("nobody holds the API's address")?;
    let (machine, host) = killed.clone();
    // The way to the API must not lead through what is killed; the host itself lives on.
    let watcher = ["h1", "h2", "h3"].into_iter().find(|name| *name != host).context("no other host")?;
    let pid = hosts::qemu_pid(&mut scene.context, &host, &machine)?;
    let mut writer = Writer::start(scene.context.kubectl_maker(&scene.context.name));
    wait_for("the writer is acknowledged", Duration::from_secs(180), || Ok(writer.count() >= 3))?;
    ensure!(scene.holder(watcher)?.as_ref() == Some(&killed), "the address moved by itself before the kill");
    scene.context.on(&host, &["kill", "-9", &pid])?;
    let moment = Instant::now();
    println!("test-ha failover: killed QEMU {pid} of {machine} on {host}");
    let mut new_holder = None;
    wait_for("the API's address is elsewhere", MOVE_DEADLINE, || {
        new_holder = scene.holder(watcher)?.filter(|holder| *holder != killed);
        Ok(new_holder.is_some())
    })?;
    let moved = moment.elapsed();
    let connect = format!("timeout 2 bash -c ': </dev/tcp/{}/6443'", scene.endpoint);
    wait_for("the API's port answers", MOVE_DEADLINE, || {
        Ok(scene.context.on(watcher, &["bash", "-c", &connect]).is_ok())
    })?;
    let answered = moment.elapsed();
    wait_for("a write is acknowledged", MOVE_DEADLINE, || Ok(writer.first_after(moment).is_some()))?;
    let before = writer.count();
    wait_for("writes go on", MOVE_DEADLINE, || Ok(writer.count() >= before + 3))?;
    writer.finish();
    let Some(new_holder) = new_holder else { bail!("the address is nowhere") };
    let wrote = writer.first_after(moment).context("no write after the kill")?;
    let pause = writer.pause_at(moment).context("no write around the kill")?;
    Ok(Told { killed, new_holder, moved, answered, wrote, pause, writer })
}

/// Ashlar says what it is: a machine that should run and is off, in a control plane that lives on without it.
pub(super) fn shown_as_it_is(scene: &mut Scene, (machine, _): &(String, String)) -> Result<()> {
    let output = scene.context.output(scene.context.command(&["plan"]))?;
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = plan.lines().any(|line| line.contains("it should run and is off"));
    ensure!(told && plan.contains(machine.as_str()), "`ashlar plan` does not show {machine} as off:\n{plan}");
    let nodes = scene.context.kubectl(&["get", "node", machine, "-o", "name"])?;
    ensure!(nodes.contains(machine.as_str()), "the node object of {machine} is gone");
    for line in plan.lines().filter(|line| line.contains(machine.as_str()) || line.contains("is off")) {
        println!("test-ha shown: {}", line.trim());
    }
    Ok(())
}
