//! `ashlar network`: networks, and who holds what of them.

use std::net::Ipv4Addr;

use ashlar_api::{Cluster, Kind, Machine, Network, Object};
use serde::Serialize;
use serde_json::json;

use crate::cli::{NetworkCommand, OutputFormat};
use crate::commands::get::print_value;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::output::Table;
use crate::settings::Settings;

/// Runs a network command.
pub(crate) fn network(settings: &Settings, command: NetworkCommand) -> Result {
    let reader = Reader::open(settings)?;
    match command {
        NetworkCommand::List => list(settings, &reader),
        NetworkCommand::Describe(args) => describe(settings, &reader, &args.name),
    }
}

/// Something of a network that belongs to somebody.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holding {
    address: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vrrp_id: Option<u8>,
    holder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Deletion is recorded: it is given to nobody else before its holder is proved gone.
    leaving: bool,
}

/// What machines and endpoints hold of networks.
struct Held {
    machines: Vec<Machine>,
    clusters: Vec<Cluster>,
}

impl Held {
    fn read(reader: &Reader) -> Result<Held> {
        let mut held = Held { machines: Vec::new(), clusters: Vec::new() };
        for object in
            reader.objects(Kind::Machine, None)?.into_iter().chain(reader.objects(Kind::Cluster, None)?)
        {
            match object {
                Object::Machine(machine) => held.machines.push(*machine),
                Object::Cluster(cluster) => held.clusters.push(*cluster),
                _ => {}
            }
        }
        Ok(held)
    }

    fn of(&self, network: &str) -> Vec<Holding> {
        let mut holdings = Vec::new();
        for machine in &self.machines {
            for nic in machine.spec.nics.iter().filter(|nic| nic.network == network) {
                holdings.push(Holding {
                    address: nic.address.addr(),
                    mac: Some(nic.mac.clone()),
                    vrrp_id: None,
                    holder: machine.object_ref().to_string(),
                    host: Some(machine.spec.host.clone()),
                    leaving: machine.metadata.is_deleting(),
                });
            }
        }
        for cluster in self.clusters.iter().filter(|cluster| cluster.spec.network == network) {
            let Some(endpoint) = &cluster.record.endpoint else { continue };
            holdings.push(Holding {
                address: endpoint.address,
                mac: None,
                vrrp_id: Some(endpoint.vrrp_id),
                holder: format!("the API of {}", cluster.object_ref()),
                host: None,
                leaving: cluster.metadata.is_deleting(),
            });
        }
        holdings.sort_by_key(|holding| holding.address);
        holdings
    }
}

/// Addresses that the network may give out.
fn size(network: &Network) -> u64 {
    let range =
        |first: Ipv4Addr, last: Ipv4Addr| u64::from(u32::from(last).saturating_sub(u32::from(first))) + 1;
    network.spec.ranges.iter().map(|it| range(it.first, it.last)).sum()
}

fn list(settings: &Settings, reader: &Reader) -> Result {
    let held = Held::read(reader)?;
    let mut table = Table::new(vec!["NAME", "KIND", "CIDR", "MTU", "HELD", "OF", "HOSTS"]);
    let mut values = Vec::new();
    for object in reader.objects(Kind::Network, None)? {
        let Object::Network(network) = object else { continue };
        let holdings = held.of(&network.metadata.name).len();
        let hosts: Vec<&str> = network.record.hosts.iter().map(String::as_str).collect();
        let cidrs: Vec<String> = network.spec.cidrs.iter().map(ToString::to_string).collect();
        values.push(json!({
            "name": network.metadata.name, "kind": network.spec.attachment.kind_name(), "cidrs": cidrs,
            "mtu": network.spec.mtu(), "held": holdings, "size": size(&network), "hosts": hosts,
        }));
        table.push(vec![
            network.metadata.name.clone(),
            network.spec.attachment.kind_name().to_owned(),
            cidrs.join(","),
            network.spec.mtu().to_string(),
            holdings.to_string(),
            size(&network).to_string(),
            if hosts.is_empty() { "-".to_owned() } else { hosts.join(",") },
        ]);
    }
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        return print_value(settings, &values.into());
    }
    if table.is_empty() {
        settings.printer.note("no networks; `ashlar explain network.spec` shows how to write one");
        return Ok(Exit::Success);
    }
    settings.printer.data(|out| table.write(out, 0))
}

fn describe(settings: &Settings, reader: &Reader, name: &str) -> Result {
    let Object::Network(network) = reader.object(&object_ref(Kind::Network, name, ""))? else {
        return Err(Failure::internal(format!("{name} is not a network")));
    };
    let holdings = Held::read(reader)?.of(name);
    let spec = &network.spec;
    let hosts: Vec<&str> = network.record.hosts.iter().map(String::as_str).collect();
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        let value = json!({
            "name": name, "kind": spec.attachment.kind_name(), "mtu": spec.mtu(), "hosts": hosts,
            "size": size(&network), "holdings": holdings,
        });
        return print_value(settings, &value);
    }
    let uid = network.metadata.uid.unwrap_or_default();
    let cidrs: Vec<String> = spec.cidrs.iter().map(ToString::to_string).collect();
    let ranges: Vec<String> =
        spec.ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
    let mut facts = vec![
        ("Name", name.to_owned()),
        ("Kind", attachment(&network)),
        ("CIDR", cidrs.join(", ")),
        ("Gateway", spec.gateway.to_string()),
        ("MTU", spec.mtu().to_string()),
        ("Ranges", ranges.join(", ")),
        ("VRRP ids", format!("{}-{}", spec.vrrp_ids.first, spec.vrrp_ids.last)),
        ("Held", format!("{} of {} addresses", holdings.len(), size(&network))),
        ("On hosts", if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") }),
    ];
    if spec.is_made_by_us() {
        use ashlar_plan::network::names;
        let out =
            if spec.has_egress() { "through the hosts, translated; never to the hosts" } else { "none" };
        facts.push(("Way out", out.to_owned()));
        facts.push(("Bridge", names::bridge(uid)));
        facts.push(("Namespace", names::namespace(uid)));
    }
    facts.push(("nft table", names_table(uid)));
    let mut table = Table::new(vec!["ADDRESS", "MAC", "VRRP", "HOLDER", "HOST"]);
    for holding in holdings {
        let leaving = if holding.leaving { " (being deleted)" } else { "" };
        table.push(vec![
            holding.address.to_string(),
            holding.mac.unwrap_or_else(|| "-".to_owned()),
            holding.vrrp_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            format!("{}{leaving}", holding.holder),
            holding.host.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    settings.printer.data(|out| {
        for (what, text) in &facts {
            writeln!(out, "{:<12}{text}", format!("{what}:"))?;
        }
        if table.is_empty() {
            return writeln!(out, "Nobody holds anything of it.");
        }
        writeln!(out, "Holders:")?;
        table.write(out, 2)
    })
}

fn names_table(uid: uuid::Uuid) -> String {
    format!("{} (bridge, inet)", ashlar_plan::network::names::table(uid))
}

fn attachment(network: &Network) -> String {
    let attachment = &network.spec.attachment;
    match (&attachment.bridge, &attachment.vlan, &attachment.vxlan) {
        (Some(bridge), ..) => format!("existing bridge {bridge}"),
        (_, Some(vlan), _) => {
            let kind = if vlan.open_vswitch { "Open vSwitch" } else { "bridge" };
            format!("VLAN {} of {kind} {}", vlan.tag, vlan.bridge)
        }
        (.., Some(vxlan)) => format!("VXLAN {} on UDP port {} (not encrypted)", vxlan.vni, vxlan.port),
        (None, None, None) => format!("nat on {}", attachment.hosts.join(", ")),
    }
}
