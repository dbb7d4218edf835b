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
        self.state().now
    }

    async fn sleep(&self, duration: Duration) {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let until = self.state().now.saturating_add(duration).unwrap_or(Timestamp::MAX);
        Sleep { world: self.clone(), until }.await;
    }
}

struct Sleep {
    world: SimWorld,
    until: Timestamp,
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.push((self.until, context.waker().clone()));
        Poll::Pending
    }
}

impl Entropy for SimWorld {
    fn fill(&self, buffer: &mut [u8]) {
        self.state().random(buffer);
    }
}
