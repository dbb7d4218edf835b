//! What lies on the disks of etcd's members: a log each, as raft keeps it.
//!
//! Elections are won by the longest log of the highest term; a write is acknowledged when a majority of the voters
//! has it; a leader cuts off what its followers have and it has not. All of it happens within a second, between
//! members that run and hear each other. What is written is a number, nothing more, and
//! membership is kept beside the logs: it is not turned back with a disk.

use std::collections::{BTreeMap, BTreeSet};

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    term: u64,
    /// Which write; none for the entry with which a leader begins.
    write: Option<u64>,
}

/// What one member has on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberLog {
    entries: Vec<Entry>,
    /// Entries that its key-value store has taken in. Nothing is ever taken out again.
    applied_entries: usize,
    applied: Vec<u64>,
}

impl MemberLog {
    /// Writes that a client finds on this member.
    pub fn applied(&self) -> &[u64] {
        &self.applied
    }

    /// What an election compares.
    fn age(&self) -> (u64, usize) {
        (self.entries.last().map_or(0, |entry| entry.term), self.entries.len())
    }

    fn apply(&mut self) {
        let new = self.entries.iter().skip(self.applied_entries);
        self.applied.extend(new.filter_map(|entry| entry.write));
        self.applied_entries = self.applied_entries.max(self.entries.len());
    }
}

/// The logs of one cluster's etcd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raft {
    logs: BTreeMap<u64, MemberLog>,
    leader: Option<u64>,
    term: u64,
    /// How much of its log the leader knows each follower to have.
    matched: BTreeMap<u64, usize>,
    /// Followers that had less than the leader knew them to have: they panic, as often as they are started.
    panicked: BTreeSet<u64>,
    /// Writes that were acknowledged: where each stands, by its entry's term.
    acknowledged: BTreeMap<usize, u64>,
    last_write: u64,
}

/// What an election found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elected {
    /// Somebody else leads than before.
    pub(crate) changed: bool,
    /// Members that panic from now on: the entry that the leader told them of, and their last one.
    pub(crate) panics: Vec<(u64, usize, usize)>,
    /// Writes that were acknowledged and are gone.
    pub(crate) lost: usize,
}

impl Raft {
    pub(crate) fn leader(&self) -> Option<u64> {
        self.leader
    }

    pub(crate) fn has_panicked(&self, member: u64) -> bool {
        self.panicked.contains(&member)
    }

    /// What the member has on its disk.
    pub(crate) fn log(&self, member: u64) -> Option<&MemberLog> {
        self.logs.get(&member)
    }

    /// The member's disk is put back as it once was.
    pub(crate) fn turn_back(&mut self, member: u64, log: MemberLog) {
        self.logs.insert(member, log);
    }

    /// Whether the member has all that the leader has.
    pub(crate) fn has_caught_up(&self, member: u64) -> bool {
        let leader = self.leader.and_then(|leader| self.logs.get(&leader));
        leader.is_none_or(|leader| self.logs.get(&member).is_some_and(|log| log.entries == leader.entries))
    }

    /// A member that was taken out has no log that counts.
    pub(crate) fn forget(&mut self, member: u64) {
        self.logs.remove(&member);
        self.matched.remove(&member);
        self.panicked.remove(&member);
        self.leader = self.leader.filter(|leader| *leader != member);
    }

    /// Whether a voter gives its vote to a candidate: not to one whose log is older than its own.
    pub(crate) fn grants(&self, voter: u64, candidate: u64) -> bool {
        let age = |member: u64| self.logs.get(&member).map(MemberLog::age).unwrap_or_default();
        age(voter) <= age(candidate)
    }

    /// Who wins an election among the living voters, of which there is a majority.
    pub(crate) fn candidate(&self, voters: &[u64]) -> Option<u64> {
        let age = |member: u64| self.logs.get(&member).map(MemberLog::age).unwrap_or_default();
        voters.iter().copied().max_by_key(|member| (age(*member), std::cmp::Reverse(*member)))
    }

    /// The living voters have this leader, who brings all living members up to date.
    pub(crate) fn follow(&mut self, leader: u64, living: &[u64]) -> Elected {
        let mut elected = Elected::default();
        if self.leader != Some(leader) {
            elected.changed = self.leader.is_some();
            self.leader = Some(leader);
            self.term += 1;
            self.matched.clear();
            self.panicked.clear();
            let log = self.logs.entry(leader).or_default();
            self.acknowledged.retain(|index, term| {
                let kept = log.entries.get(*index).is_some_and(|entry| entry.term == *term);
                elected.lost += usize::from(!kept);
                kept
            });
            log.entries.push(Entry { term: self.term, write: None });
        }
        self.replicate(leader, living, &mut elected);
        elected
    }

    fn replicate(&mut self, leader: u64, living: &[u64], elected: &mut Elected) {
        // Out of the map meanwhile: it is compared with all others, and mostly nothing is to be done.
        let Some(mut lead) = self.logs.remove(&leader) else { return };
        for member in living {
            let known = self.matched.get(member).copied().unwrap_or_default();
            let log = if *member == leader { None } else { Some(self.logs.entry(*member).or_default()) };
            let length = log.as_ref().map_or(lead.entries.len(), |log| log.entries.len());
            if length < known {
                if self.panicked.insert(*member) {
                    elected.panics.push((*member, known, length));
                }
                continue;
            }
            match log {
                None => lead.apply(),
                Some(log) => {
                    if log.entries != lead.entries {
                        log.entries.clone_from(&lead.entries);
                    }
                    log.apply();
                }
            }
            self.matched.insert(*member, lead.entries.len());
        }
        self.logs.insert(leader, lead);
    }

    /// The leader takes a write; with a majority behind it, it is acknowledged.
    pub(crate) fn write(&mut self, living: &[u64]) -> Option<u64> {
        let leader = self.leader.filter(|leader| living.contains(leader))?;
        self.last_write += 1;
        let (write, term) = (self.last_write, self.term);
        let log = self.logs.entry(leader).or_default();
        log.entries.push(Entry { term, write: Some(write) });
        self.acknowledged.insert(log.entries.len() - 1, term);
        self.replicate(leader, living, &mut Elected::default());
        Some(write)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn three() -> Raft {
        let mut raft = Raft::default();
        raft.follow(1, &[1, 2, 3]);
        raft.write(&[1, 2, 3]).unwrap();
        raft
    }

    #[test]
    fn what_a_majority_has_survives_the_loss_of_any_one() {
        for dead in [1, 2, 3] {
            let mut raft = three();
            let living: Vec<u64> = [1, 2, 3].into_iter().filter(|member| *member != dead).collect();
            let write = raft.write(&[1, 2, 3]).unwrap();
            let leader = raft.candidate(&living).unwrap();
            assert_eq!(raft.follow(leader, &living).lost, 0, "{dead}");
            assert!(raft.log(leader).unwrap().applied().contains(&write));
        }
    }

    #[test]
    fn who_was_away_does_not_lead_over_who_has_more() {
        let mut raft = three();
        raft.write(&[1, 3]).unwrap();
        assert_eq!(raft.candidate(&[2, 3]), Some(3));
        assert_eq!(raft.follow(3, &[2, 3]), Elected { changed: true, ..Elected::default() });
        assert!(raft.has_caught_up(2));
    }

    #[test]
    fn a_follower_whose_disk_is_turned_back_under_the_same_leader_panics() {
        let mut raft = three();
        let kept = raft.log(3).unwrap().clone();
        raft.write(&[1, 2, 3]).unwrap();
        raft.turn_back(3, kept);
        let elected = raft.follow(1, &[1, 2, 3]);
        assert_eq!(elected.panics, [(3, 3, 2)]);
        assert!(raft.has_panicked(3));
        // Once is enough to tell.
        assert_eq!(raft.follow(1, &[1, 2, 3]), Elected::default());
    }
}
