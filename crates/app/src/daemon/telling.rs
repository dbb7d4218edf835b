//! What the engine tells, to all commands that wait just now, each with what concerns it.

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{EngineEvent, Scope};
use tokio::sync::broadcast;

use crate::progress::{Told, line};

/// Lines that a slow reader may be behind; older ones are lost to it, and nothing else is.
const BEHIND: usize = 1024;

/// A line, and what it is about.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    pub(super) told: Told,
    about: Vec<ObjectRef>,
}

/// The lines, to whoever listens.
#[derive(Debug)]
pub(super) struct Tellings {
    sender: broadcast::Sender<Telling>,
}

impl Tellings {
    pub(super) fn new() -> Self {
        Tellings { sender: broadcast::Sender::new(BEHIND) }
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Telling> {
        self.sender.subscribe()
    }

    pub(super) fn tell(&self, event: &EngineEvent) {
        if self.sender.receiver_count() > 0
            && let Some(told) = line(event)
        {
            // Nobody may be left to hear it.
            let _ = self.sender.send(Telling { told, about: about(event) });
        }
    }
}

impl Telling {
    /// Whether it is of interest to who waits for something in a scope.
    pub(super) fn concerns(&self, scope: &Scope) -> bool {
        let Scope::Cluster(cluster) = scope else { return true };
        self.about.iter().any(|object| is_of(object, cluster))
    }
}

/// Objects of a cluster have names that begin with its own; what belongs to no tenant may matter to each.
fn is_of(object: &ObjectRef, cluster: &NamespacedName) -> bool {
    if object.namespace != cluster.namespace {
        return object.namespace.is_empty() || object.namespace == ashlar_api::SYSTEM_NAMESPACE;
    }
    let rest = object.name.strip_prefix(cluster.name.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

fn about(event: &EngineEvent) -> Vec<ObjectRef> {
    match event {
        EngineEvent::Committed { writes } => writes.iter().map(|write| write.object.clone()).collect(),
        EngineEvent::ActionStarted { step }
        | EngineEvent::ActionDone { step, .. }
        | EngineEvent::ActionFailed { step, .. } => vec![step.object.clone()],
        EngineEvent::Transferred(transfer) => vec![transfer.volume.clone()],
        EngineEvent::MachinePhase { machine, .. } => {
            vec![ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name)]
        }
        EngineEvent::Waiting { object, .. } | EngineEvent::Blocked { object, .. } => vec![object.clone()],
        EngineEvent::HostUnreachable { host, .. } | EngineEvent::HostReachable { host } => {
            vec![ObjectRef::new(Kind::Host, "", host)]
        }
        EngineEvent::Notice(note) => vec![note.object.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_hears_of_its_own_cluster_and_of_hosts() {
        let tellings = Tellings::new();
        let mut listener = tellings.listen();
        let waiting = |kind, namespace: &str, name: &str| EngineEvent::Waiting {
            object: ObjectRef::new(kind, namespace, name),
            reason: "Booting".to_owned(),
            message: "it boots".to_owned(),
        };
        for (kind, namespace, name, concerns) in [
            (Kind::Machine, "default", "prod-ctrl-1", true),
            (Kind::Cluster, "default", "prod", true),
            (Kind::Machine, "default", "production-ctrl-1", false),
            (Kind::Machine, "other", "prod-ctrl-1", false),
            (Kind::Host, "", "h1", true),
            (Kind::Volume, ashlar_api::SYSTEM_NAMESPACE, "image-x-h1-disk", true),
        ] {
            tellings.tell(&waiting(kind, namespace, name));
            let telling = listener.try_recv().unwrap();
            let scope = Scope::Cluster(NamespacedName::new("default", "prod"));
            assert_eq!(telling.concerns(&scope), concerns, "{namespace}/{name}");
            assert!(telling.concerns(&Scope::All));
        }
    }
}
