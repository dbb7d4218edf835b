//! The guards, by name: each a rule without which an invariant would break. All of them always stand.
//!
//! Only the tests of the simulated world can take one away (feature `removable-guards`, which no crate that ships may
//! enable: a test in `xtask` holds it), to see that the search finds out: a guard whose absence nobody notices is
//! one that nobody tests. A guard is a rule and not a line: where it is kept in several places (the planner, the
//! checker, the look right before the call), all of them ask here.

/// A rule that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// A domain of our UUID is ours only with our mark.
    DomainMark,
    /// A domain of our name is not ours for that.
    DomainUuid,
    /// Nothing is destroyed before its deletion stands in the store.
    RecordedIntent,
    /// What was not seen is not taken for gone.
    SeenGone,
    /// A pool that shows none of our files is not believed.
    PoolDistrust,
    /// A disk that was used is never made anew.
    UsedDisk,
    /// The file of a call that was cut off is not used as it is.
    HalfMadeVolume,
    /// A file that something stands on is not taken away.
    FileInUse,
    /// An image is compared with its digest on the host.
    ImageDigest,
    /// A seed is wiped before it is deleted.
    SeedWipe,
    /// That a domain ran is recorded before it is started.
    RecordedStart,
    /// No domain starts before its filter was seen.
    NetworkFilter,
    /// No change leaves etcd without a majority.
    Quorum,
    /// Control planes join one at a time.
    OneJoinAtATime,
    /// The learner that a failed join left behind is taken out.
    LearnerCleanup,
    /// A newer fencing token is shown to a host before it is changed.
    HostLease,
    /// Objects are written as they were read.
    CompareAndSet,
    /// Each claim bumps the ledgers of what it claims from.
    Ledger,
    /// What a machine that goes has is nobody else's before its end is proved.
    AddressQuarantine,
    /// An address is asked about before it is given out.
    ForeignAddress,
    /// Few machines that are not well are replaced at a time, and of control planes one.
    RemediationLimits,
    /// A host that gives no answer is taken for off only where that is proved.
    ProvedOff,
    /// A host is turned off only while nearly all others answer.
    FewSilent,
    /// What arrives by a live migration stands still until Ashlar lets it go on.
    PausedArrival,
    /// It goes on only where its source is certain to have done nothing after all had come.
    CertainArrival,
    /// A store that hosts show to be an old copy makes no machine.
    NewestStore,
}

impl Guard {
    /// All of them.
    pub const ALL: [Guard; 26] = [
        Guard::DomainMark,
        Guard::DomainUuid,
        Guard::RecordedIntent,
        Guard::SeenGone,
        Guard::PoolDistrust,
        Guard::UsedDisk,
        Guard::HalfMadeVolume,
        Guard::FileInUse,
        Guard::ImageDigest,
        Guard::SeedWipe,
        Guard::RecordedStart,
        Guard::NetworkFilter,
        Guard::Quorum,
        Guard::OneJoinAtATime,
        Guard::LearnerCleanup,
        Guard::HostLease,
        Guard::CompareAndSet,
        Guard::Ledger,
        Guard::AddressQuarantine,
        Guard::ForeignAddress,
        Guard::RemediationLimits,
        Guard::ProvedOff,
        Guard::FewSilent,
        Guard::PausedArrival,
        Guard::CertainArrival,
        Guard::NewestStore,
    ];

    /// Whether it stands.
    #[cfg(not(feature = "removable-guards"))]
    #[inline(always)]
    pub const fn stands(self) -> bool {
        true
    }

    /// Whether it stands.
    #[cfg(feature = "removable-guards")]
    pub fn stands(self) -> bool {
        removed::get() != Some(self)
    }

    /// Does something on this thread without the guard.
    #[cfg(feature = "removable-guards")]
    pub fn taken_away<T>(self, work: impl FnOnce() -> T) -> T {
        let _back = removed::take(self);
        work()
    }
}

#[cfg(feature = "removable-guards")]
mod removed {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        /// One simulated world runs on one thread.
        static REMOVED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Puts the guard back when it goes, after a panic too.
    pub(super) struct Back;

    impl Drop for Back {
        fn drop(&mut self) {
            REMOVED.set(None);
        }
    }

    pub(super) fn get() -> Option<Guard> {
        REMOVED.get()
    }

    pub(super) fn take(guard: Guard) -> Back {
        REMOVED.set(Some(guard));
        Back
    }
}
