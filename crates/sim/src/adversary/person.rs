//! What a person does when nothing goes wrong any more and Ashlar says that it needs one.

use std::collections::BTreeSet;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{BlockedStep, EngineError, Scope};
use jiff::SignedDuration;

use super::teller::{Teller, Wanted, cluster_of};
use super::{LIVENESS, UNSETTLED};
use crate::scenario::MaintenanceVerb;
use crate::{HostOptions, error_text};

/// How often Ashlar is started until all is as it should be, and a person helps in between; twice more for each machine.
const HELP: usize = 40;

impl Teller<'_> {
    /// Ashlar runs until there is nothing left to do; what failed for good goes the way that a person has.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let mut helped = BTreeSet::new();
        let mut since_s = self.elapsed_s();
        let machines: usize = self.asked.values().map(|asked| asked.control_planes + asked.workers).sum();
        let patience_s = LIVENESS.as_secs().cast_signed();
        for _ in 0..HELP + 2 * machines {
            self.keep(&format!("run until settled within {}m", LIVENESS.as_secs() / 60));
            let error = self.run(&[Scope::All], LIVENESS)?;
            let Some(error) = error.filter(|error| !self.is_excused(error)) else {
                // Guests that were started last are still booting, and Ashlar may find more to do then.
                match self.judge_end() {
                    Ok(()) => return Ok(()),
                    Err(what) if self.elapsed_s() - since_s >= patience_s => {
                        // A rollout that stopped at a sick machine waits for a person, whatever else is said first.
                        let mut hurt = self.replace_hurt().into_iter();
                        let Some(help) = hurt.find(|help| !helped.contains(help)) else {
                            return Err(what);
                        };
                        self.note(&format!("a person helps: {help}"));
                        let words: Vec<String> = help.split_whitespace().map(str::to_owned).collect();
                        if let [_, kind, name] = words.as_slice() {
                            let name = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, name.clone());
                            if self.delete(&help, kind, &name) {
                                self.keep(&help);
                            }
                        }
                        helped.insert(help);
                        since_s = self.elapsed_s();
                    }
                    Err(_) => {}
                }
                self.keep("wait 2m");
                self.simulation.world.state().advance(SignedDuration::from_mins(2));
                continue;
            };
            since_s = self.elapsed_s();
            let Some(help) = self.help_for(&error).into_iter().find(|help| !helped.contains(help)) else {
                return Err(format!("{UNSETTLED} {}", error_text(&error)));
            };
            self.note(&format!("a person helps: {help}"));
            if help == ROOM {
                let name = format!("spare{}", helped.len());
                self.simulation.add_host(&HostOptions::big(&name)).map_err(|error| error.0)?;
                self.keep(&format!("host {name}"));
            } else if let Some(host) = help.strip_prefix(BACK) {
                self.simulation.maintain(host, MaintenanceVerb::Uncordon).map_err(|error| error.0)?;
                self.keep(&help);
            } else if let Some(name) = help.strip_prefix(START) {
                let cluster = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, name.to_owned());
                self.simulation.set_stopped(&cluster, false, false).map_err(|error| error.0)?;
                if let Some(asked) = self.asked.get_mut(name) {
                    asked.wanted = Wanted::Up;
                }
                self.keep(&help);
            } else if let Some(host) = help.strip_prefix(LOST) {
                let object = ObjectRef::new(Kind::Host, "", host);
                self.simulation.edit(&object, LOST_ANNOTATION, "yes").map_err(|error| error.0)?;
                self.keep(&format!("edit host {host} {LOST_ANNOTATION} yes"));
            } else {
                let words: Vec<&str> = help.split_whitespace().collect();
                let [_, kind, name] = words.as_slice() else { continue };
                let name = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, (*name).to_owned());
                if self.delete(&help, kind, &name) {
                    self.keep(&help);
                }
            }
            helped.insert(help);
        }
        Err("it does not come to rest".to_owned())
    }

    fn elapsed_s(&self) -> i64 {
        self.simulation.world.state().elapsed_s()
    }

    /// What is as it has to be, though not everything is done.
    fn is_excused(&self, error: &EngineError) -> bool {
        match error {
            // What is left of a cluster that was stopped before it was complete waits until it is started.
            EngineError::Deadline { waiting, .. } => {
                // So does a node that is to be deleted there.
                !waiting.is_empty()
                    && waiting.iter().all(|wait| wait.contains(" is stopped") || self.is_spoiled(wait))
            }
            EngineError::Blocked { blocks } => {
                blocks.iter().all(|block| self.spoiled.contains(cluster_of(&block.object.name)))
            }
            _ => false,
        }
    }

    fn is_spoiled(&self, text: &str) -> bool {
        self.spoiled.iter().any(|cluster| text.contains(cluster.as_str()))
    }

    /// What may help, the mildest first: a command each.
    fn help_for(&self, error: &EngineError) -> Vec<String> {
        match error {
            EngineError::NodesFailed { nodes, blocks } => {
                let nodes = nodes.iter().flat_map(|node| self.replace(&node.machine.name));
                nodes.chain(self.help_for_blocks(blocks)).collect()
            }
            EngineError::Blocked { blocks } => self.help_for_blocks(blocks),
            EngineError::Deadline { waiting, .. } => {
                let last_voters = waiting.iter().filter(|wait| wait.contains("etcd would have 0 voters"));
                let ended = last_voters.filter_map(|wait| wait.strip_prefix("machine "));
                // Whoever asks for the last control plane to be deleted has to give up its cluster.
                let ended = ended.map(|wait| format!("delete cluster {}", cluster_of(wait)));
                let failed = waiting.iter().filter(|wait| wait.contains("It is kept as it is"));
                let failed = failed.filter_map(|wait| wait.strip_prefix("machine ")?.split(':').next());
                let failed = failed.flat_map(|machine| self.replace(machine));
                self.replace_hurt().into_iter().chain(failed).chain(ended).collect()
            }
            _ => Vec::new(),
        }
    }

    fn help_for_blocks(&self, blocks: &[BlockedStep]) -> Vec<String> {
        blocks
            .iter()
            .flat_map(|block| match (block.reason.as_str(), block.object.kind) {
                ("Unschedulable" | "Exhausted" | "NoSurgeCapacity", _) => {
                    let back = self.cordoned().into_iter().map(|host| format!("{BACK}{host}"));
                    back.chain([ROOM.to_owned()]).collect()
                }
                // One that is to be upgraded.
                ("ClusterStopped", Kind::Cluster) => vec![format!("{START}{}", block.object.name)],
                // All of its domains were undefined by hand.
                ("HostNotOurs", _) => vec![format!("{LOST}{}", block.host)],
                (_, Kind::Machine) if self.is_hurt(&block.object.name) => self.replace(&block.object.name),
                _ => Vec::new(),
            })
            .chain(self.replace_hurt())
            .collect()
    }

    /// Hosts that were fenced, answer again, and wait for somebody to say that they may be used.
    fn cordoned(&self) -> Vec<String> {
        let hosts = self.simulation.world.state().hosts.keys().cloned().collect::<Vec<_>>();
        let flag = |host: &str, pointer: &str| {
            let stored = self.simulation.read(&ObjectRef::new(Kind::Host, "", host)).ok().flatten();
            stored.and_then(|host| host.pointer(pointer).cloned()).unwrap_or_default()
        };
        let waits =
            |host: &String| flag(host, "/spec/cordoned") == true && flag(host, "/record/fence").is_null();
        hosts.into_iter().filter(waits).collect()
    }

    fn is_hurt(&self, machine: &str) -> bool {
        self.hurt.contains(machine)
    }

    fn replace_hurt(&self) -> Vec<String> {
        self.hurt.iter().flat_map(|machine| self.replace(machine)).collect()
    }

    /// A worker is made anew, and so is a control plane that others stand beside; the last of its cluster takes that
    /// with it.
    fn replace(&self, machine: &str) -> Vec<String> {
        let cluster = cluster_of(machine);
        if self.asked.get(cluster).is_none_or(|asked| asked.wanted == Wanted::Gone) {
            return Vec::new();
        }
        let key = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, cluster);
        let answers = self.simulation.world.state().has_quorum(&key);
        let is_control_plane = machine.contains("-ctrl-");
        let mut help = Vec::new();
        if !is_control_plane || answers {
            help.push(format!("delete machine {machine}"));
        }
        if is_control_plane {
            help.push(format!("delete cluster {cluster}"));
        }
        help
    }
}

const ROOM: &str = "host spare";

/// Before a host that is used again.
const BACK: &str = "uncordon host ";

/// Before a cluster that was stopped, and is to be upgraded.
const START: &str = "start cluster ";

/// Before a host: its domains are lost for good.
const LOST: &str = "domains lost on ";
const LOST_ANNOTATION: &str = "/metadata/annotations/ashlar.dev~1domains-lost";
