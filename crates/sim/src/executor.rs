//! A deterministic executor: one thread, virtual time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use jiff::SignedDuration;

use crate::SimWorld;

/// How a run under the executor ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// The future came back.
    Done(T),
    /// It was killed.
    Crashed,
    /// It waits for something that no timer will bring: a deadlock.
    Stuck,
    /// An invariant was violated; the future was dropped at that step.
    Violated,
}

struct Flag {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls the future until it is done; when it only waits for time, time jumps to the next timer.
pub fn run<T>(world: &SimWorld, future: impl Future<Output = T>) -> Ended<T> {
    run_beside(world, future, || false)
}

/// As [`run`], beside something in other threads. As long as that is under way, time stands still, and who waits for it
/// is woken.
pub fn run_beside<T>(
    world: &SimWorld,
    future: impl Future<Output = T>,
    is_under_way: impl Fn() -> bool,
) -> Ended<T> {
    let flag = Arc::new(Flag { woken: AtomicBool::new(false), thread: thread::current() });
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    world.state().sleepers.clear();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ended::Done(value);
        }
        let mut state = world.state();
        if !state.violations().is_empty() {
            return Ended::Violated;
        }
        if flag.woken.swap(false, Ordering::Acquire) {
            continue;
        }
        if is_under_way() {
            drop(state);
            thread::park();
            continue;
        }
        // Nothing can go on at this moment: time moves.
        let Some(next) = state.sleepers.values().map(|(until, _)| *until).min() else { return Ended::Stuck };
        let step = next.duration_since(state.now);
        state.advance(if step.is_positive() { step } else { SignedDuration::ZERO });
        let now = state.now;
        let mut due = Vec::new();
        state.sleepers.retain(|_, (until, waker)| {
            let is_due = *until <= now;
            if is_due {
                due.push(waker.clone());
            }
            !is_due
        });
        drop(state);
        for waker in due {
            waker.wake();
        }
    }
}
