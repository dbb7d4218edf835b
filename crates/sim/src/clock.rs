//! Virtual time and seeded randomness.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_engine::effects::{Clock, Entropy};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::SimWorld;

#[async_trait]
impl Clock for SimWorld {
    fn now(&self) -> Timestamp {
        let state = self.state();
        state.now.saturating_add(state.clock_error).unwrap_or(state.now)
    }

    async fn sleep(&self, duration: Duration) {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let sleep = {
            let mut state = self.state();
            state.last_sleeper += 1;
            let until = state.now.saturating_add(duration).unwrap_or(Timestamp::MAX);
            Sleep { world: self.clone(), until, number: state.last_sleeper }
        };
        sleep.await;
    }
}

/// A timer; one that is dropped does not wake anybody, and does not keep time from jumping further.
struct Sleep {
    world: SimWorld,
    until: Timestamp,
    number: u64,
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.number, (self.until, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.world.state().sleepers.remove(&self.number);
    }
}

impl Entropy for SimWorld {
    fn fill(&self, buffer: &mut [u8]) {
        self.state().random(buffer);
    }
}
