//! A clock that cannot be right.
//!
//! Certificates, join tokens, startup times and the order of events all come from the clock of the machine that runs
//! Ashlar. One that was reset to 2000 or jumped to 2100 would make certificates that nobody accepts, and take every
//! machine that boots for one that failed long ago. The store remembers what time it was.

use std::time::Duration;

use ashlar_api::{Object, ObjectMeta, ObjectRef};
use ashlar_plan::Snapshot;
use ashlar_store::Store;
use jiff::{SignedDuration, Timestamp};

use crate::{EngineError, declare};

/// A clock may be behind what was recorded by so much: machines that share a store disagree a little.
const BEHIND: SignedDuration = SignedDuration::from_hours(24);

/// Ten years: as long as the certificates of a cluster are good. Nobody leaves a pool alone for that long.
const AHEAD: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Refuses if what is stored says that the clock is wrong; commands ask before they write what people declare.
///
/// # Errors
/// [`EngineError::ClockWrong`]; the store failed.
pub async fn check_clock(store: &dyn Store, now: Timestamp) -> Result<(), EngineError> {
    let all = declare::existing(store).await?;
    judge(now, all.values().map(|object| (object.metadata(), object)).filter_map(latest_of))
}

/// The same, from a snapshot.
pub(crate) fn check_snapshot(snapshot: &Snapshot) -> Result<(), EngineError> {
    macro_rules! latest {
        ($map:ident) => {
            snapshot.$map.values().filter_map(|object| Some((latest(&object.metadata)?, object.object_ref())))
        };
    }
    let all = latest!(hosts).chain(latest!(networks)).chain(latest!(clusters)).chain(latest!(groups));
    judge(snapshot.now, all.chain(latest!(machines)).chain(latest!(volumes)))
}

fn latest_of((metadata, object): (&ObjectMeta, &Object)) -> Option<(Timestamp, ObjectRef)> {
    Some((latest(metadata)?, object.object_ref()))
}

fn latest(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.max(metadata.deletion_timestamp)
}

fn judge(now: Timestamp, recorded: impl Iterator<Item = (Timestamp, ObjectRef)>) -> Result<(), EngineError> {
    let Some((at, object)) = recorded.max_by_key(|(at, _)| *at) else { return Ok(()) };
    let ahead = SignedDuration::try_from(AHEAD).unwrap_or(SignedDuration::MAX);
    if at.duration_since(now) > BEHIND || now.duration_since(at) > ahead {
        return Err(EngineError::ClockWrong { now, object, at });
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_far_from_what_was_recorded_last_is_refused() {
        let object = || ObjectRef::new(ashlar_api::Kind::Cluster, "default", "demo");
        let recorded = || [(at("2026-01-01T00:00:00Z"), object()), (at("2026-03-01T00:00:00Z"), object())];
        let judged = |now: &str| judge(at(now), recorded().into_iter()).map_err(|error| error.to_string());
        for fine in
            ["2026-03-01T00:00:00Z", "2026-02-28T01:00:00Z", "2027-03-01T00:00:00Z", "2035-01-01T00:00:00Z"]
        {
            assert_eq!(judged(fine), Ok(()), "{fine}");
        }
        for wrong in ["2000-01-01T00:00:00Z", "2026-02-27T00:00:00Z", "2100-01-01T00:00:00Z"] {
            let told = judged(wrong).unwrap_err();
            assert!(told.contains(wrong) && told.contains("2026-03-01T00:00:00Z"), "{told}");
            assert!(told.contains("cluster demo") && told.contains("--trust-clock"), "{told}");
        }
        assert_eq!(judge(at("2000-01-01T00:00:00Z"), std::iter::empty()).map_err(|_| ()), Ok(()));
    }
}
