//! Verdicts on hosts, in sentences with numbers.

use ashlar_api::*;

use super::fleet::Fleet;
use super::packer::{Choice, HostNumber};
use super::request::Request;
use super::room::{Demand, Lack, NodeRoom, Room, huge_index, signed};
use super::rules::refusal;
use crate::draft::Draft;
use crate::report::{Refusal, Verdict};

/// Likes on one host count more than likes in its zone, these more than those in its rack, and all more than the score.
const SAME_HOST: i64 = 10_000_000_000;
const SAME_ZONE: i64 = 100_000_000;
const SAME_RACK: i64 = 1_000_000;

/// The verdict on one host.
pub(super) fn verdict(
    draft: &Draft<'_>,
    fleet: &mut Fleet,
    request: &Request<'_>,
    choice: &Choice,
    host: HostNumber,
) -> Verdict {
    let name = fleet.names[host as usize].clone();
    match judge(draft, fleet, request, choice, host) {
        Err(refused) => Verdict { host: name, refused: Some(refused), score: 0, score_reason: String::new() },
        Ok((score, score_reason)) => Verdict { host: name, refused: None, score, score_reason },
    }
}

fn judge(
    draft: &Draft<'_>,
    fleet: &mut Fleet,
    request: &Request<'_>,
    choice: &Choice,
    host: HostNumber,
) -> Result<(i64, String), Refusal> {
    let shape = {
        let shape = fleet.shape(draft, request);
        if let Some(refused) = shape.refusals.get(host as usize).cloned().flatten() {
            return Err(refused);
        }
        shape.number
    };
    distance(fleet, request, choice, host)?;
    if let Some(refused) = fleet.name_refusal(request, host) {
        return Err(refused);
    }
    let score = fleet
        .packer
        .judge(shape, host)
        .map_err(|lack| lacking(draft, fleet, request, fleet.packer.demand(shape), host, lack))?;
    if choice.guarded
        && let Some(dead) = fleet.packer.who_may_not_die(shape, host)
    {
        return Err(no_room_after_death(fleet, request, host, dead));
    }
    Ok(score_and_reason(fleet, request, choice, host, score))
}

fn distance(fleet: &Fleet, request: &Request<'_>, choice: &Choice, host: HostNumber) -> Result<(), Refusal> {
    let counts = choice.peers.counts(&fleet.packer);
    let (rack, zone) = fleet.packer.place_of(host);
    let cluster = request.cluster.key();
    let (zone_name, rack_name) = &fleet.racks[rack as usize];
    if counts.on_host(host) >= choice.peers.host_limit {
        let message = format!("a control plane of {cluster} is there already");
        return Err(refusal("ControlPlaneSpread", message));
    }
    let limited = |rule: &str, what: &str, name: &str, count: u32, limit: u32| {
        let name = if name.is_empty() { format!("hosts without a {what}") } else { format!("{what} {name}") };
        let message = format!(
            "{count} control plane{} of {cluster} in {name} already; {limit} is as many as it needs, so that they \
             are spread as far as hosts allow",
            if count == 1 { "" } else { "s" }
        );
        Err(refusal(rule, message))
    };
    if counts.in_rack(rack) >= choice.peers.rack_limit {
        return limited("RackSpread", "rack", rack_name, counts.in_rack(rack), choice.peers.rack_limit);
    }
    if counts.in_zone(zone) >= choice.peers.zone_limit {
        return limited("ZoneSpread", "zone", zone_name, counts.in_zone(zone), choice.peers.zone_limit);
    }
    Ok(())
}

fn mib(amount: i64) -> Mebibytes {
    Mebibytes(u64::try_from(amount).unwrap_or_default())
}

fn lacking(
    draft: &Draft<'_>,
    fleet: &Fleet,
    request: &Request<'_>,
    demand: &Demand,
    host: HostNumber,
    lack: Lack,
) -> Refusal {
    let packed = &fleet.packer.hosts()[host as usize];
    let (room, offer) = (&packed.room, &packed.offer);
    let wants = demand.vcpus;
    match lack {
        Lack::Threads => {
            refusal("Cpu", format!("{wants} vCPUs asked in one machine; it offers {} threads", offer.threads))
        }
        Lack::Vcpus => refusal(
            "Cpu",
            format!(
                "{wants} vCPUs asked; {} free ({} threads × {}, {} claimed)",
                room.vcpus.max(0),
                offer.threads,
                offer.overcommit,
                offer.vcpus - room.vcpus
            ),
        ),
        Lack::Memory => refusal("Memory", memory(draft, &fleet.names[host as usize], demand, room, offer)),
        Lack::DedicatedCpus if offer.nodes.iter().all(|node| node.dedicated == 0) => refusal(
            "DedicatedCpus",
            format!("{wants} CPUs of its own asked; it sets none apart (`dedicatedCpus` of the host)"),
        ),
        Lack::DedicatedCpus => {
            let part = wants / u64::from(demand.nodes.max(1));
            let free = by_node(room, offer, |node| node.dedicated.max(0).to_string());
            refusal(
                "DedicatedCpus",
                format!("{part} CPUs of its own asked {}; free: {free}", on_nodes(demand)),
            )
        }
        Lack::NodeMemory => {
            let free = by_node(room, offer, |node| mib(node.memory_mib).to_string());
            refusal("Numa", format!("{} asked {}; free: {free}", part_of(demand), on_nodes(demand)))
        }
        Lack::Hugepages => {
            let Some(size) = demand.hugepages else { return refusal("Hugepages", "none are free") };
            let free = by_node(room, offer, |node| mib(node.huge_mib[huge_index(size)]).to_string());
            let asked = format!("{} in huge pages of {size} asked {}", part_of(demand), on_nodes(demand));
            refusal("Hugepages", format!("{asked}; free: {free}"))
        }
        Lack::Disk | Lack::PoolFull => disk(fleet, request, demand, host, lack),
    }
}

fn part_of(demand: &Demand) -> Mebibytes {
    Mebibytes(demand.memory_mib / u64::from(demand.nodes.max(1)))
}

fn on_nodes(demand: &Demand) -> String {
    match demand.nodes {
        1 => "on one NUMA node".to_owned(),
        nodes => format!("on each of {nodes} NUMA nodes"),
    }
}

fn by_node(room: &Room, offer: &Room, amount: impl Fn(&NodeRoom) -> String) -> String {
    let nodes = room.nodes.iter().zip(&offer.nodes);
    let parts: Vec<String> = nodes
        .map(|(free, all)| format!("{} of {} on node {}", amount(free), amount(all), free.number))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn memory(draft: &Draft<'_>, name: &str, demand: &Demand, room: &Room, offer: &Room) -> String {
    let text = format!(
        "{} asked; {} of {} free",
        Mebibytes(demand.memory_mib),
        mib(room.memory_mib),
        mib(offer.memory_mib)
    );
    let Some(host) = draft.hosts.get(&name.to_owned()) else { return text };
    let has = host.record.capacity.as_ref().map_or(0, |capacity| signed(capacity.memory.0));
    let huge: i64 = offer.nodes.iter().flat_map(|node| node.huge_mib).sum();
    let kept = host.spec.reserved.memory;
    // What would fit if nothing were kept back: then that is worth telling.
    if signed(demand.memory_mib) > room.memory_mib + signed(kept.0) + huge {
        return text;
    }
    let huge = if huge > 0 { format!(" and {} of huge pages", mib(huge)) } else { String::new() };
    format!("{text} ({} less {kept} kept for the host{huge})", mib(has))
}

fn disk(fleet: &Fleet, request: &Request<'_>, demand: &Demand, host: HostNumber, lack: Lack) -> Refusal {
    let pool = &request.pool;
    let packed = &fleet.packer.hosts()[host as usize];
    let free = packed.room.pools.get(demand.pool).copied().flatten().unwrap_or_default();
    let offered = packed.offer.pools.get(demand.pool).copied().flatten().unwrap_or_default();
    let image_mib = fleet.missing_image_mib(request, host);
    if lack == Lack::Disk {
        let message = format!(
            "{} asked in pool {}; {} of {} free (filled up to {} %)",
            Mebibytes(demand.disk_mib + image_mib),
            pool.metadata.name,
            mib(free.capacity_mib),
            mib(offered.capacity_mib),
            pool.spec.max_fill_percent
        );
        return refusal("Disk", message);
    }
    let message = format!(
        "{} are written at once in pool {}; {} are free on its file system",
        Mebibytes(demand.soon_mib + image_mib),
        pool.metadata.name,
        mib(free.at_once_mib.unwrap_or_default())
    );
    refusal("PoolFull", message)
}

fn no_room_after_death(fleet: &Fleet, request: &Request<'_>, host: HostNumber, dead: HostNumber) -> Refusal {
    let wants = signed(request.class.spec.memory.0);
    let there = fleet.claimed_memory_mib(dead) + if dead == host { wants } else { 0 };
    let open =
        fleet.packer.hosts().iter().enumerate().filter(|(number, other)| {
            other.is_open && u32::try_from(*number).is_ok_and(|number| number != dead)
        });
    let free: i64 = open.map(|(_, other)| other.room.memory_mib.max(0)).sum::<i64>()
        - if dead == host { 0 } else { wants };
    let who = if dead == host { "it".to_owned() } else { fleet.names[dead as usize].clone() };
    // Enough in all, and nowhere in one piece; or what is lacking is no memory.
    let pieces = if free >= there { ", but not where they would fit" } else { "" };
    let message = format!(
        "if {who} died, its machines ({} with this one placed) would find no room on the other hosts ({} free in \
         all{pieces}): `admission: n+1`",
        mib(there),
        mib(free)
    );
    refusal("NPlusOne", message)
}

fn score_and_reason(
    fleet: &Fleet,
    request: &Request<'_>,
    choice: &Choice,
    host: HostNumber,
    score: i64,
) -> (i64, String) {
    let counts = choice.peers.counts(&fleet.packer);
    let (rack, zone) = fleet.packer.place_of(host);
    let (same, in_zone, in_rack) = (counts.on_host(host), counts.in_zone(zone), counts.in_rack(rack));
    let what = match request.role {
        MachineRole::ControlPlane => "control planes".to_owned(),
        MachineRole::Worker => format!("of {}", request.group),
    };
    let (zone_name, rack_name) = &fleet.racks[rack as usize];
    let mut parts = vec![format!("{same} {what} there")];
    if in_zone > same && !zone_name.is_empty() {
        parts.push(format!("{in_zone} in zone {zone_name}"));
    }
    if in_rack > same && !rack_name.is_empty() {
        parts.push(format!("{in_rack} in rack {rack_name}"));
    }
    if fleet.missing_image_mib(request, host) == 0 {
        parts.push("image there".to_owned());
    }
    let packed = &fleet.packer.hosts()[host as usize];
    let class = &request.class.spec;
    let mut after = packed.room.clone();
    if class.cpu_policy == CpuPolicy::Shared {
        after.vcpus -= i64::from(class.vcpus);
    }
    if class.hugepages.is_none() {
        after.memory_mib -= signed(class.memory.0);
    }
    let (vcpus, memory) = after.per_mille_left(&packed.offer);
    parts.push(format!("{} % of vCPUs and {} % of memory left after", vcpus / 10, memory / 10));
    let distance =
        SAME_HOST * i64::from(same) + SAME_ZONE * i64::from(in_zone) + SAME_RACK * i64::from(in_rack);
    (score - distance, parts.join(", "))
}
