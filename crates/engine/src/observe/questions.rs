//! Questions to hosts that go on when the pass that asked them does not wait any longer.
//!
//! A host that hangs must not hold up the others. So the daemon's passes wait for a host only as long as it takes otherwise,
//! with room to spare; then they go on without it, as with any host that does not answer, and its question goes on beside
//! them. An answer that comes late is what the next pass sees, unless steps have changed the host since it was asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use ashlar_plan::{HostSeen, HostWorld, NetworksSeen, Snapshot};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use jiff::Timestamp;

use crate::{
    Engine,
    effects::{EffectError, EffectErrorKind, HostTarget},
};

/// Every host is waited for so long at the least: an answer takes some tenths of a second, and longer on a busy day.
const LEAST: Duration = Duration::from_secs(2);
/// A host of which it is not known yet how long it takes: connecting takes longer than asking.
const UNKNOWN: Duration = Duration::from_secs(5);
/// After so many glances all hosts' networks were looked at.
const NETWORK_ROUNDS: u64 = 10;
/// How often the time that an answer takes otherwise.
const ROOM: u32 = 3;

pub(super) type Answer = Result<HostWorld, EffectError>;

/// A question under way.
struct Open {
    number: u64,
    target: HostTarget,
    with_networks: bool,
    is_glance: bool,
    asked_at: Timestamp,
}

/// An answer that came when no pass was looking.
struct Came {
    question: Open,
    answer: Answer,
}

/// The questions of one daemon, from pass to pass.
#[derive(Default)]
pub(crate) struct Questions {
    /// The next pass may be told what is some minutes old: it does nothing but find that something is to be done.
    pub(crate) is_glance: bool,
    glances: u64,
    asked: FuturesUnordered<BoxFuture<'static, (u64, String, Answer)>>,
    count: u64,
    open: BTreeMap<String, Open>,
    came: BTreeMap<String, Came>,
    /// How long hosts took to answer lately.
    usual: BTreeMap<String, Duration>,
    /// What of networks was seen last.
    networks: BTreeMap<String, NetworksSeen>,
}

impl Questions {
    /// Steps changed these hosts: what was asked before is out of date.
    pub(crate) fn forget(&mut self, hosts: &BTreeSet<String>) {
        for host in hosts {
            self.open.remove(host);
            self.came.remove(host);
            self.networks.remove(host);
        }
    }

    fn ask(&mut self, question: Open, answer: BoxFuture<'static, Answer>) {
        let (number, host) = (self.count, question.target.name.clone());
        self.count += 1;
        self.open.insert(host.clone(), Open { number, ..question });
        self.asked.push(async move { (number, host, answer.await) }.boxed());
    }

    /// The next answer to a question that is still one. May be dropped at any await point.
    async fn next(&mut self, now: impl Fn() -> Timestamp) -> Option<(String, Came)> {
        while let Some((number, host, answer)) = self.asked.next().await {
            if self.open.get(&host).is_none_or(|open| open.number != number) {
                continue;
            }
            if let Some(question) = self.open.remove(&host) {
                if answer.is_ok() {
                    let took = now().duration_since(question.asked_at).unsigned_abs();
                    let before = self.usual.get(&host).copied().unwrap_or_default();
                    // A single quick answer says little of a host that was slow.
                    self.usual.insert(host.clone(), took.max(before / 2));
                }
                return Some((host, Came { question, answer }));
            }
        }
        None
    }

    /// Comes back when a host has answered that no pass waited for.
    pub(crate) async fn answered(&mut self, engine: &Engine) {
        while let Some((host, came)) = self.next(|| engine.world.clock.now()).await {
            let is_good = came.answer.is_ok();
            self.came.insert(host, came);
            if is_good {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether the host's networks are asked about, which takes a shell there: glances do it with one host after another.
    fn asks_about_networks(&self, host: &str, index: usize) -> bool {
        let is_its_turn = (index as u64).wrapping_add(self.glances).is_multiple_of(NETWORK_ROUNDS);
        !self.is_glance || is_its_turn || !self.networks.contains_key(host)
    }

    /// The answer, with what is known of networks where a glance did not ask about them.
    fn complete(&mut self, question: &Open, answer: Answer) -> Answer {
        let host = question.target.name.as_str();
        let mut world = answer?;
        match &world.networks {
            NetworksSeen::NotAsked if question.is_glance && question.with_networks => {
                world.networks = self.networks.get(host).cloned().unwrap_or(NetworksSeen::NotAsked);
            }
            NetworksSeen::Seen { .. } => {
                self.networks.insert(host.to_owned(), world.networks.clone());
            }
            NetworksSeen::NotAsked | NetworksSeen::Unknown { .. } => {
                self.networks.remove(host);
            }
        }
        Ok(world)
    }

    /// How long a pass waits for a host, with what it knows of the others by then.
    fn patience(&self, host: &str, slowest: Option<Duration>) -> Duration {
        let usual = self.usual.get(host).map_or(UNKNOWN, |usual| *usual * ROOM);
        slowest.map_or(UNKNOWN, |slowest| LEAST.max(slowest * ROOM)).max(usual)
    }
}

impl Engine {
    /// As [`observe_hosts`](Self::observe_hosts), without waiting for hosts that are late.
    pub(super) async fn observe_hosts_in_time(
        &self,
        snapshot: &Snapshot,
        questions: &mut Questions,
    ) -> BTreeMap<String, HostSeen> {
        let clock = self.world.clock.as_ref();
        let began = clock.now();
        let whole = self.settings.observe_deadline;
        let (mut seen, mut waited) = (BTreeMap::new(), BTreeSet::new());
        let enrolled = Self::enrolled(snapshot);
        let names: BTreeSet<&str> = enrolled.iter().map(|(host, _)| host.metadata.name.as_str()).collect();
        questions.open.retain(|host, _| names.contains(host.as_str()));
        questions.glances += u64::from(questions.is_glance);
        for (index, (host, with_networks)) in enrolled.iter().enumerate() {
            let name = &host.metadata.name;
            let target = self.leases.target(host, &self.settings);
            let is_glance = questions.is_glance;
            let is_same = |open: &Open| {
                open.target == target
                    && open.with_networks == *with_networks
                    && (is_glance || !open.is_glance)
            };
            if let Some(Came { question, answer }) = questions.came.remove(name) {
                let is_recent = began.duration_since(question.asked_at).unsigned_abs() <= whole;
                if answer.is_err() || is_same(&question) && is_recent {
                    let answer = questions.complete(&question, answer);
                    seen.insert(name.clone(), self.judge(host, &question.target, answer));
                } else {
                    // It answers: it is asked anew, and waited for.
                    self.host_health.ask_now(name);
                }
            }
            if seen.contains_key(name) || questions.open.get(name).is_some_and(is_same) {
                continue;
            }
            if let Some(known) = self.host_health.silence(name, began) {
                seen.insert(name.clone(), known);
                continue;
            }
            if !self.host_health.is_silent(name) {
                waited.insert(name.clone());
            }
            let about_networks = *with_networks && questions.asks_about_networks(name, index);
            let question = Open {
                number: 0,
                target: target.clone(),
                with_networks: *with_networks,
                is_glance,
                asked_at: began,
            };
            questions.ask(question, self.question(target, about_networks, is_glance, whole));
        }
        let by_name: BTreeMap<&str, _> =
            enrolled.iter().map(|(host, _)| (host.metadata.name.as_str(), *host)).collect();
        let mut slowest = None;
        loop {
            let elapsed = clock.now().duration_since(began).unsigned_abs();
            let patience = waited.iter().map(|host| questions.patience(host, slowest)).max();
            let left = patience.map(|patience| patience.min(whole).saturating_sub(elapsed));
            let came = match left {
                Some(left) if !left.is_zero() => {
                    match select(pin!(questions.next(|| clock.now())), clock.sleep(left)).await {
                        Either::Left((came, _)) => came,
                        Either::Right(_) => continue,
                    }
                }
                // What is there already is taken along.
                _ => questions.next(|| clock.now()).now_or_never().flatten(),
            };
            let Some((name, Came { question, answer })) = came else { break };
            if waited.remove(&name) {
                slowest = slowest.max(Some(clock.now().duration_since(began).unsigned_abs()));
            }
            if let Some(host) = by_name.get(name.as_str()) {
                let answer = questions.complete(&question, answer);
                seen.insert(name, self.judge(host, &question.target, answer));
            }
        }
        let late = clock.now().duration_since(began).unsigned_abs().as_secs();
        for name in waited {
            let Some(host) = by_name.get(name.as_str()) else { continue };
            // In the words of a question that has ended without an answer: it is the same news.
            let message = format!("observing host {name}: no answer within {late} s");
            let target = self.leases.target(host, &self.settings);
            let error = EffectError::new(EffectErrorKind::Unreachable, message);
            seen.insert(name, self.judge(host, &target, Err(error)));
        }
        // Asked again after a silence, or still asked.
        for name in
            questions.open.keys().filter(|name| !seen.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            let known = self.host_health.last_silence(&name).unwrap_or_else(|| HostSeen::Unreachable {
                reason: format!("observing host {name}: no answer yet"),
            });
            seen.insert(name, known);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use futures::{channel::oneshot, executor::block_on};
    use uuid::Uuid;

    use super::*;
    use crate::{Scope, effects::Clock as _, testing::*};

    /// An engine with a host that answers at once, and questions to it of which one hangs.
    struct Late {
        fake: Fake,
        engine: Engine,
        snapshot: Snapshot,
        questions: Questions,
        answer: Option<oneshot::Sender<Answer>>,
    }

    /// A pool that only the late answer knows.
    const LATE: Uuid = Uuid::from_u128(7);

    fn late() -> Late {
        let fake = Fake::default();
        let (_, engine) = fake.engine();
        put(&engine, vec![host("h1")]);
        let snapshot = block_on(engine.snapshot(&Scope::StoreOnly)).unwrap();
        let (answer, comes) = oneshot::channel();
        let target = engine.leases.target(snapshot.hosts.get("h1").unwrap(), &engine.settings);
        let open = Open { number: 0, target, with_networks: false, is_glance: false, asked_at: fake.now() };
        let mut questions = Questions::default();
        questions.ask(open, async { comes.await.unwrap() }.boxed());
        Late { fake, engine, snapshot, questions, answer: Some(answer) }
    }

    impl Late {
        fn look(&mut self) -> HostSeen {
            let seen = self.engine.observe_hosts_in_time(&self.snapshot, &mut self.questions);
            block_on(seen).remove("h1").unwrap()
        }

        /// The answer comes while no pass looks.
        fn comes(&mut self) {
            let world =
                HostWorld { distrusted_pools: [(LATE, String::new())].into(), ..HostWorld::default() };
            self.answer.take().unwrap().send(Ok(world)).unwrap();
            block_on(self.questions.answered(&self.engine));
        }
    }

    /// Whether a host was seen, and as the late answer tells.
    fn is_late(seen: &HostSeen) -> Option<bool> {
        match seen {
            HostSeen::Seen(world) => Some(world.distrusted_pools.contains_key(&LATE)),
            _ => None,
        }
    }

    #[test]
    fn who_is_late_is_not_waited_for_and_the_next_pass_sees_the_answer() {
        let mut late = late();
        let began = late.fake.now();
        assert_eq!(is_late(&late.look()), None);
        assert_eq!(late.fake.now(), began, "it was waited for");
        late.comes();
        assert_eq!(is_late(&late.look()), Some(true));
        // After that it is asked as ever.
        assert_eq!(is_late(&late.look()), Some(false));
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_taken() {
        // Steps ended on the host, before it answered or after.
        let mut changed = late();
        changed.questions.forget(&["h1".to_owned()].into());
        assert_eq!(is_late(&changed.look()), Some(false));
        let mut changed = late();
        changed.comes();
        changed.questions.forget(&["h1".to_owned()].into());
        assert_eq!(is_late(&changed.look()), Some(false));
        // The host was taken anew, and others may have worked on it in between.
        let mut taken = late();
        taken.comes();
        taken.engine.leases.hold("h1", 99);
        assert_eq!(is_late(&taken.look()), Some(false));
        // It is old.
        let mut old = late();
        old.comes();
        old.fake.state().now_ms += 60_000;
        assert_eq!(is_late(&old.look()), Some(false));
    }

    #[test]
    fn what_a_glance_asked_serves_no_whole_look() {
        for (was_glance, is_glance, is_taken) in
            [(true, false, false), (true, true, true), (false, true, true), (false, false, true)]
        {
            let mut late = late();
            late.questions.open.get_mut("h1").unwrap().is_glance = was_glance;
            late.comes();
            late.questions.is_glance = is_glance;
            assert_eq!(is_late(&late.look()), Some(is_taken), "{was_glance} {is_glance}");
        }
    }

    #[test]
    fn glances_ask_about_the_networks_of_one_host_after_another_and_tell_of_the_others_what_is_known() {
        let target = || {
            let fake = Fake::default();
            let (_, engine) = fake.engine();
            put(&engine, vec![host("h1")]);
            let snapshot = block_on(engine.snapshot(&Scope::StoreOnly)).unwrap();
            engine.leases.target(snapshot.hosts.get("h1").unwrap(), &engine.settings)
        };
        let open = |is_glance| Open {
            number: 0,
            target: target(),
            with_networks: true,
            is_glance,
            asked_at: Timestamp::UNIX_EPOCH,
        };
        let world = |networks| HostWorld { networks, ..HostWorld::default() };
        let seen = NetworksSeen::Seen {
            networks: BTreeMap::new(),
            foreign: BTreeSet::new(),
            hostname: "h1".to_owned(),
        };
        let mut questions = Questions { is_glance: true, ..Questions::default() };
        assert!(questions.asks_about_networks("h1", 0), "nothing is known yet");
        let told = questions.complete(&open(false), Ok(world(seen.clone()))).unwrap();
        assert_eq!(told.networks, seen);
        let turns = (0..NETWORK_ROUNDS).filter(|_| {
            questions.glances += 1;
            questions.asks_about_networks("h1", 0)
        });
        assert_eq!(turns.count(), 1);
        let told = questions.complete(&open(true), Ok(world(NetworksSeen::NotAsked))).unwrap();
        assert_eq!(told.networks, seen, "what is known");
        let unknown = NetworksSeen::Unknown { reason: "it hangs".to_owned() };
        assert_eq!(questions.complete(&open(true), Ok(world(unknown.clone()))).unwrap().networks, unknown);
        questions.glances = 1;
        assert!(questions.asks_about_networks("h1", 0), "it is not known any more");
        questions.is_glance = false;
        assert!(questions.asks_about_networks("h1", 0), "a whole look");
    }

    #[test]
    fn a_host_is_waited_for_as_long_as_it_takes_otherwise() {
        let mut questions = Questions::default();
        let seconds = Duration::from_secs;
        assert_eq!(questions.patience("h1", None), UNKNOWN);
        questions.usual.insert("h1".to_owned(), Duration::from_millis(100));
        assert_eq!(questions.patience("h1", Some(Duration::from_millis(50))), LEAST);
        assert_eq!(questions.patience("h1", Some(seconds(3))), seconds(9), "all are slow");
        questions.usual.insert("h1".to_owned(), seconds(4));
        assert_eq!(questions.patience("h1", Some(Duration::from_millis(50))), seconds(12), "it always is");
    }
}
