//! What is fixed for the life of an engine.

use std::time::Duration;

use uuid::Uuid;

/// Limits and deadlines; [`Settings::new`] has the values that production uses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This installation, the owner in every mark.
    pub installation: Uuid,
    /// How long one host may take to answer one observation; after that it counts as unreachable.
    pub observe_deadline: Duration,
    /// How long one call that moves no bulk data may take.
    pub call_deadline: Duration,
    /// Bytes a second that bulk calls (upload, wipe, checksum) achieve at the very least: their deadline is
    /// [`call_deadline`](Self::call_deadline) plus size by rate.
    pub bulk_bytes_per_s: u64,
    /// How long the move of one machine to another host may take, with its disks; then it stays where it is.
    pub migration_deadline: Duration,
    /// How often the world is looked at while something is being waited for.
    pub poll_interval: Duration,
    /// After one object's steps have ended, how long others that end at about the same time are waited for before the world
    /// is looked at again.
    pub gather: Duration,
    /// Calls that change a host at the same time, on one host. Ending a domain takes libvirt two seconds of waiting, so that
    /// many at a time decide how long many take; libvirtd serves 20 workers by default, of which 5 are kept for priority
    /// calls. Transfers have one connection, and go one after the other whatever stands here.
    pub calls_per_host: usize,
    /// Image files are sent in chunks of so many bytes, a multiple of 1 MiB: what a cut link costs at most, and what
    /// has to arrive within one deadline.
    pub upload_chunk_bytes: u64,
    /// Hosts that get image files at the same time; each gets one file at a time. More would share one link, and all be
    /// late: with four, the first of many hosts can start its machines while the others wait.
    pub upload_hosts: usize,
    /// First pause after a failure that may pass; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest pause between attempts.
    pub backoff_limit: Duration,
    /// Attempts of one action in one run before it counts as blocked. With pauses from 1 s to 30 s, 20 attempts
    /// span about eight minutes: longer than a host takes to reboot.
    pub attempts: u32,
    /// How long a run goes on when something is blocked and nothing else moves either.
    pub blocked_patience: Duration,
    /// How often the daemon looks at a world in which nothing moves. What people change in the store it notices at once.
    pub resync_period: Duration,
    /// After this long the daemon tries again what blocked it: by then somebody may have helped.
    pub blocked_rest: Duration,
    /// How long the daemon waits for calls under way when it is told to stop.
    pub stop_grace: Duration,
    /// Several daemons share the store, and this one leads now: it takes all hosts over before it looks at them, so that
    /// whatever the one before it still does there ends.
    pub takes_hosts_over: bool,
    /// While more hosts than so many percent, and more than one, give no answer, none of them is turned off for that: it may
    /// be Ashlar that is cut off.
    pub fence_max_percent: u32,
    /// Events kept in the store; the oldest go first.
    pub events_kept: usize,
    /// The clock is right, however far it is from what was recorded last: a person says so.
    pub trust_clock: bool,
}

impl Settings {
    /// What production uses.
    pub fn new(installation: Uuid) -> Self {
        Settings {
            installation,
            observe_deadline: Duration::from_secs(20),
            call_deadline: Duration::from_secs(60),
            bulk_bytes_per_s: 4 * 1024 * 1024,
            migration_deadline: Duration::from_secs(60 * 60),
            poll_interval: Duration::from_secs(2),
            gather: Duration::from_millis(20),
            calls_per_host: 16,
            upload_chunk_bytes: 32 << 20,
            upload_hosts: 4,
            backoff_first: Duration::from_secs(1),
            backoff_limit: Duration::from_secs(30),
            attempts: 20,
            blocked_patience: Duration::from_secs(20),
            resync_period: Duration::from_secs(30),
            blocked_rest: Duration::from_secs(5 * 60),
            stop_grace: Duration::from_secs(20),
            takes_hosts_over: false,
            fence_max_percent: ashlar_plan::Snapshot::FENCE_MAX_PERCENT,
            events_kept: 1000,
            trust_clock: false,
        }
    }
}
