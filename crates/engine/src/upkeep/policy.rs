//! When a copy is due, which are too many, and when a database wastes room.

use std::{cmp::Reverse, time::Duration};

use ashlar_plan::EtcdStatus;
use jiff::Timestamp;

use crate::effects::EtcdCopy;

/// A database is left alone below this size: 100 MiB, of etcd's 2 GiB by default.
const SMALL_BYTES: u64 = 100 << 20;

/// How often copies are taken, and how long they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPolicy {
    /// Time between two; zero takes none.
    pub every: Duration,
    /// So many are kept.
    pub keep: usize,
    /// None is kept longer, but the newest.
    pub keep_for: Option<Duration>,
}

impl CopyPolicy {
    /// Whether another one is due. One from a far future, of a clock that was wrong, does not count.
    pub(super) fn is_due(&self, copies: &[EtcdCopy], now: Timestamp) -> bool {
        let is_recent = |copy: &EtcdCopy| now.duration_since(copy.taken_at).unsigned_abs() < self.every;
        !self.every.is_zero() && !copies.iter().any(is_recent)
    }

    /// Whether there are twice as many as are kept: where none may go, no more come.
    pub(super) fn is_full(&self, copies: &[EtcdCopy]) -> bool {
        copies.len() >= self.keep.max(1).saturating_mul(2)
    }

    /// Those that go: by count, then by age; never the newest. What a clock that ran ahead dated comes after all others: as the
    /// newest, it would push out each copy that is taken now.
    pub(super) fn too_many(&self, copies: &[EtcdCopy], now: Timestamp) -> Vec<EtcdCopy> {
        let is_ahead = |at: Timestamp| {
            let age = now.duration_since(at);
            age.is_negative() && age.unsigned_abs() >= self.every
        };
        let mut copies = copies.to_vec();
        copies.sort_by_key(|copy| (is_ahead(copy.taken_at), Reverse(copy.taken_at), copy.is_former));
        let is_old = |at: Timestamp| {
            let age = now.duration_since(at);
            self.keep_for.is_some_and(|limit| !age.is_negative() && age.unsigned_abs() > limit)
        };
        let by_rank = copies.into_iter().enumerate().skip(1);
        let goes = |(rank, copy): &(usize, EtcdCopy)| *rank >= self.keep || is_old(copy.taken_at);
        by_rank.filter(goes).map(|(_, copy)| copy).collect()
    }
}

/// Most of a large database is room.
pub(super) fn is_worth_defragmenting(status: &EtcdStatus) -> bool {
    status.db_used_bytes > 0
        && status.db_size_bytes >= SMALL_BYTES
        && status.db_size_bytes / 2 > status.db_used_bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(hours: i64) -> EtcdCopy {
        let taken_at = Timestamp::from_second(hours * 3600).unwrap();
        EtcdCopy { taken_at, size_bytes: 1, is_former: false }
    }

    #[test]
    fn what_is_due_and_what_goes() {
        let now = |hours: i64| at(hours).taken_at;
        let policy = CopyPolicy { every: 6 * HOUR, keep: 3, keep_for: Some(48 * HOUR) };
        assert!(policy.is_due(&[], now(0)));
        assert!(!policy.is_due(&[at(0)], now(5)) && policy.is_due(&[at(0)], now(6)));
        assert!(policy.is_due(&[at(1000)], now(10)), "taken by a clock that was wrong");
        assert_eq!(policy.too_many(&[at(0), at(6), at(12)], now(12)), []);
        assert_eq!(policy.too_many(&[at(0), at(6), at(12), at(18)], now(18)), [at(0)]);
        assert_eq!(policy.too_many(&[at(0), at(6)], now(100)), [at(0)], "the newest stays, however old");
        let ever = CopyPolicy { keep_for: None, keep: 0, ..policy };
        assert_eq!(ever.too_many(&[at(0)], now(9999)), [], "one is always kept");
        // Wherever they lie.
        let former = |hours| EtcdCopy { is_former: true, ..at(hours) };
        assert_eq!(policy.too_many(&[at(18), at(12), former(12), former(6)], now(18)), [former(6)]);
    }

    #[test]
    fn what_a_clock_ahead_dated_goes_before_what_is_taken_now() {
        let now = |hours: i64| at(hours).taken_at;
        let policy = CopyPolicy { every: 6 * HOUR, keep: 3, keep_for: Some(48 * HOUR) };
        let ahead = [at(1000), at(1006), at(1012)];
        assert_eq!(policy.too_many(&ahead, now(10)), [], "no more than are kept");
        assert_eq!(policy.too_many(&[at(10), at(1000), at(1006), at(1012)], now(10)), [at(1000)]);
        // A clock that is a little ahead is no other than one that is right.
        assert_eq!(policy.too_many(&[at(0), at(6), at(12), at(15)], now(12)), [at(0)]);
        // Hour by hour: one every six, none of which goes in the round that took it.
        let (mut copies, mut taken) = (ahead.to_vec(), 0);
        for hour in 10..40 {
            if policy.is_due(&copies, now(hour)) {
                taken += 1;
                copies.push(at(hour));
                let goes = policy.too_many(&copies, now(hour));
                copies.retain(|copy| !goes.contains(copy));
                assert!(copies.contains(&at(hour)), "hour {hour}: {copies:?}");
            }
        }
        assert_eq!((taken, copies), (5, vec![at(22), at(28), at(34)]));
    }
}
