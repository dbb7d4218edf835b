//! Simulated etcd: members with and without a vote, a leader, and majorities.
//!
//! A member is what a machine has on its etcd disk, so that the machine's uid names it; what lies there is in
//! [`crate::raft`]. What counts here is who belongs to it, who lives, and what is answered when. A removed member never
//! comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ashlar_api::{Machine, NamespacedName};
use ashlar_engine::effects::{Clock as _, EffectError, EffectErrorKind, EtcdApi, EtcdTarget};
use ashlar_plan::{EtcdMember, EtcdStatus};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::raft::{MemberLog, Raft};
use crate::seed::pem_bodies;
use crate::{SimCluster, SimWorld, State, guest};

/// One cluster's etcd.
#[derive(Clone, Debug, Default)]
pub struct SimEtcd {
    /// Members by id.
    pub members: BTreeMap<u64, SimMember>,
    /// Members that were taken out.
    pub removed: BTreeSet<u64>,
    /// What lies on their disks.
    pub(crate) raft: Raft,
    /// Members of another cluster answer in its place, to the same certificates.
    pub(crate) impostor: bool,
    /// Copies of it end in the middle.
    pub cuts_copies: bool,
    /// What members tell beside their status.
    pub alarm: Option<String>,
    /// Bytes of members' databases, and what of them holds something; of others it is not worth telling.
    pub databases: BTreeMap<u64, (u64, u64)>,
    /// How many seconds a defragmentation takes.
    pub defragment_s: u32,
    /// How many seconds a copy takes.
    pub copy_s: u32,
    /// Members that are defragmented, and until when: they answer nobody.
    pub(crate) defragmenting: BTreeMap<u64, Timestamp>,
}

/// A database that nothing was deleted in.
const DATABASE: (u64, u64) = (1 << 20, 1 << 20);

/// A member.
#[derive(Clone, Debug)]
pub struct SimMember {
    /// Its name, which is its node's.
    pub name: String,
    /// Its machine.
    pub machine: Uuid,
    /// Where its peers find it.
    pub address: Ipv4Addr,
    /// Whether it has no vote (yet).
    pub is_learner: bool,
}

/// The id of a machine's member.
pub(crate) fn member_id(machine: Uuid) -> u64 {
    machine.as_u64_pair().1
}

impl SimEtcd {
    /// Names of those who vote.
    pub fn voters(&self) -> BTreeSet<&str> {
        self.members.values().filter(|member| !member.is_learner).map(|member| member.name.as_str()).collect()
    }

    fn id_of(&self, node: &str) -> Option<u64> {
        self.members.iter().find(|(_, member)| member.name == node).map(|(id, _)| *id)
    }

    /// Names of those who do not vote yet.
    pub fn learners(&self) -> BTreeSet<&str> {
        self.members.values().filter(|member| member.is_learner).map(|member| member.name.as_str()).collect()
    }
}

impl State {
    /// Ids of the voters that run.
    fn running_voters(&self, cluster: &NamespacedName) -> Vec<u64> {
        let Some(world) = self.clusters.get(cluster) else { return Vec::new() };
        let voters = world.etcd.members.iter().filter(|(_, member)| !member.is_learner);
        voters.filter(|(id, member)| self.lives(world, **id, member)).map(|(id, _)| *id).collect()
    }

    /// Ids of the voters that run and hear the leader; of all that run, if nobody leads.
    pub(crate) fn living_voters(&self, cluster: &NamespacedName) -> Vec<u64> {
        let mut voters = self.running_voters(cluster);
        if let Some(leader) = self.etcd_leader(cluster) {
            voters.retain(|voter| self.members_hear(cluster, leader, *voter));
        }
        voters
    }

    /// Ids of all members that run and hear the leader.
    fn followers(&self, cluster: &NamespacedName, leader: u64) -> Vec<u64> {
        let Some(world) = self.clusters.get(cluster) else { return Vec::new() };
        let members = world.etcd.members.iter();
        members
            .filter(|(id, member)| self.lives(world, **id, member))
            .map(|(id, _)| *id)
            .filter(|id| self.members_hear(cluster, leader, *id))
            .collect()
    }

    fn members_hear(&self, cluster: &NamespacedName, one: u64, other: u64) -> bool {
        if self.broken_links.is_empty() || one == other {
            return true;
        }
        let machine = |id| Some(self.clusters.get(cluster)?.etcd.members.get(&id)?.machine);
        match (machine(one), machine(other)) {
            (Some(one), Some(other)) => self.hear_each_other(one, other),
            _ => false,
        }
    }

    /// Whether the machine's member hears the leader: without one it answers nothing that needs a majority.
    pub(crate) fn hears_leader(&self, cluster: &NamespacedName, machine: Option<Uuid>) -> bool {
        self.broken_links.is_empty()
            || machine.is_some_and(|machine| {
                let leader = self.etcd_leader(cluster);
                leader.is_some_and(|leader| self.members_hear(cluster, leader, member_id(machine)))
            })
    }

    fn lives(&self, world: &SimCluster, id: u64, member: &SimMember) -> bool {
        !world.etcd.raft.has_panicked(id)
            && !world.etcd.defragmenting.contains_key(&id)
            && guest::runs_etcd(self, member.machine)
    }

    /// Members whose databases are written answer again.
    pub(crate) fn end_defragmentations(&mut self) {
        let now = self.now;
        for world in self.clusters.values_mut() {
            let before = world.etcd.defragmenting.len();
            world.etcd.defragmenting.retain(|_, until| *until > now);
            self.moved |= world.etcd.defragmenting.len() < before;
        }
    }

    /// The member's database begins to be written anew; for how many seconds.
    fn defragment(&mut self, cluster: &NamespacedName, id: u64) -> u32 {
        let until = |seconds: u32| self.now.saturating_add(SignedDuration::from_secs(seconds.into())).ok();
        let Some(seconds) = self.clusters.get(cluster).map(|world| world.etcd.defragment_s) else { return 0 };
        let until = until(seconds).filter(|_| seconds > 0);
        let Some(world) = self.clusters.get_mut(cluster) else { return 0 };
        if let Some(database) = world.etcd.databases.get_mut(&id) {
            database.0 = database.1;
        }
        world.etcd.defragmenting.extend(until.map(|until| (id, until)));
        self.moved = true;
        seconds
    }

    /// Voters that run, of all.
    pub fn etcd_votes(&self, cluster: &NamespacedName) -> (usize, usize) {
        let all = self.clusters.get(cluster).map(|world| world.etcd.voters().len()).unwrap_or_default();
        (self.living_voters(cluster).len(), all)
    }

    /// The same of all clusters.
    pub(crate) fn all_votes(&self) -> BTreeMap<NamespacedName, (usize, usize)> {
        self.clusters.keys().map(|cluster| (cluster.clone(), self.etcd_votes(cluster))).collect()
    }

    /// Whether a majority of the voters runs, and hears one of them.
    pub fn has_quorum(&self, cluster: &NamespacedName) -> bool {
        self.etcd_leader(cluster).is_some()
    }

    /// Whether the cluster's virtual address answers: a control plane that can serve holds it.
    pub fn endpoint_answers(&self, cluster: &NamespacedName) -> bool {
        self.has_quorum(cluster) && guest::any_serving(self, cluster, |_| true)
    }

    /// The leader: the one there was while a majority hears it, else who wins the next election. A voter gives its vote
    /// to nobody whose log is older than its own.
    pub(crate) fn etcd_leader(&self, cluster: &NamespacedName) -> Option<u64> {
        let world = self.clusters.get(cluster)?;
        let majority = world.etcd.voters().len() / 2 + 1;
        let running = self.running_voters(cluster);
        if running.len() < majority {
            return None;
        }
        let raft = &world.etcd.raft;
        let heard_by = |leader: u64| {
            let voters = running.iter().copied();
            voters.filter(move |voter| self.members_hear(cluster, leader, *voter))
        };
        let leads = |leader: &u64| running.contains(leader) && heard_by(*leader).count() >= majority;
        if let Some(leader) = raft.leader().filter(leads) {
            return Some(leader);
        }
        let wins = |candidate: &u64| {
            heard_by(*candidate).filter(|voter| raft.grants(*voter, *candidate)).count() >= majority
        };
        let candidates: Vec<u64> = running.iter().copied().filter(wins).collect();
        raft.candidate(&candidates)
    }

    /// Elections, and what a leader does then: all that live get what it has.
    pub(crate) fn elect(&mut self) {
        let clusters: Vec<NamespacedName> = self.clusters.keys().cloned().collect();
        for cluster in clusters {
            if let Some(leader) = self.etcd_leader(&cluster) {
                self.follow(&cluster, leader);
            }
        }
    }

    fn follow(&mut self, cluster: &NamespacedName, leader: u64) {
        let living = self.followers(cluster, leader);
        let Some(world) = self.clusters.get_mut(cluster) else { return };
        let elected = world.etcd.raft.follow(leader, &living);
        let name =
            |id: u64| world.etcd.members.get(&id).map(|member| member.name.clone()).unwrap_or_default();
        let leads = elected.changed.then(|| name(leader));
        let panics: Vec<String> = elected
            .panics
            .iter()
            .map(|(id, told, last)| {
                format!("{} panics: tocommit({told}) is out of range [lastIndex({last})]", name(*id))
            })
            .collect();
        if let Some(name) = leads {
            self.note(format!("etcd {cluster}: {name} leads now"));
        }
        for panic in panics {
            self.note(format!("etcd {cluster}: {panic}"));
        }
        if elected.lost > 0 {
            self.judge_lost_writes(cluster, elected.lost);
        }
    }

    /// A client, or an API server for one, writes something. None if nobody can say that it will last.
    pub fn etcd_write(&mut self, cluster: &NamespacedName) -> Option<u64> {
        let leader = self.etcd_leader(cluster)?;
        self.follow(cluster, leader);
        let living = self.followers(cluster, leader);
        self.clusters.get_mut(cluster)?.etcd.raft.write(&living)
    }

    /// What lies on the etcd disk of a machine's member.
    pub fn etcd_log(&self, cluster: &NamespacedName, node: &str) -> Option<&MemberLog> {
        let etcd = &self.clusters.get(cluster)?.etcd;
        etcd.raft.log(etcd.id_of(node)?)
    }

    /// That disk is put back as it was once, behind everybody's back: `virsh snapshot-revert`, a restored image.
    pub fn turn_etcd_back(&mut self, cluster: &NamespacedName, node: &str, log: MemberLog) {
        let etcd = self.clusters.get_mut(cluster).map(|world| &mut world.etcd);
        if let Some(etcd) = etcd
            && let Some(id) = etcd.id_of(node)
        {
            etcd.raft.turn_back(id, log);
        }
    }

    /// The members as they are, for the transcript.
    pub(crate) fn note_members(&mut self, cluster: &NamespacedName, what: &str) {
        let Some(world) = self.clusters.get(cluster) else { return };
        let voters: Vec<&str> = world.etcd.voters().into_iter().collect();
        let learners: Vec<&str> = world.etcd.learners().into_iter().collect();
        let more =
            if learners.is_empty() { String::new() } else { format!("; learners {}", learners.join(", ")) };
        let line = format!("etcd {cluster}: {what}; {} voters {}{more}", voters.len(), voters.join(", "));
        self.note(line);
    }

    /// A joining control plane asks to be let in, as kubeadm does: as a learner, one at a time.
    pub(crate) fn add_learner(&mut self, cluster: &NamespacedName, machine: &Machine) -> bool {
        let (Some(uid), Some(address)) = (machine.metadata.uid, machine.spec.node_address()) else {
            return false;
        };
        let id = member_id(uid);
        let leader = self.clusters.get(cluster).zip(self.etcd_leader(cluster));
        let leader = leader.and_then(|(world, leader)| Some(world.etcd.members.get(&leader)?.machine));
        let quorum = leader.is_some_and(|leader| self.hear_each_other(uid, leader));
        let Some(world) = self.clusters.get_mut(cluster) else { return false };
        let etcd = &mut world.etcd;
        if etcd.members.contains_key(&id) {
            return true;
        }
        let taken = etcd.members.values().any(|member| member.is_learner);
        if !quorum || taken || etcd.removed.contains(&id) {
            return false;
        }
        let name = machine.spec.node.name.clone();
        etcd.members.insert(id, SimMember { name: name.clone(), machine: uid, address, is_learner: true });
        self.note_members(cluster, &format!("{name} is a learner"));
        true
    }

    /// A learner that has caught up gets its vote. `None` if it is no member any more.
    pub(crate) fn promote(&mut self, cluster: &NamespacedName, id: u64) -> Option<bool> {
        let quorum = self.has_quorum(cluster);
        let etcd = &mut self.clusters.get_mut(cluster)?.etcd;
        let caught_up = etcd.raft.has_caught_up(id);
        let member = etcd.members.get_mut(&id)?;
        if member.is_learner && quorum && caught_up {
            member.is_learner = false;
            let name = member.name.clone();
            self.note_members(cluster, &format!("{name} votes"));
            return Some(true);
        }
        Some(!member.is_learner)
    }

    /// A member goes, and what it did is refused from then on.
    fn remove_etcd_member(&mut self, cluster: &NamespacedName, id: u64) -> bool {
        let Some(world) = self.clusters.get_mut(cluster) else { return false };
        let Some(member) = world.etcd.members.remove(&id) else { return false };
        world.etcd.removed.insert(id);
        world.etcd.raft.forget(id);
        self.note_members(cluster, &format!("{} was removed", member.name));
        true
    }
}

/// The member that listens at the target, if it answers through a host that does.
fn member_at(state: &mut State, target: &EtcdTarget) -> Result<u64, EffectError> {
    let unreachable = |why: &str| {
        let message = format!("cluster {}: the etcd of {}: {why}", target.cluster, target.node);
        EffectError::new(EffectErrorKind::Unreachable, message)
    };
    let via = state.ways(&target.dial.via);
    if via.is_empty() {
        return Err(unreachable("no host of its network answers"));
    }
    let world = state.clusters.get(&target.cluster);
    let ca = pem_bodies(&target.ca_pem, "CERTIFICATE").pop();
    if !ca.is_some_and(|ca| world.is_some_and(|world| world.certificates.contains(&ca))) {
        return Err(unreachable("its certificate is signed by an unknown authority"));
    }
    let found = world
        .into_iter()
        .flat_map(|world| &world.etcd.members)
        .find(|(_, member)| member.address == target.dial.address)
        .filter(|(id, member)| world.is_some_and(|world| state.lives(world, **id, member)))
        .filter(|(_, member)| via.iter().any(|host| state.is_heard_on(host, Some(member.machine))));
    found.map(|(id, _)| *id).ok_or_else(|| unreachable("connection refused"))
}

/// A member that can do what needs a majority.
fn voter_at(state: &mut State, target: &EtcdTarget) -> Result<u64, EffectError> {
    let id = member_at(state, target)?;
    let failed = |kind, why: &str| {
        EffectError::new(kind, format!("cluster {}: the etcd of {}: {why}", target.cluster, target.node))
    };
    let member = state.clusters.get(&target.cluster).and_then(|world| world.etcd.members.get(&id));
    let machine = member.map(|member| member.machine);
    if !state.has_quorum(&target.cluster) || !state.hears_leader(&target.cluster, machine) {
        return Err(failed(EffectErrorKind::Unreachable, "etcdserver: no leader"));
    }
    if member.is_none_or(|member| member.is_learner) {
        return Err(failed(EffectErrorKind::Unreachable, "etcdserver: rpc not supported for learner"));
    }
    Ok(id)
}

/// A member of somebody else's etcd.
fn stranger(number: u64) -> EtcdMember {
    EtcdMember {
        id: 0x57A6_1000 + number,
        name: format!("other-{number}"),
        peer_urls: vec![format!("https://10.99.0.{number}:2380")],
        is_learner: false,
    }
}

fn not_found(target: &EtcdTarget) -> EffectError {
    let message = format!("cluster {}: etcdserver: member not found", target.cluster);
    EffectError::new(EffectErrorKind::NotFound, message)
}

#[async_trait]
impl EtcdApi for SimWorld {
    async fn members(&self, target: &EtcdTarget) -> Result<Vec<EtcdMember>, EffectError> {
        self.look_at_api(|state| {
            voter_at(state, target)?;
            if state.clusters.get(&target.cluster).is_some_and(|world| world.etcd.impostor) {
                return Ok((1..=3).map(stranger).collect());
            }
            let members = state.clusters.get(&target.cluster).into_iter().flat_map(|world| {
                world.etcd.members.iter().map(|(id, member)| EtcdMember {
                    id: *id,
                    // A member tells its name once it has started.
                    name: if guest::runs_etcd(state, member.machine) || !member.is_learner {
                        member.name.clone()
                    } else {
                        String::new()
                    },
                    peer_urls: vec![format!("https://{}:2380", member.address)],
                    is_learner: member.is_learner,
                })
            });
            Ok(members.collect())
        })
        .await
    }

    async fn status(&self, target: &EtcdTarget) -> Result<EtcdStatus, EffectError> {
        self.look_at_api(|state| {
            let id = member_at(state, target)?;
            let member = state.clusters.get(&target.cluster).and_then(|world| world.etcd.members.get(&id));
            let machine = member.map(|member| member.machine);
            let leader = state.etcd_leader(&target.cluster);
            let leader = leader.filter(|_| state.hears_leader(&target.cluster, machine));
            let no_leader = leader.is_none().then(|| "etcdserver: no leader".to_owned());
            let alarm = state.clusters.get(&target.cluster).and_then(|world| world.etcd.alarm.clone());
            let errors = no_leader.into_iter().chain(alarm).collect();
            let databases = state.clusters.get(&target.cluster).map(|world| &world.etcd.databases);
            let (size, used) = databases.and_then(|all| all.get(&id)).copied().unwrap_or(DATABASE);
            Ok(EtcdStatus {
                member_id: id,
                leader,
                is_learner: member.is_some_and(|member| member.is_learner),
                errors,
                version: "3.7.0".to_owned(),
                db_size_bytes: size,
                db_used_bytes: used,
            })
        })
        .await
    }

    async fn promote_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        let to_whom = target.clone();
        self.effect("promote_member", "etcd", move |state| {
            let target = &to_whom;
            voter_at(state, target)?;
            state.judge_disturbance(&target.cluster, "promote_member");
            state.count_mutation("promote_member");
            state.promote(&target.cluster, member).map(drop).ok_or_else(|| not_found(target))
        })
        .await
    }

    async fn remove_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        let to_whom = target.clone();
        self.effect("remove_member", "etcd", move |state| {
            let target = &to_whom;
            voter_at(state, target)?;
            state.judge_remove_member(&target.cluster, member);
            state.count_mutation("remove_member");
            if state.remove_etcd_member(&target.cluster, member) { Ok(()) } else { Err(not_found(target)) }
        })
        .await
    }

    async fn move_leader(&self, target: &EtcdTarget, to: u64) -> Result<(), EffectError> {
        let to_whom = target.clone();
        self.effect("move_leader", "etcd", move |state| {
            let target = &to_whom;
            let id = voter_at(state, target)?;
            let busy = |why: &str| {
                EffectError::new(EffectErrorKind::Busy, format!("cluster {}: {why}", target.cluster))
            };
            if state.etcd_leader(&target.cluster) != Some(id) {
                return Err(busy("etcdserver: not leader"));
            }
            if !state.living_voters(&target.cluster).contains(&to) {
                return Err(busy("etcdserver: bad leader transferee"));
            }
            state.judge_disturbance(&target.cluster, "move_leader");
            state.count_mutation("move_leader");
            state.follow(&target.cluster, to);
            Ok(())
        })
        .await
    }

    /// What is acknowledged in the cluster, as text, and its digest; of a disk that damages what it holds, half of it.
    async fn snapshot(
        &self,
        target: &EtcdTarget,
        into: &mut (dyn std::io::Write + Send),
    ) -> Result<(), EffectError> {
        let database = self
            .look_at_api(|state| {
                member_at(state, target)?;
                state.note(format!("etcd {}: {} is copied", target.cluster, target.node));
                let objects = state.clusters.get(&target.cluster).map(|world| world.objects.keys().cloned());
                Ok(objects.into_iter().flatten().collect::<Vec<String>>().join("\n"))
            })
            .await?;
        // In whole pages, as etcd's own.
        let length = database.len().next_multiple_of(512).max(512);
        let database = format!("{database:length$}");
        let digest = Sha256::digest(database.as_bytes());
        let whole = [database.as_bytes(), &digest].concat();
        let (damaged, takes_s) = {
            let state = self.state();
            let etcd = state.clusters.get(&target.cluster).map(|world| &world.etcd);
            etcd.map_or((false, 0), |etcd| (etcd.cuts_copies, etcd.copy_s))
        };
        if takes_s > 0 {
            self.sleep(Duration::from_secs(takes_s.into())).await;
        }
        into.write_all(if damaged { &whole[..whole.len() / 2] } else { &whole })
            .map_err(|error| EffectError::new(EffectErrorKind::Exhausted, error.to_string()))
    }

    async fn defragment(&self, target: &EtcdTarget) -> Result<(), EffectError> {
        let to_whom = target.clone();
        let call = move |state: &mut State| {
            let id = member_at(state, &to_whom)?;
            state.judge_defragment(&to_whom.cluster, id);
            state.count_mutation("defragment");
            state.note(format!("etcd {}: {} is defragmented", to_whom.cluster, to_whom.node));
            Ok(state.defragment(&to_whom.cluster, id))
        };
        let takes_s = self.effect("defragment", "etcd", call).await?;
        if takes_s > 0 {
            self.sleep(Duration::from_secs(takes_s.into())).await;
        }
        Ok(())
    }
}
