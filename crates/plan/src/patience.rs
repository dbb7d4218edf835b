//! For how long something was seen, counted so that no clock and no pause can end the patience with it.

use ashlar_api::Ailment;
use jiff::{SignedDuration, Timestamp};

/// Quarters of a patience.
pub(crate) const QUARTERS: u32 = Ailment::PATIENCE_SIGHTINGS;

/// Looks may be so much further apart than a quarter of a short patience: the daemon rests for half a minute where nothing
/// moves, and then waits for hosts, APIs and etcds that are late, each for up to 20 s.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// How often something was seen again, each time a quarter of the patience after the last. Where nobody looked for longer,
/// or nobody answered, or the clock jumped, that time counts for nothing: it may have been well meanwhile.
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
        let quarter = patience / QUARTERS.cast_signed();
        if self.sightings >= QUARTERS || since_last < quarter {
            return self;
        }
        if since_last > (quarter * 2).max(quarter + LATE) {
            // At least one more quarter has to be watched.
            return Count { seen_at: now, ..self };
        }
        Count { seen_at: now, sightings: self.sightings + 1 }
    }

    /// When the patience is over with what has been seen since `since`, if it is seen all the time from now on.
    pub(crate) fn over_at(self, since: Timestamp, patience: SignedDuration, now: Timestamp) -> Timestamp {
        let after = |from: Timestamp, time| from.saturating_add(time).unwrap_or(Timestamp::MAX);
        let quarter = patience / QUARTERS.cast_signed();
        let counted = after(self.seen_at, quarter * QUARTERS.saturating_sub(self.sightings).cast_signed());
        let whole = after(since, patience);
        // Both are nearly the same while somebody looks all the time, and then what is told stays the same.
        if whole > now && counted <= after(whole, quarter) { whole } else { counted }
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
    fn what_nobody_saw_counts_for_nothing() {
        // Of looks a quarter apart each counts, and of those that come late, up to one more or two minutes.
        for (looks, sightings) in [
            (&[0, 100][..], 1),
            (&[0, 220][..], 1),
            (&[0, 221][..], 0),
            (&[0, 1_000_000][..], 0),
            (&[0, 1_000_000, 1_000_001, 1_000_099][..], 0),
            (&[0, 1_000_000, 1_000_100][..], 1),
            (&[0, 100, 200, 300, 7500][..], 3),
            (&[0, 100, 200, 300, 7500, 7599][..], 3),
            (&[0, 100, 200, 300, 7500, 7600][..], QUARTERS),
            // Somebody who only ever looks once an hour never sees enough.
            (&[0, 3600, 7200, 10_800, 14_400, 18_000][..], 0),
        ] {
            assert_eq!(seen_at(looks).sightings, sightings, "{looks:?}");
        }
        // Of a short patience no look would count otherwise, and of a long one a late look is late by less than a quarter.
        for (patience_s, late_s, too_late_s) in [(4, 121, 122), (60, 135, 136), (600, 300, 301)] {
            let patience = SignedDuration::from_secs(patience_s);
            let seen = |second| Count::first(at(0)).again(at(second), patience).sightings;
            assert_eq!((seen(late_s), seen(too_late_s)), (1, 0), "{patience_s}");
        }
    }

    #[test]
    fn when_it_is_over_is_told_from_what_was_counted_once_that_is_later() {
        let over_at = |looks: &[i64], now| seen_at(looks).over_at(at(looks[0]), PATIENCE, at(now));
        assert_eq!(over_at(&[0], 10), at(400));
        // A little late each time: what is told stays the same.
        assert_eq!(over_at(&[0, 110, 220, 330], 340), at(400));
        assert_eq!(over_at(&[0, 130, 260, 390], 401), at(490));
        // After a hole: what was not watched is still to be.
        assert_eq!(over_at(&[0, 100, 350], 360), at(650));
        assert_eq!(over_at(&[0, 100, 200, 300, 7500], 7510), at(7600));
        assert_eq!(over_at(&[0, 100, 200, 300, 400], 410), at(400));
    }

    #[test]
    fn a_clock_that_is_put_back_counts_anew_from_there() {
        assert_eq!(seen_at(&[1000, 1100, 500]), Count { seen_at: at(500), sightings: 1 });
        assert_eq!(seen_at(&[1000, 1100, 500, 599]).sightings, 1);
        assert_eq!(seen_at(&[1000, 1100, 500, 600]).sightings, 2);
    }
}
