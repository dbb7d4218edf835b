//! Crashes of Ashlar at a chosen effect.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_engine::effects::{Clock as _, HostTarget};

use crate::SimWorld;

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

#[derive(Clone, Debug, Default)]
pub(crate) struct Crash {
    pub(crate) point: Option<CrashPoint>,
    pub(crate) count: u64,
    pub(crate) crashed: bool,
}

impl SimWorld {
    /// A host that hangs answers nothing until it goes on.
    pub(crate) async fn while_hung(&self, host: &HostTarget) {
        let hangs = || self.state().hosts.get(&host.name).is_some_and(|host| host.hung);
        while hangs() {
            self.sleep(Duration::from_secs(1)).await;
        }
    }

    /// A call to one host that changes nothing there. It is no crash point: a crash right before it is one right
    /// after the last change, and one right after it is one right before the next.
    pub(crate) async fn look<T>(&self, host: &HostTarget, call: impl FnOnce(&mut crate::State) -> T) -> T {
        self.while_hung(host).await;
        let result = call(&mut self.state());
        YieldOnce(false).await;
        result
    }

    /// As [`Self::look`], for an API server.
    pub(crate) async fn look_at_api<T>(&self, call: impl FnOnce(&mut crate::State) -> T) -> T {
        let result = call(&mut self.state());
        YieldOnce(false).await;
        result
    }

    /// Makes one outside call that may change something: counts it, and crashes before or after it where the crash point says so.
    /// A crash is a future that never comes back: the executor sees the flag and drops the engine.
    pub(crate) async fn effect<T>(&self, call: impl FnOnce(&mut crate::State) -> T) -> T {
        let moment = {
            let crash = &mut self.state().crash;
            let moment = crash.point.filter(|point| point.effect == crash.count).map(|point| point.moment);
            crash.count += 1;
            if moment == Some(Moment::Before) {
                crash.crashed = true;
            }
            moment
        };
        self.state().record(Moment::Before);
        if moment == Some(Moment::Before) {
            return std::future::pending().await;
        }
        let result = {
            let mut state = self.state();
            let result = call(&mut state);
            state.check_step();
            state.record(Moment::After);
            result
        };
        if moment == Some(Moment::After) {
            self.state().crash.crashed = true;
            return std::future::pending().await;
        }
        // One trip through the executor a call, so that concurrent work interleaves.
        YieldOnce(false).await;
        result
    }
}

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

impl SimWorld {
    /// A crash point that is no outside call: a store commit is about to be made.
    pub(crate) async fn before_commit(&self) {
        self.state().crash.count += 1;
        self.state().record(Moment::Before);
        self.state().crash.count -= 1;
        let crashes = {
            let crash = &mut self.state().crash;
            let point = crash.point.filter(|point| point.effect == crash.count);
            let crashes = point.is_some_and(|point| point.moment == Moment::Before);
            crash.crashed |= crashes;
            crashes
        };
        if crashes {
            std::future::pending::<()>().await;
        }
    }

    /// The commit was made; nobody has heard of it yet.
    pub(crate) async fn after_commit(&self) {
        let crashes = {
            let crash = &mut self.state().crash;
            let point = crash.point.filter(|point| point.effect == crash.count);
            let crashes = point.is_some_and(|point| point.moment == Moment::After);
            crash.crashed |= crashes;
            crash.count += 1;
            crashes
        };
        self.state().record(Moment::After);
        if crashes {
            std::future::pending::<()>().await;
        }
    }
}
