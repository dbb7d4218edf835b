//! Time and randomness.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Time, virtual in the simulation.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Comes back after the duration.
    async fn sleep(&self, duration: Duration);
}

/// Randomness.
pub trait Entropy: Send + Sync {
    /// Fills the buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}
