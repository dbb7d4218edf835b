//! The processes of Ashlar: what each has done, and what is going to happen to it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ashlar_api::NamespacedName;
use jiff::{SignedDuration, Timestamp};

use super::CallFault;
use crate::{SimWorld, State};

/// Before or after an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The call is never made.
    Before,
    /// The call took effect, and nobody heard the answer.
    After,
}

/// Where Ashlar crashes: at the n-th outside call or store commit, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Which one.
    pub effect: u64,
    /// When.
    pub moment: Moment,
}

/// All processes that may run at once.
pub(crate) type Processes = [Fate; 2];

/// What a process has done and what becomes of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) crash: Option<CrashPoint>,
    /// Outside calls that may change something, and commits.
    pub(crate) count: u64,
    pub(crate) crashed: bool,
    /// Right before that effect it is frozen for so long.
    pub(crate) freeze: Option<(u64, SignedDuration)>,
    pub(crate) frozen_until: Option<Timestamp>,
    /// When it last fell asleep: what it does right after it woke it had decided before.
    pub(crate) asleep_since: Option<Timestamp>,
    /// Who voted then, as [`State::etcd_votes`] tells it.
    pub(crate) votes_when_asleep: BTreeMap<NamespacedName, (usize, usize)>,
    /// When it last woke.
    pub(crate) woke_at: Option<Timestamp>,
    /// What goes wrong with single calls, by number.
    pub(crate) faults: BTreeMap<u64, CallFault>,
    /// What goes wrong with all of them.
    pub(crate) always: Option<CallFault>,
}

/// What a report calls it that one of two daemons leads after the other.
pub(crate) const TAKEOVER: &str = "take over";

/// How an effect begins.
pub(crate) struct Begun {
    pub(crate) number: u64,
    pub(crate) crash: Option<Moment>,
    pub(crate) fault: Option<CallFault>,
    pub(crate) freezes: bool,
}

impl State {
    /// What ran is over; what comes next is a new process, to which nothing is going to happen yet.
    pub(crate) fn end_processes(&mut self) {
        self.effects += self.processes.iter().map(|process| process.count).sum::<u64>();
        self.processes = Processes::default();
        self.ended_at = Some(self.now);
    }

    /// A process is about to make an effect: an outside call, or a commit, which goes well: the store is a file, which is
    /// written or is not.
    pub(crate) fn begin_effect(&mut self, process: usize, name: &str, is_call: bool) -> Begun {
        let now = self.now;
        let falls_asleep = {
            let fate = &self.processes[process];
            fate.freeze.is_some_and(|(effect, _)| effect == fate.count)
        };
        let votes = if falls_asleep { self.all_votes() } else { BTreeMap::default() };
        let fate = &mut self.processes[process];
        let number = fate.count;
        fate.count += 1;
        let crash = fate.crash.filter(|point| point.effect == number).map(|point| point.moment);
        if crash == Some(Moment::Before) {
            fate.crashed = true;
        }
        let fault = fate.faults.remove(&number).or(fate.always).filter(|_| is_call);
        let freeze = fate.freeze.take_if(|(effect, _)| *effect == number);
        if let Some((_, time)) = freeze {
            fate.frozen_until = now.checked_add(time).ok();
            fate.asleep_since = Some(now);
            fate.votes_when_asleep = votes;
        }
        let begun = Begun { number, crash, fault, freezes: freeze.is_some() };
        self.cover(name, "made");
        if let Some(moment) = crash {
            self.cover(name, if moment == Moment::Before { "killed before" } else { "killed after" });
        } else if let Some(fault) = fault {
            self.cover(name, fault.column());
        }
        if begun.freezes {
            self.cover(name, "frozen before");
        }
        begun
    }

    /// Another daemon leads in place of this process: for what happened to it.
    pub(crate) fn cover_takeover(&mut self, before: usize, was_cut: bool) {
        let now = self.now;
        let fate = &self.processes[before];
        let why = match (fate.crashed, fate.crash.map(|point| point.moment)) {
            (true, Some(Moment::After)) => Some("killed after"),
            (true, _) => Some("killed before"),
            _ if fate.frozen_until.is_some_and(|until| now < until) => Some("frozen before"),
            _ => was_cut.then_some("cut"),
        };
        self.cover(TAKEOVER, "made");
        if let Some(why) = why {
            self.cover(TAKEOVER, why);
        }
    }

    /// Notes that something went wrong with an action: what a search has tried.
    pub(crate) fn cover(&mut self, action: &str, fault: &'static str) {
        match self.coverage.get_mut(action) {
            Some(row) => *row.entry(fault).or_default() += 1,
            None => drop(self.coverage.insert(action.to_owned(), BTreeMap::from([(fault, 1)]))),
        }
    }
}

/// One Ashlar as the executor polls it. It is killed, and frozen, apart from others; killed, it gives nothing.
pub(crate) struct Process<'a, T> {
    world: SimWorld,
    future: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
}

impl<'a, T> Process<'a, T> {
    pub(crate) fn new(world: SimWorld, future: impl Future<Output = T> + 'a) -> Self {
        Process { world, future: Some(Box::pin(future)) }
    }
}

impl<T> Future for Process<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let process = self.world.process;
        {
            let mut state = self.world.state();
            let now = state.now;
            if let Some(until) = state.processes[process].frozen_until {
                if now < until {
                    // Numbers of timers count up from 0: these are never reached.
                    state.sleepers.insert(u64::MAX - process as u64, (until, context.waker().clone()));
                    return Poll::Pending;
                }
                state.processes[process].frozen_until = None;
                state.processes[process].woke_at = Some(now);
                state.note("* Ashlar goes on after its sleep");
            }
        }
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        let polled = future.as_mut().poll(context);
        let crashed = self.world.state().processes[process].crashed;
        match polled {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if crashed => {
                // Its timers and lanes end with it.
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
