//! What the figures depend on: the machine, and the versions of everything that takes part.

use std::fs;
use std::process::Command;

use super::program::Program;

/// Prints the machine and the versions.
pub(super) fn print(ashlar: &Program) {
    print_machine();
    let commit = commit();
    println!(
        "ashlar    {} ({}), {}",
        first_line(&mut ashlar.command(&["version"])),
        commit,
        ashlar.path().display()
    );
    println!("{}", libvirt());
}

/// What Ashlar is compared with on a host.
pub(super) fn libvirt() -> String {
    format!(
        "beside    virsh {}, {}",
        first_line(Command::new("virsh").arg("--version")),
        first_line(Command::new("qemu-system-x86_64").arg("--version")),
    )
}

fn commit() -> String {
    first_line(Command::new("git").args(["describe", "--always", "--dirty"]))
}

/// Prints the machine, and what was built from what by which compiler.
pub(super) fn print_machine() {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    println!(
        "machine   {cores} cores ({cpu}), {} MiB, Linux {}",
        memory_kib / 1024,
        read("/proc/sys/kernel/osrelease")
    );
    println!(
        "load      {} (1, 5, 15 minutes) at the start",
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
    println!("built     {}, {}", commit(), first_line(Command::new("rustc").arg("--version")));
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first line that a program prints.
pub(super) fn first_line(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| "not there".to_owned(), |line| line.trim().to_owned())
}
