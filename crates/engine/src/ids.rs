//! Random ids for one pass of planning.

use std::collections::BTreeMap;

use ashlar_plan::Ids;
use sha2::{Digest, Sha256};

use crate::effects::Entropy;

/// Ids from one random seed: every purpose has a stream of its own, so that one more object does not change the
/// ids of the others.
pub(crate) struct RandomIds {
    seed: [u8; 32],
    drawn: BTreeMap<String, u64>,
}

impl RandomIds {
    /// Draws a fresh seed.
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        RandomIds { seed, drawn: BTreeMap::new() }
    }
}

impl Ids for RandomIds {
    fn bits(&mut self, purpose: &str) -> u128 {
        let count = self.drawn.entry(purpose.to_owned()).or_default();
        let digest: [u8; 32] = Sha256::new()
            .chain_update(self.seed)
            .chain_update(count.to_be_bytes())
            .chain_update(purpose)
            .finalize()
            .into();
        *count += 1;
        digest.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
    }
}

/// A random uid for an object.
pub(crate) fn random_uuid(entropy: &dyn Entropy) -> uuid::Uuid {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
