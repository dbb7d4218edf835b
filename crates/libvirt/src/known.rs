//! What a session has read of its host.
//!
//! libvirt lists neither marks and drives of domains nor sizes of volumes in bulk: each is a call of its own, and most of
//! what looking at a host costs. So a glance reads anew only what libvirt's events were about, what changed its state, and
//! a share of all the rest, so that after some glances everything was read again: not every change has an event.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use ashlar_plan::VolumeSeen;
use uuid::Uuid;

use crate::xml::DomainDescription;

/// After so many glances everything was read anew.
const ROUNDS: u64 = 10;
/// However seldom somebody glances, nothing older than this is told.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// What a session knows of its host; nothing after the connection was lost.
#[derive(Default)]
pub(crate) struct Known {
    /// Whether the network filter was seen.
    pub(crate) filter_seen: bool,
    pub(crate) read: Read,
}

/// What was read, and when.
#[derive(Default)]
pub(crate) struct Read {
    round: u64,
    is_glance: bool,
    domains: BTreeMap<Uuid, Entry<(bool, DomainDescription)>>,
    volumes: BTreeMap<(Uuid, String), Entry<VolumeSeen>>,
}

struct Entry<T> {
    value: T,
    at: Instant,
    /// In which round it was told last.
    round: u64,
}

impl Read {
    /// What is told from now on is of a new look. Something happened to these domains since the last one.
    pub(crate) fn begin(&mut self, is_glance: bool, touched: &BTreeSet<Uuid>) {
        self.round += 1;
        self.is_glance = is_glance;
        self.domains.retain(|domain, _| !touched.contains(domain));
    }

    /// What this look has not told of is not there any more.
    pub(crate) fn end(&mut self) {
        let round = self.round;
        self.domains.retain(|_, entry| entry.round == round);
        self.volumes.retain(|_, entry| entry.round == round);
    }

    /// A domain's definition, and what its drives hold; read now unless what was read before may be told.
    pub(crate) fn domain<E>(
        &mut self,
        uuid: Uuid,
        is_active: bool,
        read: impl FnOnce() -> Result<Option<DomainDescription>, E>,
    ) -> Result<Option<DomainDescription>, E> {
        let may_be_told = self.may_be_told(&uuid);
        let round = self.round;
        if let Some(entry) = self.domains.get_mut(&uuid)
            && may_be_told
            && entry.value.0 == is_active
            && entry.at.elapsed() < MAX_AGE
        {
            entry.round = round;
            return Ok(Some(entry.value.1.clone()));
        }
        let Some(value) = read()? else { return Ok(None) };
        self.domains.insert(uuid, Entry { value: (is_active, value.clone()), at: Instant::now(), round });
        Ok(Some(value))
    }

    /// A volume's sizes; as above.
    pub(crate) fn volume<E>(
        &mut self,
        pool: Uuid,
        name: &str,
        read: impl FnOnce() -> Result<Option<VolumeSeen>, E>,
    ) -> Result<Option<VolumeSeen>, E> {
        let key = (pool, name.to_owned());
        let may_be_told = self.may_be_told(&key);
        let round = self.round;
        if let Some(entry) = self.volumes.get_mut(&key)
            && may_be_told
            && entry.at.elapsed() < MAX_AGE
        {
            entry.round = round;
            return Ok(Some(entry.value.clone()));
        }
        let Some(value) = read()? else { return Ok(None) };
        self.volumes.insert(key, Entry { value: value.clone(), at: Instant::now(), round });
        Ok(Some(value))
    }

    /// Whether it is not its turn to be read.
    fn may_be_told(&self, key: &impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.is_glance && hasher.finish() % ROUNDS != self.round % ROUNDS
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const POOL: Uuid = Uuid::from_u128(1);

    fn sizes(bytes: u64) -> VolumeSeen {
        VolumeSeen { capacity_bytes: bytes, allocation_bytes: bytes }
    }

    fn described(name: &str) -> DomainDescription {
        DomainDescription {
            uuid: DOMAIN,
            name: name.to_owned(),
            mark: None,
            disk_paths: BTreeSet::new(),
            medium_path: None,
            definition: None,
            running: None,
        }
    }

    /// Looks at a hundred volumes; says how many were read.
    fn look(known: &mut Read, is_glance: bool, bytes: u64) -> usize {
        let mut count = 0;
        known.begin(is_glance, &BTreeSet::new());
        for number in 0..100 {
            let read = || -> Result<_, ()> {
                count += 1;
                Ok(Some(sizes(bytes)))
            };
            known.volume(POOL, &format!("v{number}"), read).unwrap();
        }
        known.end();
        count
    }

    #[test]
    fn glances_read_a_share_and_after_ten_of_them_everything_was_read() {
        let mut known = Read::default();
        assert_eq!(look(&mut known, true, 0), 100, "nothing is known yet");
        let reads: Vec<usize> = (0..ROUNDS).map(|_| look(&mut known, true, 1)).collect();
        assert!(reads.iter().all(|count| (1..30).contains(count)), "{reads:?}");
        assert_eq!(reads.iter().sum::<usize>(), 100, "{reads:?}");
        assert_eq!(look(&mut known, false, 2), 100, "a whole look tells nothing from memory");
    }

    const DOMAIN: Uuid = Uuid::from_u128(7);

    /// What is told of the domain, and whether it was read for that.
    fn told(known: &mut Read, is_active: bool, name: &str) -> (String, bool) {
        let mut was_read = false;
        let read = || -> Result<_, ()> {
            was_read = true;
            Ok(Some(described(name)))
        };
        let told = known.domain(DOMAIN, is_active, read).unwrap().unwrap();
        (told.name, was_read)
    }

    /// Begins a glance in which it is not the domain's turn.
    fn glance(known: &mut Read, touched: &[Uuid]) {
        let touched = touched.iter().copied().collect();
        known.begin(true, &touched);
        if !known.may_be_told(&DOMAIN) {
            known.begin(true, &touched);
        }
    }

    #[test]
    fn what_was_touched_or_changed_its_state_is_read_and_what_is_gone_is_forgotten() {
        let mut known = Read::default();
        known.begin(false, &BTreeSet::new());
        assert_eq!(told(&mut known, true, "a"), ("a".to_owned(), true));
        known.end();
        glance(&mut known, &[]);
        assert_eq!(told(&mut known, true, "b"), ("a".to_owned(), false));
        glance(&mut known, &[DOMAIN]);
        assert_eq!(told(&mut known, true, "c"), ("c".to_owned(), true), "an event was about it");
        assert_eq!(told(&mut known, false, "d"), ("d".to_owned(), true), "it ended");
        known.end();
        glance(&mut known, &[]);
        known.end();
        glance(&mut known, &[]);
        assert_eq!(told(&mut known, false, "e"), ("e".to_owned(), true), "it was gone in between");
    }
}
