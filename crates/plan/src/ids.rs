//! Where the planner gets random values from.

use uuid::Uuid;

/// A source of random values. Production seeds it from the operating system for every pass; tests and the
/// simulation seed it with a number. Each object draws from its own stream (named by `purpose`), so that one
/// more object does not change the ids of the others.
pub trait Ids {
    /// 128 random bits for the given purpose, such as `machine/default/demo-ctrl-1/domain`.
    fn bits(&mut self, purpose: &str) -> u128;

    /// A random UUID (version 4).
    fn uuid(&mut self, purpose: &str) -> Uuid {
        uuid::Builder::from_random_bytes(self.bits(purpose).to_be_bytes()).into_uuid()
    }
}
