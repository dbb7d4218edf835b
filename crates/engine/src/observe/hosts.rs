//! All hosts at once, each with its own deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ashlar_api::Host;
use ashlar_plan::{HostSeen, HostWorld, NetworksSeen, Snapshot};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join},
    stream::FuturesUnordered,
};
use jiff::Timestamp;

use crate::{
    Engine, EngineEvent,
    deadline::within,
    effects::{EffectError, EffectErrorKind, HostTarget, World},
};

use super::questions::Answer;

/// Longest time for which a silent host is not asked again.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long a host that was silent is waited for when it is asked again, at the least; and which part of the pause before.
/// A pass is over when all hosts have answered or are late, so that a hung one would else hold up the others again and again.
const ASKED_AGAIN: Duration = Duration::from_secs(3);
const SHARE_OF_PAUSE: u32 = 6;

/// Hosts that did not answer lately. They are not asked again for a while, which grows: a hung host costs its deadline
/// once, not in every pass.
#[derive(Default)]
pub(crate) struct HostHealth {
    silent: Mutex<BTreeMap<String, Silence>>,
}

struct Silence {
    seen: HostSeen,
    ask_again: Timestamp,
    pause: Duration,
}

impl HostHealth {
    /// What is known of a host that is not asked now.
    pub(super) fn silence(&self, host: &str, now: Timestamp) -> Option<HostSeen> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(host).filter(|silence| now < silence.ask_again).map(|silence| silence.seen.clone())
    }

    /// Whether it did not answer when it was asked last.
    pub(super) fn is_silent(&self, host: &str) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains_key(host)
    }

    /// What is known of a host that did not answer, whether it is asked again or not.
    pub(super) fn last_silence(&self, host: &str) -> Option<HostSeen> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(host).map(|silence| silence.seen.clone())
    }

    /// It is asked again without a pause.
    pub(super) fn ask_now(&self, host: &str) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(silence) = silent.get_mut(host) {
            silence.ask_again = Timestamp::MIN;
        }
    }

    /// How long a host is waited for.
    fn deadline(&self, host: &str, whole: Duration) -> Duration {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(host).map_or(whole, |silence| whole.min(ASKED_AGAIN.max(silence.pause / SHARE_OF_PAUSE)))
    }

    /// Remembers an answer; says whether the host was silent before.
    fn answered(&self, host: &str) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(host).is_some()
    }

    /// Remembers a failure; says whether it is news. What differs in its numbers alone is not, and is told as before.
    fn failed(&self, host: &str, seen: HostSeen, now: Timestamp, first_pause: Duration) -> (HostSeen, bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = silent.get(host);
        let known = before.map(|silence| &silence.seen).filter(|known| words(known) == words(&seen));
        let is_news = known.is_none();
        let seen = known.cloned().unwrap_or(seen);
        let pause = before.map_or(first_pause, |silence| (silence.pause * 2).min(SILENCE_LIMIT));
        let ask_again = now.checked_add(pause).unwrap_or(now);
        silent.insert(host.to_owned(), Silence { seen: seen.clone(), ask_again, pause });
        (seen, is_news)
    }
}

/// What is said of a host that gave no answer, without times and numbers; and whether its lease proves the store old.
fn words(seen: &HostSeen) -> (String, bool) {
    let (reason, store_is_behind) = match seen {
        HostSeen::Unreachable { reason } | HostSeen::NotOurs { reason } => (reason.as_str(), false),
        HostSeen::Fenced { reason, store_is_behind } => (reason.as_str(), *store_is_behind),
        HostSeen::Seen(_) => ("", false),
    };
    (reason.chars().filter(|letter| !letter.is_ascii_digit()).collect(), store_is_behind)
}

impl Engine {
    /// Hosts that are asked, and whether about networks too. One that was never enrolled is nobody's: it is not asked.
    pub(super) fn enrolled(snapshot: &Snapshot) -> Vec<(&Host, bool)> {
        // Where something was recorded to be, or has to be for a machine.
        let recorded = snapshot.networks.values().flat_map(|network| &network.record.hosts);
        let machines = snapshot.machines.values().flat_map(|machine| machine.hosts());
        let with_networks: BTreeSet<&str> = recorded.map(String::as_str).chain(machines).collect();
        let enrolled = snapshot.hosts.values().filter(|host| host.record.host_uuid.is_some());
        enrolled.map(|host| (host, with_networks.contains(host.metadata.name.as_str()))).collect()
    }

    /// Waits for all of them.
    pub(super) async fn observe_hosts(&self, snapshot: &Snapshot) -> BTreeMap<String, HostSeen> {
        let enrolled = Self::enrolled(snapshot).into_iter();
        let mut asked: FuturesUnordered<_> =
            enrolled.map(|(host, with_networks)| self.observe_host(host, with_networks)).collect();
        let mut seen = BTreeMap::new();
        while let Some((host, answer)) = asked.next().await {
            seen.insert(host, answer);
        }
        seen
    }

    async fn observe_host(&self, host: &Host, with_networks: bool) -> (String, HostSeen) {
        let name = host.metadata.name.clone();
        if let Some(seen) = self.host_health.silence(&name, self.world.clock.now()) {
            return (name, seen);
        }
        let target = self.leases.target(host, &self.settings);
        let limit = self.host_health.deadline(&name, self.settings.observe_deadline);
        let answer = self.question(target.clone(), with_networks, false, limit).await;
        (name, self.judge(host, &target, answer))
    }

    /// Asks libvirt, and, where something of a network was recorded to be, the host itself: both at once.
    pub(super) fn question(
        &self,
        target: HostTarget,
        with_networks: bool,
        is_glance: bool,
        limit: Duration,
    ) -> BoxFuture<'static, Answer> {
        let world = self.world.clone();
        async move {
            let clock = world.clock.as_ref();
            let what = format!("observing host {}", target.name);
            let look = async {
                match is_glance {
                    true => world.hypervisor.glance(&target).await,
                    false => world.hypervisor.observe(&target).await,
                }
            };
            let asked = within(clock, limit, &what, look);
            let (answer, networks) =
                join(asked, observe_networks(&world, &target, with_networks, limit)).await;
            answer.map(|seen| HostWorld { networks, ..seen })
        }
        .boxed()
    }

    /// What an answer, or none, says of a host; news is told.
    pub(super) fn judge(&self, host: &Host, target: &HostTarget, answer: Answer) -> HostSeen {
        let name = host.metadata.name.clone();
        let EffectError { kind, message } = match answer {
            Ok(world) => {
                if self.host_health.answered(&name) {
                    self.sink.event(&EngineEvent::HostReachable { host: name });
                }
                return HostSeen::Seen(world);
            }
            Err(error) => error,
        };
        let seen = match kind {
            EffectErrorKind::NotOurs => HostSeen::NotOurs { reason: message.clone() },
            EffectErrorKind::Fenced => HostSeen::Fenced {
                reason: message.clone(),
                // Tokens are stored before they are shown to a host.
                store_is_behind: target.lease_token == Some(host.record.lease_token),
            },
            _ => HostSeen::Unreachable { reason: message.clone() },
        };
        let (now, pause) = (self.world.clock.now(), self.settings.poll_interval);
        let (seen, is_news) = self.host_health.failed(&name, seen, now, pause);
        if is_news {
            self.sink.event(&EngineEvent::HostUnreachable { host: name, reason: message });
        }
        seen
    }
}

async fn observe_networks(world: &World, target: &HostTarget, wanted: bool, limit: Duration) -> NetworksSeen {
    if !wanted {
        return NetworksSeen::NotAsked;
    }
    let what = format!("observing networks on host {}", target.name);
    let call = world.networks.observe_networks(target);
    within(world.clock.as_ref(), limit, &what, call)
        .await
        .unwrap_or_else(|error| NetworksSeen::Unknown { reason: error.message })
}
