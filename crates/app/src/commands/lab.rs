//! `ashlar lab`: a pool of hosts out of this machine.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ashlar_lab::{DEFAULT_NAME, DaemonState, Lab, LabStatus, Place, Power};

use crate::cli::{LabCommand, LabNameArgs, OutputFormat, PlaceArgs, PowerChange};
use crate::commands::get::print_value;
use crate::confirm::confirm;
use crate::failure::{Context, Exit, Failure, Result};
use crate::output::{Table, elapsed, plural};
use crate::settings::Settings;

/// Runs a lab command.
pub(crate) fn lab(settings: &Settings, command: LabCommand) -> Result {
    match command {
        LabCommand::Up { lab, hosts } => up(settings, &find(settings, &lab)?, hosts),
        LabCommand::Down { lab, yes } => {
            let lab = find(settings, &lab)?;
            if lab.description()?.is_some() {
                let what = format!("lab {}: its virtual machines, disks and store", lab.name());
                confirm(settings, yes, &[what])?;
            }
            down(settings, &lab)
        }
        LabCommand::Status(lab) => status(settings, &find(settings, &lab)?),
        LabCommand::Power { what, lab, host } => power(settings, &find(settings, &lab)?, what, &host),
        LabCommand::Shell { lab, place } => enter(&find(settings, &lab)?, place, &[]),
        LabCommand::Exec { lab, place, command } => enter(&find(settings, &lab)?, place, &command),
    }
}

fn find(settings: &Settings, args: &LabNameArgs) -> Result<Lab> {
    let name = args.name.as_deref().or(settings.lab.as_deref()).unwrap_or(DEFAULT_NAME);
    Ok(Lab::new(name)?)
}

/// Brings a lab up.
pub(crate) fn up(settings: &Settings, lab: &Lab, hosts: u16) -> Result {
    let report = lab
        .up(hosts, &|line| settings.printer.note(line))
        .hint("`ashlar setup` installs what a lab needs")?;
    let count = plural(report.description.hosts.len(), "host");
    let name = lab.name();
    if report.changes.is_empty() {
        settings
            .printer
            .note(format!("lab {name} is up with {count}; nothing to do ({})", elapsed(report.elapsed)));
    } else {
        settings.printer.note(format!("lab {name} is up with {count} ({})", elapsed(report.elapsed)));
    }
    Ok(Exit::Success)
}

/// Takes a lab down.
pub(crate) fn down(settings: &Settings, lab: &Lab) -> Result {
    let report = lab.down(&|line| settings.printer.note(line))?;
    let name = lab.name();
    if report.changes.is_empty() {
        settings.printer.note(format!("there is no lab {name}; nothing to do"));
    } else {
        settings.printer.note(format!("lab {name} is gone ({})", elapsed(report.elapsed)));
    }
    Ok(Exit::Success)
}

fn power(settings: &Settings, lab: &Lab, what: PowerChange, host: &str) -> Result {
    lab.description()?.ok_or_else(|| no_such_lab(lab.name()))?;
    let said = match what {
        PowerChange::On => lab.power_on(host).map(|()| "is on; its virtual machines stay off"),
        PowerChange::Off => lab.power_off(host).map(|()| "is off"),
        PowerChange::Freeze => lab.freeze(host).map(|()| "is frozen"),
        PowerChange::Thaw => lab.thaw(host).map(|()| "goes on"),
    }?;
    settings.printer.note(format!("host {host} of lab {} {said}", lab.name()));
    Ok(Exit::Success)
}

fn status(settings: &Settings, lab: &Lab) -> Result {
    let status = lab.status()?;
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        return print_value(settings, &serde_json::to_value(&status)?);
    }
    let done = table(settings, &status)?;
    let name = lab.name();
    if !status.exists {
        settings.printer.note(format!("there is no lab {name}; `ashlar lab up {name}` makes it"));
        if !status.namespaces.is_empty() {
            settings.printer.warn(format!(
                "something of it is left ({}): `ashlar lab down {name}` removes it",
                status.namespaces.join(", ")
            ));
        }
        return Ok(Exit::Failure);
    }
    if !status.is_complete() {
        settings.printer.note(format!("not complete: `ashlar lab up {name}` starts what is missing"));
        return Ok(Exit::Failure);
    }
    Ok(done)
}

fn table(settings: &Settings, status: &LabStatus) -> Result {
    let mut table = Table::new(vec!["HOST", "POWER", "DAEMONS", "LINKS", "DOMAINS", "PROCESSES", "DISK"]);
    for host in &status.hosts {
        let troubled: Vec<String> = host
            .daemons
            .iter()
            .filter(|daemon| daemon.state != DaemonState::Running)
            .map(|daemon| format!("{:?} {:?}", daemon.daemon, daemon.state).to_lowercase())
            .collect();
        let link = |up: bool| if up { "up" } else { "cut" };
        table.push(vec![
            host.name.clone(),
            if host.power == Power::On { "on".to_owned() } else { "off".to_owned() },
            if troubled.is_empty() { "running".to_owned() } else { troubled.join(", ") },
            format!("management {}, nodes {}", link(host.management_link), link(host.node_link)),
            if host.domains.is_empty() { "-".to_owned() } else { host.domains.join(",") },
            host.processes.to_string(),
            format!("{} MiB", host.disk_bytes / 1024 / 1024),
        ]);
    }
    if table.is_empty() {
        return Ok(Exit::Success);
    }
    settings.printer.data(|out| table.write(out, 0))
}

fn enter(lab: &Lab, place: PlaceArgs, command: &[OsString]) -> Result {
    let place = match place.host.as_deref() {
        None | Some("control") => Place::Control,
        Some("switch") => Place::Switch,
        Some(host) => Place::Host(host.to_owned()),
    };
    match lab.exec(&place, command)? {}
}

/// Goes on inside the lab's control namespace: the hosts are reached from nowhere else. Returns where this process is
/// inside already; otherwise it becomes the same command there.
pub(crate) fn enter_control(lab: &str) -> Result<()> {
    let lab = Lab::new(lab)?;
    let description = lab.description()?.ok_or_else(|| no_such_lab(lab.name()))?;
    if is_inside(&description.control_namespace) {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find the ashlar program itself")?;
    let mut command = vec![program.into_os_string()];
    command.extend(std::env::args_os().skip(1));
    match lab.exec(&Place::Control, &command)? {}
}

/// The failure for a lab that is not there.
pub(crate) fn no_such_lab(name: &str) -> Failure {
    Failure::new(format!("there is no lab {name}")).hint(format!("`ashlar lab up {name}` makes it"))
}

fn is_inside(namespace: &str) -> bool {
    let inode = |path: &Path| path.metadata().ok().map(|meta| meta.ino());
    let own = inode(Path::new("/proc/self/ns/net"));
    own.is_some() && own == inode(&Path::new("/run/netns").join(namespace))
}
