//! Commands for what people change behind Ashlar's back and a cluster can live with: `virsh edit`, `kubectl label`.

use std::sync::Arc;

use ashlar_api::{NamespacedName, Taint, TaintEffect};
use ashlar_plan::Definition;

use super::command::{Command, namespaced, size_mib};
use super::hands::domain_named;
use crate::{SimNode, State, guest};

/// A change by hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// `virsh edit`: it counts from the next start on.
    Definition { host: String, domain: String, edit: DefinitionEdit },
    /// `kubectl label`, `kubectl taint`.
    Node { cluster: NamespacedName, node: String, edit: NodeEdit },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DefinitionEdit {
    MemoryMib(u64),
    Vcpus(u32),
    Bridge(String),
    /// The filter on its network cards; empty takes it off.
    Filter(String),
    CommandLine(String),
    Device(String),
    LosesNic,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeEdit {
    Label(String, String),
    NoLabel(String),
    Taint(Taint),
    NoTaint(String),
}

/// Reads one of these commands, if it is one.
pub(super) fn parse(words: &[&str]) -> Option<Result<Command, String>> {
    let edit = match words {
        ["virsh", host, "edit", domain, rest @ ..] => definition_edit(rest).map(|edit| Edit::Definition {
            host: (*host).to_owned(),
            domain: (*domain).to_owned(),
            edit,
        }),
        ["kubectl", cluster, verb @ ("label" | "taint"), node, change] => node_edit(*verb == "taint", change)
            .map(|edit| Edit::Node { cluster: namespaced(cluster), node: (*node).to_owned(), edit }),
        _ => return None,
    };
    Some(edit.map(Command::ByHand))
}

fn definition_edit(words: &[&str]) -> Result<DefinitionEdit, String> {
    Ok(match words {
        ["memory", size] => DefinitionEdit::MemoryMib(size_mib(size)?),
        ["vcpus", count] => {
            DefinitionEdit::Vcpus(count.parse().map_err(|_| format!("`{count}` is no number of vCPUs"))?)
        }
        ["bridge", bridge] => DefinitionEdit::Bridge((*bridge).to_owned()),
        ["filter", "none"] => DefinitionEdit::Filter(String::new()),
        ["filter", filter] => DefinitionEdit::Filter((*filter).to_owned()),
        ["cmdline", words @ ..] => DefinitionEdit::CommandLine(words.join(" ")),
        ["device", device] => DefinitionEdit::Device((*device).to_owned()),
        ["no", "nic"] => DefinitionEdit::LosesNic,
        other => return Err(format!("`{}` is nothing that is edited here", other.join(" "))),
    })
}

/// `KEY=VALUE`, `KEY-`; `KEY[=VALUE]:EFFECT`, `KEY-`.
fn node_edit(is_taint: bool, change: &str) -> Result<NodeEdit, String> {
    if let Some(key) = change.strip_suffix('-') {
        let key = key.to_owned();
        return Ok(if is_taint { NodeEdit::NoTaint(key) } else { NodeEdit::NoLabel(key) });
    }
    if !is_taint {
        let (key, value) = change.split_once('=').ok_or("a label is KEY=VALUE or KEY-")?;
        return Ok(NodeEdit::Label(key.to_owned(), value.to_owned()));
    }
    let (taint, effect) = change.split_once(':').ok_or("a taint is KEY[=VALUE]:EFFECT or KEY-")?;
    let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
    let effect = match effect {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        other => return Err(format!("`{other}` is no effect of a taint")),
    };
    Ok(NodeEdit::Taint(Taint { key: key.to_owned(), value: value.to_owned(), effect }))
}

impl State {
    /// A person does one of the things that are said like this: for tests.
    ///
    /// # Errors
    /// It is none of them, or there is nothing of that name.
    pub fn by_hand(&mut self, text: &str) -> Result<(), String> {
        let command = super::command::parse(text, None)?;
        let done = super::hand::act(self, &command);
        done.unwrap_or_else(|| Err(format!("`{text}` is nothing that people change")))
    }
}

impl Edit {
    /// A person does it.
    pub(super) fn happen(&self, state: &mut State) -> Result<(), String> {
        match self {
            Edit::Definition { host, domain, edit } => edit_domain(state, host, domain, edit)?,
            Edit::Node { cluster, node, edit } => {
                if !guest::api_answers(state, cluster) {
                    return Err(format!("the API of {cluster} does not answer"));
                }
                let world = state.clusters.get_mut(cluster);
                let node = world.and_then(|world| world.nodes.get_mut(node));
                edit_node(node.ok_or("there is no such node")?, edit);
                state.etcd_write(cluster);
            }
        }
        state.touched();
        Ok(())
    }
}

fn edit_domain(state: &mut State, host: &str, name: &str, edit: &DefinitionEdit) -> Result<(), String> {
    let host = if host == "any" { host_of(state, name)? } else { host.to_owned() };
    let (uuid, domain) = domain_named(state, &host, name)?;
    let (Some(definition), Some(spec)) = (&mut domain.definition, &mut domain.spec) else {
        return Err(format!("domain {name} is not Ashlar's"));
    };
    let definition: &mut Definition = Arc::make_mut(definition);
    match edit {
        DefinitionEdit::MemoryMib(mib) => {
            (definition.memory_kib, definition.current_memory_kib) = (mib * 1024, mib * 1024);
            spec.memory_mib = *mib;
        }
        DefinitionEdit::Vcpus(count) => {
            (definition.vcpus, definition.current_vcpus) = (*count, *count);
            spec.vcpus = *count;
        }
        DefinitionEdit::Bridge(bridge) => {
            definition.nics.iter_mut().for_each(|nic| nic.bridge.clone_from(bridge));
            spec.nics.iter_mut().for_each(|nic| nic.bridge.clone_from(bridge));
        }
        DefinitionEdit::Filter(filter) => {
            definition.nics.iter_mut().for_each(|nic| nic.filter.clone_from(filter));
        }
        DefinitionEdit::CommandLine(line) => {
            definition.command_line.clone_from(line);
            spec.command_line.clone_from(line);
        }
        DefinitionEdit::Device(device) => definition.devices.push(device.clone()),
        DefinitionEdit::LosesNic => {
            definition.nics.clear();
            spec.nics.clear();
        }
    }
    state.touched_by_hand(&host, uuid);
    Ok(())
}

/// Wherever the domain is.
fn host_of(state: &State, name: &str) -> Result<String, String> {
    let has = |host: &crate::SimHost| host.domains.values().any(|domain| domain.name == name);
    let host = state.hosts.iter().find(|(_, host)| has(host)).map(|(host, _)| host.clone());
    host.ok_or_else(|| format!("there is no domain {name}"))
}

fn edit_node(node: &mut SimNode, edit: &NodeEdit) {
    match edit {
        NodeEdit::Label(key, value) => drop(node.labels.insert(key.clone(), value.clone())),
        NodeEdit::NoLabel(key) => drop(node.labels.remove(key)),
        NodeEdit::Taint(taint) => {
            node.taints.retain(|there| (&there.key, there.effect) != (&taint.key, taint.effect));
            node.taints.push(taint.clone());
        }
        NodeEdit::NoTaint(key) => node.taints.retain(|there| there.key != *key),
    }
}
