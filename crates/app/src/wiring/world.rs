//! Time and randomness of the real world.

use std::time::Duration;

use ashlar_engine::effects::{Clock, Entropy};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// The operating system's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The operating system's random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(
        clippy::expect_used,
        reason = "getrandom fails only on kernels without it; keys must not be made then"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        OsRng.try_fill_bytes(buffer).expect("the kernel gives random numbers");
    }
}
