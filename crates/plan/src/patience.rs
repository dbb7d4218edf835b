//! For how long something was seen, counted so that no clock and no pause can end the patience with it.

use ashlar_api::Ailment;
use jiff::{SignedDuration, Timestamp};

/// Quarters of a patience.
pub(crate) const QUARTERS: u32 = Ailment::PATIENCE_SIGHTINGS;

/// How often something was seen again, each time a quarter of the patience after the last: a clock that jumps, or an Ashlar
/// that did not run, shortens the patience by no more than that quarter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// When it was last counted.
    pub(crate) seen_at: Timestamp,
    /// How often, up to [`QUARTERS`].
    pub(crate) sightings: u32,
}

impl Count {
    /// It is seen for the first time.
    pub(crate) fn first(now: Timestamp) -> Self {
        Count { seen_at: now, sightings: 0 }
    }

    /// It is seen now, too.
    pub(crate) fn again(self, now: Timestamp, patience: SignedDuration) -> Self {
        let since_last = now.duration_since(self.seen_at);
        if since_last.is_negative() {
            // The clock was put back: the time that it showed before counts for nothing.
            return Count { seen_at: now, ..self };
        }
        let quarter = patience / i32::try_from(QUARTERS).unwrap_or(i32::MAX);
        if self.sightings >= QUARTERS || since_last < quarter {
            return self;
        }
        Count { seen_at: now, sightings: self.sightings + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: SignedDuration = SignedDuration::from_secs(400);

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn seen_at(seconds: &[i64]) -> Count {
        let (first, later) = seconds.split_first().unwrap_or_else(|| unreachable!("somebody looked"));
        later.iter().fold(Count::first(at(*first)), |count, second| count.again(at(*second), PATIENCE))
    }

    #[test]
    fn whoever_asks_whether_it_is_over_counts_alike() {
        assert_eq!(ashlar_api::HostSilence::SIGHTINGS, QUARTERS);
    }

    #[test]
    fn patience_is_over_after_it_was_seen_all_the_time() {
        assert_eq!(seen_at(&[0, 100, 200, 300, 399]).sightings, 3);
        assert_eq!(seen_at(&[0, 100, 200, 300, 400]).sightings, QUARTERS);
        assert_eq!(seen_at(&[0, 100, 200, 300, 400, 500]).sightings, QUARTERS, "it is not counted further");
        // Between two looks of a minute it is not counted at each.
        assert_eq!(seen_at(&[0, 60, 99]).sightings, 0);
    }

    #[test]
    fn a_clock_that_jumps_ahead_counts_for_a_quarter_of_the_patience() {
        assert_eq!(seen_at(&[0, 1_000_000]).sightings, 1);
        assert_eq!(seen_at(&[0, 1_000_000, 1_000_001, 1_000_002]).sightings, 1);
    }

    #[test]
    fn a_clock_that_is_put_back_counts_anew_from_there() {
        assert_eq!(seen_at(&[1000, 1100, 500]), Count { seen_at: at(500), sightings: 1 });
        assert_eq!(seen_at(&[1000, 1100, 500, 599]).sightings, 1);
        assert_eq!(seen_at(&[1000, 1100, 500, 600]).sightings, 2);
    }
}
