//! The heart of placement: rooms of hosts, kept up to date claim by claim, and an index that finds the best host for a
//! shape of machine without looking at all of them. Numbers only: no names, no objects.
//!
//! Each shape of machine has a *board*: the hosts that it fits on, ordered by score, one list for each rack. A claim
//! changes one host; the boards catch up when they are asked next. So a choice costs the number of racks, not of hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::guard::Guard;
use super::room::{Demand, Lack, Room};
use super::score::packing_score;
use super::spread::Peers;

/// A host, by its number in the packer: hosts are numbered in the order in which they are added.
pub type HostNumber = u32;
/// A shape of machine, by its number in the packer.
pub type ShapeNumber = usize;

/// A machine's claim on a host: what was taken, and from which NUMA nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What was taken.
    pub demand: Demand,
    /// NUMA nodes (positions in the room).
    pub nodes: Vec<usize>,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct PackedHost {
    /// What is left.
    pub(crate) room: Room,
    /// What there would be without any claim.
    pub(crate) offer: Room,
    pub(crate) rack: u32,
    /// New machines may come here, and those of a host that has died.
    pub(crate) is_open: bool,
    /// Images that are there, or decided to be.
    pub(crate) images: BTreeSet<usize>,
    /// Claims by number: the lowest is the oldest.
    pub(crate) claims: BTreeMap<u64, Claim>,
    /// The number that the next claim would have had when the host changed last.
    pub(crate) changed_at: u64,
}

/// Machines of one size that may go to the same hosts.
struct Board {
    demand: Demand,
    /// The image with what it takes on a host that lacks it.
    image: Option<(usize, u64)>,
    /// By host: no rule but those about room speaks against it.
    eligible: Vec<bool>,
    /// By host: the score under which it stands in its rack's list.
    scores: Vec<Option<i64>>,
    racks: Vec<BTreeSet<(Reverse<i64>, HostNumber)>>,
    /// How much of the log of changed hosts is in here.
    seen: usize,
}

/// Hosts with what is left on them.
#[derive(Default)]
pub struct Packer {
    hosts: Vec<PackedHost>,
    /// Rack → zone.
    zones: Vec<u32>,
    boards: Vec<Board>,
    /// Hosts in the order in which they changed, and for each host its last place in there.
    changed: Vec<HostNumber>,
    last_change: Vec<usize>,
    next_claim: u64,
    guard: Option<Guard>,
}

/// What a choice has to keep to.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Where its likes are, and how far they have to be from each other.
    pub peers: Peers,
    /// Hosts that are out of the question for another reason.
    pub excluded: BTreeSet<HostNumber>,
    /// Leave room for the machines of any one host.
    pub guarded: bool,
}

impl Packer {
    /// Adds a rack of a zone, both by number; gives its own.
    pub fn add_rack(&mut self, zone: u32) -> u32 {
        self.zones.push(zone);
        u32::try_from(self.zones.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds a host that offers so much, without claims.
    pub fn add_host(&mut self, offer: Room, rack: u32, is_open: bool) -> HostNumber {
        let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let room = offer.clone();
        let (images, claims) = (BTreeSet::new(), BTreeMap::new());
        let changed_at = self.next_claim;
        self.hosts.push(PackedHost { room, offer, rack, is_open, images, claims, changed_at });
        self.last_change.push(self.changed.len());
        self.changed.push(number);
        self.guard = None;
        number
    }

    /// Adds a shape. Hosts that are added later are eligible for it.
    pub fn add_shape(
        &mut self,
        demand: Demand,
        image: Option<(usize, u64)>,
        eligible: Vec<bool>,
    ) -> ShapeNumber {
        let hosts = self.hosts.len();
        let mut board = Board {
            demand,
            image,
            eligible,
            scores: vec![None; hosts],
            racks: vec![BTreeSet::new(); self.zones.len()],
            seen: self.changed.len(),
        };
        for number in 0..hosts {
            board.update(&self.hosts, number);
        }
        self.boards.push(board);
        self.boards.len() - 1
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What is left on a host.
    pub fn room(&self, host: HostNumber) -> Option<&Room> {
        self.hosts.get(host as usize).map(|host| &host.room)
    }

    /// What a host offers in all.
    pub fn offer(&self, host: HostNumber) -> Option<&Room> {
        self.hosts.get(host as usize).map(|host| &host.offer)
    }

    pub(crate) fn hosts(&self) -> &[PackedHost] {
        &self.hosts
    }

    /// Rack and zone of a host.
    pub fn place_of(&self, host: HostNumber) -> (u32, u32) {
        let rack = self.hosts.get(host as usize).map_or(0, |host| host.rack);
        (rack, self.zone_of(rack))
    }

    pub(crate) fn zone_of(&self, rack: u32) -> u32 {
        self.zones.get(rack as usize).copied().unwrap_or_default()
    }

    /// The demand of a shape.
    pub fn demand(&self, shape: ShapeNumber) -> &Demand {
        &self.boards[shape].demand
    }

    /// Whether no rule but those about room speaks against the host.
    pub(crate) fn is_eligible(&self, shape: ShapeNumber, host: HostNumber) -> bool {
        self.boards[shape].eligible.get(host as usize).copied().unwrap_or(true)
    }

    /// What of the shape's image is not on the host yet.
    pub(crate) fn missing_image_mib(&self, shape: ShapeNumber, host: HostNumber) -> u64 {
        self.boards[shape].missing_image_mib(&self.hosts[host as usize])
    }

    /// Whether the shape fits on the host as it is now, and with which score.
    pub fn judge(&self, shape: ShapeNumber, host: HostNumber) -> Result<i64, Lack> {
        self.boards[shape].judge(&self.hosts[host as usize], host as usize)
    }

    /// The best host for a machine of the shape, if any will do. Hosts that have none of its likes come first, then
    /// zones and racks that have few, then the host that it fills best; ties go to the lowest number.
    pub fn choose(&mut self, shape: ShapeNumber, choice: &Choice) -> Option<HostNumber> {
        self.catch_up(shape);
        if !choice.guarded {
            return self.best(shape, choice, &choice.excluded);
        }
        if self.guard.is_none() {
            self.guard = Some(Guard::new(&self.hosts));
        }
        let mut excluded = choice.excluded.clone();
        loop {
            let host = self.best(shape, choice, &excluded)?;
            let guard = self.guard.as_ref()?;
            if guard.is_broken() {
                return None;
            }
            if guard.admits(&self.hosts, host, &self.boards[shape].demand).is_ok() {
                return Some(host);
            }
            excluded.insert(host);
        }
    }

    fn best(
        &self,
        shape: ShapeNumber,
        choice: &Choice,
        excluded: &BTreeSet<HostNumber>,
    ) -> Option<HostNumber> {
        let board = &self.boards[shape];
        let counts = choice.peers.counts(self);
        let mut best: Option<(u32, u32, u32, Reverse<i64>, HostNumber)> = None;
        for (rack, list) in board.racks.iter().enumerate() {
            if list.is_empty() {
                continue;
            }
            let rack = u32::try_from(rack).unwrap_or(u32::MAX);
            let (in_zone, in_rack) = (counts.in_zone(self.zones[rack as usize]), counts.in_rack(rack));
            if in_zone >= choice.peers.zone_limit || in_rack >= choice.peers.rack_limit {
                continue;
            }
            // Without a like of its own first; of those that have one only the counts are looked at, and they are few.
            let free = list.iter().find(|(_, host)| counts.on_host(*host) == 0 && !excluded.contains(host));
            if let Some((score, host)) = free {
                let key = (0, in_zone, in_rack, *score, *host);
                if best.is_none_or(|best| key < best) {
                    best = Some(key);
                }
            }
        }
        if best.is_none() {
            for (host, count) in &counts.hosts {
                let Some(score) = board.scores.get(*host as usize).copied().flatten() else { continue };
                let (rack, zone) = self.place_of(*host);
                let (in_zone, in_rack) = (counts.in_zone(zone), counts.in_rack(rack));
                let is_open = *count < choice.peers.host_limit
                    && in_zone < choice.peers.zone_limit
                    && in_rack < choice.peers.rack_limit
                    && !excluded.contains(host);
                let key = (*count, in_zone, in_rack, Reverse(score), *host);
                if is_open && best.is_none_or(|best| key < best) {
                    best = Some(key);
                }
            }
        }
        best.map(|(.., host)| host)
    }

    fn note_change(&mut self, host: HostNumber) {
        self.last_change[host as usize] = self.changed.len();
        self.hosts[host as usize].changed_at = self.next_claim;
        self.changed.push(host);
    }

    /// Lets a board know of all that changed since it was asked last.
    fn catch_up(&mut self, shape: ShapeNumber) {
        let board = &mut self.boards[shape];
        let behind = self.changed.len() - board.seen;
        if behind > self.hosts.len() {
            (0..self.hosts.len()).for_each(|number| board.update(&self.hosts, number));
        } else {
            for position in board.seen..self.changed.len() {
                let host = self.changed[position] as usize;
                // A host that changed several times is looked at once.
                if self.last_change[host] == position {
                    board.update(&self.hosts, host);
                }
            }
        }
        board.seen = self.changed.len();
    }

    /// Takes a claim of the shape; gives its number and the NUMA nodes (positions) that it got.
    pub fn claim(&mut self, shape: ShapeNumber, host: HostNumber) -> (u64, Vec<usize>) {
        let demand = self.boards[shape].demand.clone();
        let nodes = match self.hosts.get(host as usize) {
            Some(host) if demand.nodes > 0 => host.room.choose_nodes(&demand),
            _ => Vec::new(),
        };
        (self.take(host, Claim { demand, nodes: nodes.clone() }), nodes)
    }

    /// Takes a claim that is there already.
    pub fn take(&mut self, host: HostNumber, claim: Claim) -> u64 {
        let id = self.next_claim;
        self.next_claim += 1;
        if let Some(guard) = &mut self.guard {
            guard.take(&self.hosts, host, &claim);
        }
        let entry = &mut self.hosts[host as usize];
        entry.room.take(&claim.demand, &claim.nodes);
        entry.claims.insert(id, claim);
        self.note_change(host);
        if let Some(guard) = &mut self.guard {
            guard.taken(&self.hosts, host);
        }
        id
    }

    /// Gives a claim back. What is not there is not given back twice.
    pub fn give(&mut self, host: HostNumber, id: u64) {
        let entry = &mut self.hosts[host as usize];
        if let Some(claim) = entry.claims.remove(&id) {
            entry.room.give(&claim.demand, &claim.nodes);
            self.note_change(host);
            self.guard = None;
        }
    }

    /// Takes capacity of a pool for something else than a machine's own disks, such as an image.
    pub fn take_disk(&mut self, host: HostNumber, pool: usize, mib: u64, soon_mib: u64) {
        let room = &mut self.hosts[host as usize].room;
        room.take_disk(pool, super::room::signed(mib), super::room::signed(soon_mib));
        self.note_change(host);
    }

    /// Gives capacity of a pool back.
    pub(crate) fn give_disk(&mut self, host: HostNumber, pool: usize, mib: u64, soon_mib: u64) {
        let room = &mut self.hosts[host as usize].room;
        room.take_disk(pool, -super::room::signed(mib), -super::room::signed(soon_mib));
        self.note_change(host);
    }

    /// An image does not come to the host after all.
    pub(crate) fn drop_image(&mut self, host: HostNumber, image: usize) {
        if self.hosts[host as usize].images.remove(&image) {
            self.note_change(host);
        }
    }

    /// An image is on the host from now on.
    pub fn put_image(&mut self, host: HostNumber, image: usize) {
        if self.hosts[host as usize].images.insert(image) {
            self.note_change(host);
        }
    }

    /// Which host's death would leave machines without room if the shape went to the host; none if any may die.
    pub(crate) fn who_may_not_die(&mut self, shape: ShapeNumber, host: HostNumber) -> Option<HostNumber> {
        let guard = self.guard.get_or_insert_with(|| Guard::new(&self.hosts));
        guard.admits(&self.hosts, host, &self.boards[shape].demand).err()
    }

    pub(crate) fn save_guard(&self) -> Option<Guard> {
        self.guard.clone()
    }

    /// Puts back the guard as it was before claims that were given back since.
    pub(crate) fn restore_guard(&mut self, guard: Option<Guard>) {
        self.guard = guard;
    }
}

impl Board {
    fn missing_image_mib(&self, host: &PackedHost) -> u64 {
        match self.image {
            Some((image, mib)) if !host.images.contains(&image) => mib,
            _ => 0,
        }
    }

    fn judge(&self, host: &PackedHost, number: usize) -> Result<i64, Lack> {
        let missing_mib = self.missing_image_mib(host);
        host.room.fits(&self.demand, missing_mib)?;
        Ok(packing_score(host, number, &self.demand, missing_mib == 0))
    }

    fn update(&mut self, hosts: &[PackedHost], number: usize) {
        let host = &hosts[number];
        if self.scores.len() <= number {
            self.scores.resize(number + 1, None);
        }
        let is_eligible = host.is_open && self.eligible.get(number).copied().unwrap_or(true);
        let score = if is_eligible { self.judge(host, number).ok() } else { None };
        let was = std::mem::replace(&mut self.scores[number], score);
        if was == score {
            return;
        }
        let rack = host.rack as usize;
        if self.racks.len() <= rack {
            self.racks.resize(rack + 1, BTreeSet::new());
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(was) = was {
            self.racks[rack].remove(&(Reverse(was), number));
        }
        if let Some(score) = score {
            self.racks[rack].insert((Reverse(score), number));
        }
    }
}
