//! A lease of etcd's that is kept alive: what a process puts there ends with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Inner;
use super::messages::{LeaseGrantRequest, LeaseRequest, LeaseResponse, Nothing};
use crate::StoreError;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Longest time for one question to one member where a lease of seconds depends on it.
pub(super) const QUICK: Duration = Duration::from_secs(1);
/// Pause before another member is asked to keep a lease alive.
const PAUSE: Duration = Duration::from_millis(100);

/// A lease, kept alive until it is dropped, or lost.
pub(super) struct Session {
    inner: Arc<Inner>,
    pub(super) lease: i64,
    is_alive: watch::Receiver<bool>,
    /// It was given up: its keeper says nothing any more, and is gone only some moments later.
    is_ended: AtomicBool,
    keeper: tokio::task::AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Session {
    /// Must be called inside the store's runtime.
    pub(super) async fn begin(inner: Arc<Inner>, ttl: Duration) -> Result<Self, StoreError> {
        let sent = Instant::now();
        let ttl_s = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let granted: LeaseResponse =
            inner.connection.ask_within(QUICK, GRANT, LeaseGrantRequest { ttl_s }).await?;
        let (alive, is_alive) = watch::channel(true);
        let lease = granted.id;
        let keeper = tokio::spawn(keep(Arc::clone(&inner), lease, ttl, sent, alive)).abort_handle();
        Ok(Session { inner, lease, is_alive, is_ended: AtomicBool::new(false), keeper })
    }

    /// Whether anything may still be hung on it.
    pub(super) fn is_alive(&self) -> bool {
        let keeper_is_gone = self.is_alive.has_changed().is_err();
        !self.is_ended.load(Ordering::Acquire) && !keeper_is_gone && *self.is_alive.borrow()
    }

    /// Comes back when the lease is lost, or nobody can say that it is not.
    pub(super) async fn lost(&self) {
        let mut is_alive = self.is_alive.clone();
        // The keeper ends with the lease.
        let _ = is_alive.wait_for(|alive| !alive).await;
    }

    /// Ends it at once, and with it all that hangs on it.
    pub(super) async fn end(&self) -> Result<(), StoreError> {
        self.is_ended.store(true, Ordering::Release);
        self.keeper.abort();
        let revoke = LeaseRequest { id: self.lease };
        let revoked: Result<Nothing, _> = self.inner.connection.ask_within(QUICK, REVOKE, revoke).await;
        revoked.map(drop).map_err(StoreError::from)
    }
}

/// Asks for more time three times in the life of a lease. etcd counts from when it heard, we count from when we spoke: so
/// that we know that it is lost before others can.
async fn keep(inner: Arc<Inner>, lease: i64, ttl: Duration, granted: Instant, alive: watch::Sender<bool>) {
    let mut ends = granted + ttl;
    let mut next = granted + ttl / 3;
    loop {
        tokio::time::sleep_until(next.min(ends)).await;
        let sent = Instant::now();
        if sent >= ends {
            break;
        }
        let limit = (ttl / 3).min(ends - sent);
        let answer: Result<LeaseResponse, _> =
            inner.connection.exchange(limit, KEEP_ALIVE, LeaseRequest { id: lease }).await;
        match answer {
            Ok(answer) if answer.ttl_s > 0 => {
                ends = sent + ttl;
                next = sent + ttl / 3;
            }
            // It is gone: it was not asked for in time.
            Ok(_) => break,
            Err(_) => next = Instant::now() + PAUSE,
        }
    }
    // Nobody may listen any more.
    let _ = alive.send(false);
}
