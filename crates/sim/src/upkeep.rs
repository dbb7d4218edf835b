//! Rounds of a daemon over the clusters' etcd, and the place where their copies lie.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_engine::effects::{
    CopyOwner, EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter,
};
use ashlar_engine::{Chore, EngineError, Upkeep};
use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::executor::{self, Ended};
use crate::fault::Process;
use crate::{Simulation, SimulationError};

impl Simulation {
    /// One round of a new engine; none if it was killed in it.
    ///
    /// # Errors
    /// It does not end, or an invariant was violated.
    pub fn keep_etcd(
        &self,
        upkeep: &Upkeep,
    ) -> Result<Option<Result<Vec<Chore>, EngineError>>, SimulationError> {
        let engine = self.engine();
        let ended = executor::run(&self.world, Process::new(self.world.clone(), engine.keep_etcd(upkeep)));
        self.world.state().end_processes();
        match ended {
            Ended::Done(done) => Ok(done),
            Ended::Crashed => Ok(None),
            Ended::Stuck => Err(SimulationError("the round does not end".to_owned())),
            Ended::Violated => Err(SimulationError(self.world.state().violations().join("; "))),
        }
    }
}

/// A directory in memory.
#[derive(Clone, Default)]
pub struct SimCopies(Arc<Mutex<Kept>>);

/// The sealed database, and what is beside it, by whose and of when.
type Kept = BTreeMap<(CopyOwner, Timestamp), (Vec<u8>, EtcdCopyParts)>;

impl SimCopies {
    /// What is kept.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Unfinished {
    copies: SimCopies,
    place: (CopyOwner, Timestamp),
    bytes: Vec<u8>,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl EtcdCopyWriter for Unfinished {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        if parts.database.sha256 != *Sha256::digest(&self.bytes) {
            return Err(EffectError::new(EffectErrorKind::Corrupt, "it is not what was written"));
        }
        let copy = EtcdCopy { taken_at: self.place.1, size_bytes: parts.database_bytes, is_former: false };
        self.copies.kept().insert(self.place, (self.bytes, parts));
        Ok(copy)
    }
}

#[async_trait]
impl EtcdCopies for SimCopies {
    async fn list(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        let kept = self.kept();
        let own = kept.iter().filter(|((of, _), _)| of == owner);
        let copy = |((_, at), (_, parts)): (&(CopyOwner, Timestamp), &(Vec<u8>, EtcdCopyParts))| EtcdCopy {
            taken_at: *at,
            size_bytes: parts.database_bytes,
            is_former: false,
        };
        Ok(own.map(copy).collect())
    }

    async fn former(&self, _: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        Ok(Vec::new())
    }

    async fn begin(
        &self,
        owner: &CopyOwner,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        let place = (owner.clone(), taken_at);
        Ok(Box::new(Unfinished { copies: self.clone(), place, bytes: Vec::new() }))
    }

    async fn remove(&self, owner: &CopyOwner, copy: &EtcdCopy) -> Result<(), EffectError> {
        self.kept().remove(&(owner.clone(), copy.taken_at));
        Ok(())
    }
}
