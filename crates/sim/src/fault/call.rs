//! Calls, and what goes wrong with them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_engine::effects::{Clock as _, EffectError, EffectErrorKind, HostTarget};
use jiff::{SignedDuration, Timestamp};

use super::Moment;
use crate::{SimWorld, State};

/// What goes wrong with one call that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// It never arrives, and nobody answers.
    Lost,
    /// It never arrives, and an error comes back at once.
    Cut,
    /// It takes effect, and nobody answers.
    Unanswered,
    /// It takes effect, and an error comes back.
    Failed,
    /// It arrives, and is answered, after so many seconds; not at all if its caller has given up by then.
    Slow(u32),
    /// It takes effect after so many seconds, whether its caller still waits or not.
    Late(u32),
    /// It takes effect at once, and its answer comes after so many seconds: after those of calls made later.
    AnsweredLate(u32),
    /// It arrives twice; the second answer is heard.
    Twice,
    /// What it writes arrives damaged.
    Damaged,
}

impl CallFault {
    /// All kinds, by their columns in reports.
    pub const COLUMNS: [&'static str; 9] =
        ["lost", "cut", "unanswered", "failed", "slow", "late", "answered late", "twice", "damaged"];

    /// Its column in reports.
    pub fn column(self) -> &'static str {
        match self {
            CallFault::Lost => "lost",
            CallFault::Cut => "cut",
            CallFault::Unanswered => "unanswered",
            CallFault::Failed => "failed",
            CallFault::Slow(_) => "slow",
            CallFault::Late(_) => "late",
            CallFault::AnsweredLate(_) => "answered late",
            CallFault::Twice => "twice",
            CallFault::Damaged => "damaged",
        }
    }
}

/// A call on its way: it takes effect at its time, or when its host goes on.
#[derive(Clone)]
pub(crate) struct Late {
    /// None: once its host is not frozen any more.
    pub(crate) at: Option<Timestamp>,
    pub(crate) host: String,
    /// Who made it, and what it is.
    made: (usize, &'static str),
    call: Call,
}

/// Shared, because the world that it is on its way in may be copied.
type Call = Arc<Mutex<dyn FnMut(&mut State) + Send>>;

impl State {
    /// Lets calls take effect whose time has come.
    pub(crate) fn deliver(&mut self) {
        while let Some(index) = self.late.iter().position(|late| late.at.is_some_and(|at| at <= self.now)) {
            let late = self.late.remove(index);
            self.note(format!("* a call to {} that was on its way takes effect", late.host));
            // What was right when it was asked for is no fault of who asked: only what the world comes to is judged.
            self.oracle.forgiving = true;
            (late.call.lock().unwrap_or_else(PoisonError::into_inner))(self);
            self.oracle.forgiving = false;
            self.check_step();
        }
    }

    /// Uploads of one process to one host have one connection, and go one after the other: the next one begins when the last
    /// one has arrived.
    fn deliver_before(&mut self, next: (usize, &'static str), host: &str) {
        let now = self.now;
        if next.1 == UPLOAD {
            for late in self.late.iter_mut().filter(|late| late.made == next && late.host == host) {
                late.at = late.at.map(|_| now);
            }
            self.deliver();
        }
    }

    /// A host that was frozen goes on: what was sent to it meanwhile arrives now, the last first if so asked.
    pub(crate) fn release_calls(&mut self, host: &str, reversed: bool) {
        let now = self.now;
        if reversed {
            self.late.reverse();
        }
        for late in self.late.iter_mut().filter(|late| late.host == host) {
            late.at.get_or_insert(now);
        }
    }
}

const UPLOAD: &str = "upload_volume";

/// Who comes without a token changes nothing.
pub(crate) fn visitor(host: &str) -> EffectError {
    let message = format!("host {host}: who comes without a lease changes nothing there");
    EffectError::new(EffectErrorKind::Refused, message)
}

fn lost_connection(name: &str, host: &str) -> EffectError {
    EffectError::new(EffectErrorKind::Unreachable, format!("{host}: {name}: the connection was lost"))
}

impl SimWorld {
    /// A host that hangs answers nothing until it goes on; one whose daemon is started again breaks all connections.
    pub(crate) async fn while_hung(&self, host: &HostTarget) -> Result<(), EffectError> {
        self.state().turn(host);
        self.while_host(host, |host| host.hung || host.frozen).await
    }

    async fn while_host(
        &self,
        host: &HostTarget,
        holds: impl Fn(&crate::SimHost) -> bool,
    ) -> Result<(), EffectError> {
        let daemon = |state: &State| state.host_at(host).map(|host| host.daemon_starts);
        let before = daemon(&self.state());
        while self.state().host_at(host).is_some_and(&holds) {
            self.sleep(Duration::from_secs(1)).await;
            if daemon(&self.state()) != before {
                return Err(lost_connection("libvirtd was started anew", &format!("host {}", host.name)));
            }
        }
        Ok(())
    }

    /// A call to one host that changes nothing there. It is no crash point: a crash right before it is one right
    /// after the last change, and one right after it is one right before the next.
    pub(crate) async fn look<T>(
        &self,
        host: &HostTarget,
        call: impl FnOnce(&mut State) -> Result<T, EffectError>,
    ) -> Result<T, EffectError> {
        self.while_hung(host).await?;
        let result = call(&mut self.state());
        self.while_host(host, |host| host.mute).await?;
        YieldOnce(false).await;
        result
    }

    /// As [`Self::look`], for an API server.
    pub(crate) async fn look_at_api<T>(&self, call: impl FnOnce(&mut State) -> T) -> T {
        let result = call(&mut self.state());
        YieldOnce(false).await;
        result
    }

    /// One call that changes a host: it is counted and noted where it took effect.
    pub(crate) async fn change(
        &self,
        host: &HostTarget,
        name: &'static str,
        what: String,
        mut call: impl FnMut(&mut State) -> Result<(), EffectError> + Send + 'static,
    ) -> Result<(), EffectError> {
        let place = host.name.clone();
        let (target, is_visitor) = (host.name.clone(), host.lease_token.is_none());
        let (process, token) = (self.process, host.lease_token.unwrap_or_default());
        let slow_of = |seen: &crate::SimHost| match name {
            "zero_volume" => seen.slow_s.max(seen.disk_slow_s).max(seen.overwrite_s),
            name if name.ends_with("_volume") => seen.slow_s.max(seen.disk_slow_s),
            _ => seen.slow_s,
        };
        let is_slow = self.state().host_at(host).map_or(0, slow_of) > 0;
        let asked_at = self.state().now;
        let mut asked_votes = if is_slow { self.state().all_votes() } else { BTreeMap::default() };
        let noted = move |state: &mut State| {
            if is_visitor {
                return Err(visitor(&target));
            }
            state.count_mutation(name);
            state.oracle.asked_at = (asked_at < state.now).then_some(asked_at);
            std::mem::swap(&mut state.oracle.asked_votes, &mut asked_votes);
            let result = call(state);
            std::mem::swap(&mut state.oracle.asked_votes, &mut asked_votes);
            state.oracle.asked_at = None;
            match &result {
                Ok(()) => {
                    state.oracle.hear_writer(&place, token, process);
                    state.note(format!("{place}: {name} {what}"));
                }
                Err(error) => state.note(format!("{place}: {name} {what} failed: {error}")),
            }
            result
        };
        let is_frozen = self.state().host_at(host).is_some_and(|seen| seen.frozen);
        if !is_frozen {
            self.while_hung(host).await?;
        }
        let slow_s = self.state().host_at(host).map_or(0, slow_of);
        if slow_s > 0 {
            self.take(&host.name, name, slow_s.into()).await?;
        }
        let result = self.effect(name, &host.name, noted).await;
        self.while_host(host, |host| host.mute).await?;
        result
    }

    /// Makes one outside call that may change something: counts it, and crashes before or after it where the crash point
    /// says so. A crash is a future that never comes back: its process sees the flag and drops the engine.
    pub(crate) async fn effect<T: Send + 'static>(
        &self,
        name: &'static str,
        place: &str,
        mut call: impl FnMut(&mut State) -> Result<T, EffectError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let begun = self.state().begin_effect(self.process, name, true);
        self.state().record(begun.number, Moment::Before);
        if begun.crash == Some(Moment::Before) {
            return std::future::pending().await;
        }
        if begun.freezes {
            self.state().note("* Ashlar sleeps");
            YieldOnce(false).await;
        }
        let fault = if begun.crash.is_some() { None } else { begun.fault };
        if let Some(fault) = fault {
            self.state().note(format!("* the call {name} to {place} goes wrong: {fault:?}"));
        }
        let is_frozen = self.state().hosts.get(place).is_some_and(|host| host.frozen);
        let made = (self.process, name);
        self.state().deliver_before(made, place);
        let result = match fault {
            _ if is_frozen => self.send(None, place, made, call).await,
            Some(CallFault::Lost) => std::future::pending().await,
            Some(CallFault::Cut) => Err(lost_connection(name, place)),
            Some(CallFault::Unanswered) => {
                drop(self.arrive(&mut call, begun.number));
                std::future::pending().await
            }
            Some(CallFault::Failed) => {
                drop(self.arrive(&mut call, begun.number));
                Err(lost_connection(name, place))
            }
            Some(CallFault::Slow(seconds)) => match self.take(place, name, seconds.into()).await {
                Ok(()) => self.arrive(&mut call, begun.number),
                Err(lost) => Err(lost),
            },
            Some(CallFault::Late(seconds)) => {
                let at = self.state().now.saturating_add(SignedDuration::from_secs(seconds.into()));
                self.send(Some(at.unwrap_or(Timestamp::MAX)), place, made, call).await
            }
            Some(CallFault::AnsweredLate(seconds)) => {
                let result = self.arrive(&mut call, begun.number);
                self.sleep(Duration::from_secs(seconds.into())).await;
                result
            }
            Some(CallFault::Twice) => {
                drop(self.arrive(&mut call, begun.number));
                self.arrive(&mut call, begun.number)
            }
            Some(CallFault::Damaged) => {
                self.state().damages = true;
                let result = self.arrive(&mut call, begun.number);
                self.state().damages = false;
                result
            }
            None => self.arrive(&mut call, begun.number),
        };
        if begun.crash == Some(Moment::After) {
            self.state().processes[self.process].crashed = true;
            return std::future::pending().await;
        }
        // One trip through the executor a call, so that concurrent work interleaves.
        YieldOnce(false).await;
        result
    }

    /// It is under way for so long; a host that loses its power meanwhile never does it.
    async fn take(&self, place: &str, name: &str, seconds: u64) -> Result<(), EffectError> {
        let cuts = || self.state().hosts.get(place).map(|host| host.power_cuts);
        let before = cuts();
        self.sleep(Duration::from_secs(seconds)).await;
        if cuts() == before { Ok(()) } else { Err(lost_connection(name, place)) }
    }

    /// It takes effect now.
    fn arrive<T>(&self, call: &mut impl FnMut(&mut State) -> T, number: u64) -> T {
        let mut state = self.state();
        let result = call(&mut state);
        state.check_step();
        state.record(number, Moment::After);
        result
    }

    /// It takes effect later, whether its caller still waits or not.
    async fn send<T: Send + 'static>(
        &self,
        at: Option<Timestamp>,
        place: &str,
        made: (usize, &'static str),
        mut call: impl FnMut(&mut State) -> T + Send + 'static,
    ) -> T {
        let answer = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&answer);
        let call = move |state: &mut State| {
            let result = call(state);
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        };
        self.state().late.push(Late { at, host: place.to_owned(), made, call: Arc::new(Mutex::new(call)) });
        loop {
            self.sleep(Duration::from_secs(1)).await;
            if let Some(result) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return result;
            }
        }
    }

    /// A crash point that is no outside call: a store commit is about to be made.
    pub(crate) async fn before_commit(&self, name: &str) -> Option<Moment> {
        let begun = self.state().begin_effect(self.process, name, false);
        self.state().record(begun.number, Moment::Before);
        if begun.crash == Some(Moment::Before) {
            std::future::pending::<()>().await;
        }
        if begun.freezes {
            self.state().note("* Ashlar sleeps");
            YieldOnce(false).await;
        }
        begun.crash
    }

    /// The commit was made; nobody has heard of it yet.
    pub(crate) async fn after_commit(&self, crash: Option<Moment>) {
        let number = {
            let mut state = self.state();
            let fate = &mut state.processes[self.process];
            fate.crashed |= crash == Some(Moment::After);
            fate.count.saturating_sub(1)
        };
        self.state().record(number, Moment::After);
        if crash == Some(Moment::After) {
            std::future::pending::<()>().await;
        }
    }
}

/// Comes back at the second poll.
struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
