//! Serial consoles of machines whose first boot is not over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use ashlar_api::{Machine, NamespacedName};
use ashlar_plan::{ConsoleFailure, ConsoleSeen, HostSeen, Snapshot, bootstrap::console::Progress};
use futures::{StreamExt, stream::FuturesUnordered};
use uuid::Uuid;

use crate::{Engine, EngineEvent, Scope, deadline::within};

/// Chunks read of one console in one pass: 8 MiB, more than a first boot writes.
const CHUNKS: u32 = 8;

/// How far the consoles were read, and what they said. A new engine reads them from the start again.
#[derive(Default)]
pub(crate) struct Consoles {
    read: Mutex<BTreeMap<NamespacedName, Console>>,
}

#[derive(Clone)]
struct Console {
    /// Another machine of the same name has another console.
    domain: Uuid,
    offset: u64,
    progress: Progress,
    phase_told: String,
}

impl Consoles {
    fn get(&self, machine: &Machine) -> Console {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let domain = machine.spec.domain.uuid;
        read.get(&machine.key()).filter(|console| console.domain == domain).cloned().unwrap_or(Console {
            domain,
            offset: 0,
            progress: Progress::default(),
            phase_told: String::new(),
        })
    }

    fn put(&self, machine: &Machine, console: Console) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(machine.key(), console);
    }

    /// Forgets machines whose consoles are of no interest any more.
    fn keep_only(&self, machines: &[&Machine]) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_empty() {
            return;
        }
        let names: BTreeSet<NamespacedName> = machines.iter().map(|machine| machine.key()).collect();
        read.retain(|name, _| names.contains(name));
    }
}

impl Engine {
    pub(super) async fn observe_consoles(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
    ) -> BTreeMap<NamespacedName, ConsoleSeen> {
        let machines: Vec<&Machine> =
            snapshot.machines.values().filter(|machine| is_worth_reading(snapshot, machine, scope)).collect();
        self.consoles.keep_only(&machines);
        let mut asked: FuturesUnordered<_> =
            machines.into_iter().map(|machine| self.read_console(snapshot, machine)).collect();
        let mut seen = BTreeMap::new();
        while let Some(answer) = asked.next().await {
            seen.extend(answer);
        }
        seen
    }

    async fn read_console(
        &self,
        snapshot: &Snapshot,
        machine: &Machine,
    ) -> Option<(NamespacedName, ConsoleSeen)> {
        let host = snapshot.hosts.get(&machine.spec.host)?;
        let target = self.leases.target(host, &self.settings);
        let mut console = self.consoles.get(machine);
        let what = format!("reading the console of machine {}", machine.key());
        for _ in 0..CHUNKS {
            let call = self.world.hypervisor.read_console(&target, &machine.spec.domain, console.offset);
            // A console that cannot be read now is no news about the machine: what was read before still holds.
            let read = within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await;
            let Ok(chunk) = read else { break };
            console.offset = chunk.next_offset;
            console.progress.feed(&chunk.bytes);
            if chunk.bytes.is_empty() {
                break;
            }
        }
        let mut phase = console.progress.phase().to_string();
        if console.progress.kernel_panics() > 0 && !console.progress.is_ready() {
            phase.push_str(", after a kernel panic");
        }
        if phase != console.phase_told {
            console.phase_told.clone_from(&phase);
            self.sink.event(&EngineEvent::MachinePhase { machine: machine.key(), phase: phase.clone() });
        }
        let seen = ConsoleSeen {
            phase,
            finished: console.progress.is_ready(),
            failure: console.progress.failure().map(|failure| ConsoleFailure {
                phase: failure.phase.clone(),
                message: console.progress.advice().unwrap_or_else(|| failure.reason.clone()),
                log_lines: failure.log_lines.clone(),
            }),
        };
        self.consoles.put(machine, console);
        Some((machine.key(), seen))
    }
}

/// Started, not joined, not given up, and its host and domain were seen.
fn is_worth_reading(snapshot: &Snapshot, machine: &Machine, scope: &Scope) -> bool {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let domain_seen = match snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => world.domains.contains_key(&machine.spec.domain.uuid),
        _ => false,
    };
    scope.has_cluster(&cluster)
        && domain_seen
        && machine.record.first_started_at.is_some()
        && machine.record.joined_at.is_none()
        && machine.record.failure.is_none()
        && !machine.metadata.is_deleting()
}
