//! `ashlar host list`: what hosts offer, what is claimed, what is free, and what would still fit.

use ashlar_api::{ConditionStatus, Host, HugepageSize, Mebibytes};
use ashlar_engine::Scope;
use ashlar_plan::place::{HostSummary, summary};

use crate::cli::{GetArgs, OutputFormat};
use crate::commands::get;
use crate::failure::{Exit, Result};
use crate::output::Table;
use crate::settings::Settings;
use crate::wiring::Session;

const COLUMNS: [&str; 8] =
    ["NAME", "STATUS", "MACHINES", "VCPUS", "VCPUS-FREE", "MEMORY", "MEMORY-FREE", "DISK-FREE"];
const MORE: [&str; 6] = ["ZONE", "RACK", "FENCING", "DEDICATED-FREE", "HUGEPAGES-FREE", "WOULD-FIT"];

/// Lists hosts. JSON, YAML and names are those of `ashlar get hosts`.
pub(super) fn list(settings: &Settings) -> Result {
    if !matches!(settings.output, OutputFormat::Table | OutputFormat::Wide) {
        let args = GetArgs {
            kinds: "hosts".to_owned(),
            names: Vec::new(),
            selector: None,
            all_namespaces: false,
            no_headers: false,
        };
        return get::get(settings, &args);
    }
    let is_wide = settings.output == OutputFormat::Wide;
    let session = Session::open_offline(settings)?;
    let snapshot = session.block_on(async { Ok(session.engine.snapshot(&Scope::StoreOnly).await?) })?;
    session.progress.finish();
    if snapshot.hosts.is_empty() {
        settings.printer.note("no hosts: enrol one with `ashlar host add`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(COLUMNS.into_iter().chain(MORE.into_iter().filter(|_| is_wide)).collect());
    for room in summary(&snapshot) {
        let mut cells = cells(&room, snapshot.hosts.get(&room.host).map_or_else(String::new, status));
        if is_wide {
            let host = snapshot.hosts.get(&room.host);
            let named = |name: Option<&String>| match name {
                Some(name) if !name.is_empty() => name.clone(),
                _ => "-".to_owned(),
            };
            cells.push(named(host.map(|host| &host.spec.zone)));
            cells.push(named(host.map(|host| &host.spec.rack)));
            cells.push(host.map_or_else(String::new, fencing));
            cells.extend(wide_cells(&room));
        }
        table.push(cells);
    }
    settings.printer.data(|out| table.write(out, 0))
}

/// As `ashlar get hosts` has it.
fn status(host: &Host) -> String {
    let ready = host.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let mut text = match ready {
        Some(ready) if ready.status == ConditionStatus::True => "Ready".to_owned(),
        Some(ready) => ready.reason.clone(),
        None if host.record.capacity.is_some() => "Enrolled".to_owned(),
        None => "NotEnrolled".to_owned(),
    };
    if host.metadata.is_deleting() {
        text = "Removing".to_owned();
    }
    if host.spec.draining {
        text.push_str(",Draining");
    } else if host.spec.cordoned {
        text.push_str(",Cordoned");
    }
    text
}

/// Who turns it off, and after how long by itself.
fn fencing(host: &Host) -> String {
    match &host.spec.fencing {
        None => "-".to_owned(),
        Some(fencing) => match fencing.after_s {
            Some(after_s) => format!("{fencing} after {after_s}s"),
            None => fencing.to_string(),
        },
    }
}

fn mib(amount: i64) -> Mebibytes {
    Mebibytes(u64::try_from(amount).unwrap_or_default())
}

fn cells(room: &HostSummary, status: String) -> Vec<String> {
    let (offer, free) = (&room.offer, &room.free);
    let disks: i64 = free.pools.iter().flatten().map(|pool| pool.capacity_mib.max(0)).sum();
    vec![
        room.host.clone(),
        status,
        room.machines.to_string(),
        format!("{}/{}", offer.vcpus - free.vcpus, offer.vcpus),
        free.vcpus.max(0).to_string(),
        format!("{}/{}", mib(offer.memory_mib - free.memory_mib), mib(offer.memory_mib)),
        mib(free.memory_mib).to_string(),
        format!("{}Gi", disks / 1024),
    ]
}

fn wide_cells(room: &HostSummary) -> Vec<String> {
    let dedicated =
        |room: &ashlar_plan::place::Room| room.nodes.iter().map(|node| node.dedicated.max(0)).sum::<i64>();
    let huge: Vec<String> = HugepageSize::ALL
        .into_iter()
        .enumerate()
        .filter_map(|(index, size)| {
            let sum = |room: &ashlar_plan::place::Room| -> i64 {
                room.nodes.iter().map(|node| node.huge_mib[index].max(0)).sum()
            };
            (sum(&room.offer) > 0)
                .then(|| format!("{}/{} of {size}", mib(sum(&room.free)), mib(sum(&room.offer))))
        })
        .collect();
    let fits: Vec<String> = room
        .classes
        .iter()
        .filter(|class| class.count > 0)
        .map(|class| format!("{}×{}", class.count, class.class))
        .collect();
    vec![
        match dedicated(&room.offer) {
            0 => "-".to_owned(),
            all => format!("{}/{all}", dedicated(&room.free)),
        },
        if huge.is_empty() { "-".to_owned() } else { huge.join(",") },
        if fits.is_empty() { "nothing".to_owned() } else { fits.join(",") },
    ]
}
