//! What failed in this run, and when it may be tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ashlar_api::ObjectRef;
use ashlar_plan::{Action, Block, Plan, Step, StepState, Wait};
use jiff::Timestamp;

use crate::Settings;

/// Attempts by object and action, and hosts that are out of bounds. Lives as long as a run.
#[derive(Default)]
pub(crate) struct Retries {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attempts: BTreeMap<(ObjectRef, Action), Attempts>,
    /// What succeeded, in case that nothing comes of it.
    repeats: BTreeMap<(ObjectRef, Action), Repeats>,
    /// Hosts that refused us for good, and since when.
    stopped: BTreeMap<String, (Block, Timestamp)>,
}

struct Attempts {
    count: u32,
    not_before: Timestamp,
    held: Held,
}

struct Repeats {
    count: u32,
    last: Timestamp,
    /// Why it was done: for another reason it may be done again.
    why: String,
}

/// So often in a row the same may be done for the same reason before it has to wait.
const REPEATS: u32 = 3;

enum Held {
    Wait(Wait),
    Block(Block),
}

impl Retries {
    /// Notes a failure that may pass; says whether it is tried again by itself.
    pub(crate) fn failed(&self, step: &Step, message: &str, now: Timestamp, settings: &Settings) -> bool {
        let Some(key) = key(step) else { return false };
        let mut state = self.lock();
        let attempts = state.attempts.entry(key).or_insert(Attempts {
            count: 0,
            not_before: now,
            held: Held::Wait(Wait { reason: String::new(), message: String::new() }),
        });
        attempts.count += 1;
        if attempts.count >= settings.attempts {
            attempts.held = Held::Block(Block {
                reason: "RetriesExhausted".to_owned(),
                message: format!("{message} (after {} attempts)", attempts.count),
            });
            return false;
        }
        let pause = pause(attempts.count, settings);
        attempts.not_before = now.checked_add(pause).unwrap_or(now);
        attempts.held = Held::Wait(Wait {
            reason: "Retrying".to_owned(),
            message: format!("{message}; attempt {} follows in {} s", attempts.count + 1, pause.as_secs()),
        });
        true
    }

    /// Notes that something is not to be done again for a while although it succeeded, because its effect takes time.
    pub(crate) fn rest(&self, step: &Step, wait: Wait, until: Timestamp) {
        if let Some(key) = key(step) {
            let attempts = Attempts { count: 0, not_before: until, held: Held::Wait(wait) };
            self.lock().attempts.insert(key, attempts);
        }
    }

    /// Notes what only a person can help; it is not tried again in this run.
    pub(crate) fn blocked(&self, step: &Step, block: Block, now: Timestamp) {
        if let Some(key) = key(step) {
            let attempts = Attempts { count: 0, not_before: now, held: Held::Block(block) };
            self.lock().attempts.insert(key, attempts);
        }
    }

    /// Notes that a host is out of bounds for the rest of the run.
    pub(crate) fn stop_host(&self, host: &str, block: Block, now: Timestamp) {
        self.lock().stopped.entry(host.to_owned()).or_insert((block, now));
    }

    /// Forgets what is older than `rest`, so that the daemon tries again what blocked it; says which hosts may be used
    /// again.
    pub(crate) fn forget_older(&self, rest: Duration, now: Timestamp, settings: &Settings) -> Vec<String> {
        let is_young = |since: Timestamp, age: Duration| {
            jiff::SignedDuration::try_from(age).is_ok_and(|age| now.duration_since(since) < age)
        };
        let mut state = self.lock();
        state.attempts.retain(|_, attempts| is_young(attempts.not_before, rest));
        state.repeats.retain(|_, repeats| is_young(repeats.last, settings.backoff_limit * 2));
        let (stopped, freed) = std::mem::take(&mut state.stopped)
            .into_iter()
            .partition(|(_, (_, since))| is_young(*since, rest));
        state.stopped = stopped;
        BTreeMap::into_keys(freed).collect()
    }

    /// Forgets everything, as a new run does; says which hosts may be used again.
    pub(crate) fn forget_all(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock()).stopped.into_keys().collect()
    }

    /// Forgets what led to a success. One whose effect is never seen (a host that shows what was, or somebody who undoes
    /// it at once) is repeated with growing pauses, as a failure is.
    pub(crate) fn succeeded(&self, step: &Step, now: Timestamp, settings: &Settings) {
        let Some(key) = key(step) else { return };
        let mut state = self.lock();
        state.attempts.remove(&key);
        let new = || Repeats { count: 0, last: now, why: step.why.clone() };
        let repeats = state.repeats.entry(key.clone()).or_insert_with(new);
        if repeats.why != step.why
            || now.duration_since(repeats.last).unsigned_abs() > settings.backoff_limit * 2
        {
            *repeats = new();
        }
        repeats.count += 1;
        repeats.last = now;
        if repeats.count >= REPEATS {
            let pause = pause(repeats.count - REPEATS + 1, settings);
            let message = format!(
                "it was done {} times, and what should have come of it is not seen on {}: does that host tell what is \
                 so now, or does somebody undo it?",
                repeats.count,
                if step.host.is_empty() { "its cluster" } else { &step.host }
            );
            let held = Held::Wait(Wait { reason: "WithoutEffect".to_owned(), message });
            let not_before = now.checked_add(pause).unwrap_or(now);
            state.attempts.insert(key, Attempts { count: 0, not_before, held });
        }
    }

    /// Holds steps of the plan that may not be taken now. What comes after a held step of the same object waits for it.
    pub(crate) fn hold(&self, plan: &mut Plan, now: Timestamp) {
        let state = self.lock();
        if state.attempts.is_empty() && state.stopped.is_empty() {
            return;
        }
        let mut held: BTreeSet<ObjectRef> = BTreeSet::new();
        for step in plan.steps.iter_mut().filter(|step| step.state == StepState::Ready) {
            if held.contains(&step.object) {
                let message = "comes after the step before it".to_owned();
                step.state = StepState::Waiting(Wait { reason: "EarlierStep".to_owned(), message });
            } else if let Some(new) = state.holds(step, now) {
                step.state = new;
                held.insert(step.object.clone());
            }
        }
    }

    /// When the next held step may be tried.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.lock();
        let waiting = state.attempts.values().filter(|attempts| matches!(attempts.held, Held::Wait(_)));
        waiting.map(|attempts| attempts.not_before).filter(|time| *time > now).min()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, step: &Step, now: Timestamp) -> Option<StepState> {
        if let Some((block, _)) = self.stopped.get(&step.host) {
            return Some(StepState::Blocked(block.clone()));
        }
        let attempts = self.attempts.get(&key(step)?)?;
        match &attempts.held {
            Held::Block(block) => Some(StepState::Blocked(block.clone())),
            Held::Wait(wait) if now < attempts.not_before => Some(StepState::Waiting(wait.clone())),
            Held::Wait(_) => None,
        }
    }
}

fn key(step: &Step) -> Option<(ObjectRef, Action)> {
    Some((step.object.clone(), step.action.clone()?))
}

/// First pause doubled with each further failure, up to the limit.
fn pause(failures: u32, settings: &Settings) -> Duration {
    let factor = 1u32 << failures.saturating_sub(1).min(16);
    settings.backoff_first.saturating_mul(factor).min(settings.backoff_limit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use ashlar_api::{Kind, NamespacedName};
    use ashlar_plan::Report;

    use super::*;

    fn step(name: &str) -> Step {
        Step {
            object: ObjectRef::new(Kind::Machine, "default", name),
            host: "h1".to_owned(),
            action: Some(Action::StartDomain { machine: NamespacedName::new("default", name) }),
            state: StepState::Ready,
            why: String::new(),
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan { decisions: Vec::new(), steps, report: Report::default() }
    }

    #[test]
    fn what_succeeds_again_and_again_has_to_wait_longer_and_longer() {
        let (retries, settings) = (Retries::default(), Settings::new(uuid::Uuid::nil()));
        for second in 0..2 {
            retries.succeeded(&step("a"), at(second), &settings);
            assert_eq!(state_at(&retries, second), StepState::Ready);
        }
        for (second, next) in [(2, 3), (3, 5), (5, 9)] {
            retries.succeeded(&step("a"), at(second), &settings);
            let StepState::Waiting(wait) = state_at(&retries, next - 1) else { panic!("it does not wait") };
            assert_eq!(wait.reason, "WithoutEffect");
            assert_eq!(state_at(&retries, next), StepState::Ready);
        }
        // For another reason it is done at once.
        retries.succeeded(&Step { why: "another".to_owned(), ..step("a") }, at(9), &settings);
        assert_eq!(state_at(&retries, 9), StepState::Ready);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state_at(retries: &Retries, second: i64) -> StepState {
        let mut plan = plan(vec![step("a")]);
        retries.hold(&mut plan, at(second));
        plan.steps.remove(0).state
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_attempts_are_bounded() {
        let settings = Settings::new(uuid::Uuid::nil());
        let retries = Retries::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        while retries.failed(&step("a"), "no answer", at(now), &settings) {
            assert!(matches!(state_at(&retries, now), StepState::Waiting(_)));
            let next = retries.next(at(now)).unwrap().as_second();
            assert_eq!(state_at(&retries, next), StepState::Ready);
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses.len() as u32, settings.attempts - 1);
        assert!(
            matches!(state_at(&retries, now + 1000), StepState::Blocked(block) if block.reason == "RetriesExhausted")
        );
    }

    #[test]
    fn a_success_starts_anew() {
        let settings = Settings::new(uuid::Uuid::nil());
        let retries = Retries::default();
        retries.failed(&step("a"), "busy", at(0), &settings);
        retries.succeeded(&step("a"), at(0), &settings);
        assert_eq!(state_at(&retries, 0), StepState::Ready);
    }

    #[test]
    fn what_follows_a_held_step_waits_and_other_objects_go_on() {
        let retries = Retries::default();
        let block = Block { reason: "NameTaken".to_owned(), message: "taken".to_owned() };
        retries.blocked(&step("a"), block.clone(), at(0));
        let mut later = step("a");
        later.action = Some(Action::EjectSeed { machine: NamespacedName::new("default", "a") });
        let mut plan = plan(vec![step("a"), later, step("b")]);
        retries.hold(&mut plan, at(0));
        assert_eq!(plan.steps[0].state, StepState::Blocked(block));
        assert!(matches!(&plan.steps[1].state, StepState::Waiting(wait) if wait.reason == "EarlierStep"));
        assert_eq!(plan.steps[2].state, StepState::Ready);
    }

    #[test]
    fn a_stopped_host_stops_all_of_its_steps() {
        let retries = Retries::default();
        retries.stop_host("h1", Block { reason: "Fenced".to_owned(), message: "fenced".to_owned() }, at(0));
        assert!(matches!(state_at(&retries, 0), StepState::Blocked(block) if block.reason == "Fenced"));
    }

    #[test]
    fn what_blocked_is_tried_again_after_a_rest() {
        let (retries, settings) = (Retries::default(), Settings::new(uuid::Uuid::nil()));
        let rest = Duration::from_secs(300);
        retries.stop_host("h1", Block { reason: "Fenced".to_owned(), message: "fenced".to_owned() }, at(0));
        let block = Block { reason: "NameTaken".to_owned(), message: "taken".to_owned() };
        retries.blocked(&Step { host: "h2".to_owned(), ..step("b") }, block, at(0));
        assert!(retries.forget_older(rest, at(299), &settings).is_empty());
        assert!(matches!(state_at(&retries, 299), StepState::Blocked(_)));
        assert_eq!(retries.forget_older(rest, at(300), &settings), ["h1"]);
        assert_eq!(state_at(&retries, 300), StepState::Ready);
        assert!(retries.lock().attempts.is_empty(), "what was tried long ago takes no room");
        // A pause that is not over is kept.
        retries.failed(&step("a"), "busy", at(300), &settings);
        retries.forget_older(Duration::ZERO, at(300), &settings);
        assert!(matches!(state_at(&retries, 300), StepState::Waiting(_)));
        retries.forget_all();
        assert_eq!(state_at(&retries, 300), StepState::Ready);
    }
}
