//! Hosts that obey a token which this store never gave out: it is an old copy, or one of two.

use super::leftovers;
use crate::draft::Draft;
use crate::{Guard, HostSeen};

/// Writes down which token was refused, so that no higher one is given out by the next process, until the host answers or a
/// person raised it (`ashlar store restore --take-hosts`). A process that was only overtaken cannot: the host's object has changed.
pub(super) fn record(draft: &mut Draft<'_>) {
    if !Guard::NewestStore.stands() {
        return;
    }
    let mut changed = Vec::new();
    for (name, host) in draft.snapshot.hosts.iter() {
        let refused = match draft.snapshot.observed.hosts.get(name) {
            Some(HostSeen::Fenced { store_is_behind: true, .. }) => Some(host.record.lease_token),
            Some(HostSeen::Seen(_)) => None,
            _ => host.record.lease_refused,
        };
        if host.record.lease_refused != refused {
            let mut host = draft.hosts.get(name).unwrap_or(host).clone();
            host.record.lease_refused = refused;
            changed.push(host);
        }
    }
    leftovers::put_hosts(draft, changed);
}
