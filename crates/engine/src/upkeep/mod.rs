//! What keeps the clusters' etcd well while a daemon runs, besides what the plan does: copies of the database on time,
//! alarms told, room that was freed given back, one member at a time.

mod alarms;
mod copying;
mod policy;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ashlar_api::{Cluster, EventType, Kind, Machine, NamespacedName, ObjectRef, SecretSpec};
use ashlar_plan::{EtcdStatus, Snapshot, names};
use futures::{StreamExt, stream};
use jiff::Timestamp;

pub use policy::CopyPolicy;

use self::alarms::Corrupt;
use crate::{
    Engine, EngineError, Scope,
    audit::Deed,
    deadline::within,
    effects::{CopyOwner, EtcdCopies, EtcdCopy, EtcdTarget},
    history::Told,
    objects,
};

/// Clusters that are looked after at one moment: a copy goes over the hosts' links.
const AT_ONCE: usize = 2;
/// How often members are asked for alarms and for the room that they waste.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// A member that was defragmented is left alone for so long, whatever it says.
const DEFRAGMENT_REST: Duration = Duration::from_secs(60 * 60);
/// Longest time for a copy: etcd's largest database, 8 GiB, at a third of the pace that bulk data is given elsewhere.
const COPY_LIMIT: Duration = Duration::from_secs(100 * 60);
/// Longest time for a defragmentation, in which the database is written anew.
const DEFRAGMENT_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What is remembered between rounds.
pub struct Upkeep {
    policy: CopyPolicy,
    copies: Arc<dyn EtcdCopies>,
    told: Told,
    looked: Mutex<BTreeMap<NamespacedName, Timestamp>>,
    defragmented: Mutex<BTreeMap<NamespacedName, Timestamp>>,
}

/// Something that was done, or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chore {
    /// For which cluster.
    pub cluster: NamespacedName,
    /// What it was.
    pub deed: ChoreDeed,
}

/// What was done, or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChoreDeed {
    /// A copy was taken of a node's member.
    Copied {
        /// The node.
        node: String,
        /// What it is.
        copy: EtcdCopy,
    },
    /// A member's database was defragmented.
    Defragmented {
        /// The node.
        node: String,
        /// Bytes of the file before.
        before_bytes: u64,
    },
    /// A member raised an alarm.
    Alarm {
        /// The node, and what it says.
        message: String,
    },
    /// It could not be done; it is tried again in the next round.
    Failed {
        /// What, and why.
        message: String,
    },
}

impl Upkeep {
    /// Nothing was done yet.
    pub fn new(policy: CopyPolicy, copies: Arc<dyn EtcdCopies>) -> Self {
        Upkeep {
            policy,
            copies,
            told: Told::default(),
            looked: Mutex::default(),
            defragmented: Mutex::default(),
        }
    }
}

/// A member that answered.
struct Answer {
    machine: Machine,
    target: EtcdTarget,
    status: EtcdStatus,
}

impl Answer {
    fn leads(&self) -> bool {
        self.status.leader == Some(self.status.member_id)
    }

    fn node(&self) -> String {
        self.machine.spec.node.name.clone()
    }
}

impl Engine {
    /// One round over all clusters: what is due is done, and told.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn keep_etcd(&self, upkeep: &Upkeep) -> Result<Vec<Chore>, EngineError> {
        let snapshot = self.snapshot(&Scope::StoreOnly).await?;
        let lives = |cluster: &&Cluster| {
            cluster.record.initialized && !cluster.record.stopped && !cluster.metadata.is_deleting()
        };
        let clusters: Vec<&Cluster> = snapshot.clusters.values().filter(lives).collect();
        let rounds = stream::iter(clusters).map(|cluster| self.keep_etcd_of(upkeep, &snapshot, cluster));
        let done: Vec<Vec<Chore>> = rounds.buffer_unordered(AT_ONCE).collect().await;
        let done: Vec<Chore> = done.into_iter().flatten().collect();
        for chore in &done {
            let (event_type, reason, message) = chore.told();
            let about = names::cluster_ref(&chore.cluster);
            self.record_event(&upkeep.told, &about, event_type, reason, &message).await;
        }
        upkeep.told.forget_older(LOOK_EVERY, self.world.clock.now());
        Ok(done)
    }

    async fn keep_etcd_of(&self, upkeep: &Upkeep, snapshot: &Snapshot, cluster: &Cluster) -> Vec<Chore> {
        let key = cluster.key();
        let now = self.world.clock.now();
        let chore = |deed| Chore { cluster: key.clone(), deed };
        let failed = |what: &str, why: String| chore(ChoreDeed::Failed { message: format!("{what}: {why}") });
        let Some(owner) = CopyOwner::of(snapshot.installation, cluster) else {
            return vec![failed("etcd is not looked after", "its cluster has no uid in the store".to_owned())];
        };
        let copies = match upkeep.copies.list(&owner).await {
            Ok(copies) => copies,
            Err(error) => return vec![failed("the snapshots of etcd cannot be listed", error.message)],
        };
        let is_due = upkeep.policy.is_due(&copies, now);
        let is_look_due = {
            let looked = upkeep.looked.lock().unwrap_or_else(PoisonError::into_inner);
            looked.get(&key).is_none_or(|at| now.duration_since(*at).unsigned_abs() >= LOOK_EVERY)
        };
        if !is_due && !is_look_due {
            return Vec::new();
        }
        let (answers, silent) = match self.ask_members(snapshot, cluster).await {
            Ok(asked) => asked,
            Err(error) => return vec![failed("etcd cannot be asked", crate::error::chain(&error))],
        };
        upkeep.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), now);
        let mut done: Vec<Chore> = answers
            .iter()
            .flat_map(|answer| answer.status.errors.iter().map(move |error| (answer.node(), error)))
            .map(|(node, error)| chore(ChoreDeed::Alarm { message: format!("etcd of {node}: {error}") }))
            .collect();
        // While members differ, what was copied before may be the last that is right: none of it goes. etcd takes no writes
        // then, so that after some copies there is nothing more to have.
        let corrupt = Corrupt::told(answers.iter().map(|answer| &answer.status));
        if is_due && !(corrupt.is_told() && upkeep.policy.is_full(&copies)) {
            done.push(match self.copy_etcd(upkeep, snapshot, cluster, &owner, &answers, &corrupt).await {
                Ok(deed) => chore(deed),
                Err(why) => failed("no snapshot of etcd was taken", why),
            });
            if !corrupt.is_told() {
                done.extend(self.prune(upkeep, &owner).await);
            }
        }
        // One member at a time, and never one that the others could not do without.
        let is_whole =
            silent == 0 && answers.iter().all(|it| it.status.errors.is_empty() && it.status.leader.is_some());
        if is_whole && let Some(answer) = self.wasteful(upkeep, snapshot, &answers, now) {
            done.push(match self.defragment(upkeep, answer, now).await {
                Ok(deed) => chore(deed),
                Err(why) => failed("etcd was not defragmented", why),
            });
        }
        done
    }

    /// What the members of a cluster say of themselves, and how many say nothing.
    async fn ask_members(
        &self,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> Result<(Vec<Answer>, usize), EngineError> {
        let key = cluster.key();
        let name = names::pki_secret(&key);
        let name = ObjectRef::new(Kind::Secret, &name.namespace, &name.name);
        let Some(pki) = objects::read::<SecretSpec>(self.store.as_ref(), &name).await? else {
            return Err(EngineError::Refused(format!("{name} is not in the store")));
        };
        let (mut answers, mut silent) = (Vec::new(), 0);
        for machine in snapshot.control_planes(&key).filter(|machine| machine.record.joined_at.is_some()) {
            let Some(target) = self.etcd_target(snapshot, &pki, machine)? else { continue };
            let what = format!("asking the etcd of {}", target.node);
            let call = self.world.etcd.status(&target);
            match within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await {
                Ok(status) => answers.push(Answer { machine: machine.clone(), target, status }),
                Err(_) => silent += 1,
            }
        }
        Ok((answers, silent))
    }

    /// Gives the room of one member's database back. That it is about to is recorded in the store first, which refuses who no
    /// longer leads, so that two daemons do not stop two members at once; and in the audit log, as every change is.
    async fn defragment(
        &self,
        upkeep: &Upkeep,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<ChoreDeed, String> {
        let machine = answer.machine.key();
        let object = names::machine_ref(&machine);
        let why = format!(
            "{} MiB of its database of {} MiB hold nothing",
            (answer.status.db_size_bytes - answer.status.db_used_bytes) >> 20,
            answer.status.db_size_bytes >> 20
        );
        let chain = |error: &dyn std::error::Error| crate::error::chain(error);
        let recorded = self.must_record_event(&object, EventType::Normal, "EtcdDefragmenting", &why).await;
        recorded.map_err(|error| chain(&error))?;
        upkeep.defragmented.lock().unwrap_or_else(PoisonError::into_inner).insert(machine, now);
        let (action, object) = ("defragmentEtcd".to_owned(), object.to_string());
        let begun = Deed::Started {
            action: action.clone(),
            object: object.clone(),
            host: String::new(),
            why,
            plan: now,
        };
        self.audit.record(now, &begun).map_err(|error| chain(&error))?;
        let what = format!("defragmenting the etcd of {}", answer.target.node);
        let call = self.world.etcd.defragment(&answer.target);
        let outcome = within(self.world.clock.as_ref(), DEFRAGMENT_LIMIT, &what, call).await;
        let ended = match &outcome {
            Ok(()) => Deed::Done { action, object },
            Err(error) => Deed::Failed { action, object, error: error.message.clone() },
        };
        self.audit.record(self.world.clock.now(), &ended).map_err(|error| chain(&error))?;
        outcome.map_err(|error| error.message)?;
        Ok(ChoreDeed::Defragmented { node: answer.node(), before_bytes: answer.status.db_size_bytes })
    }

    /// A member whose database is mostly room; followers first. None while machines of the cluster come or go.
    fn wasteful<'a>(
        &self,
        upkeep: &Upkeep,
        snapshot: &Snapshot,
        answers: &'a [Answer],
        now: Timestamp,
    ) -> Option<&'a Answer> {
        let cluster = &answers.first()?.target.cluster;
        let is_quiet = snapshot
            .control_planes(cluster)
            .all(|machine| machine.record.joined_at.is_some() && !machine.metadata.is_deleting());
        let defragmented = upkeep.defragmented.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |answer: &Answer| {
            let at = defragmented.get(&answer.machine.key());
            at.is_some_and(|at| now.duration_since(*at).unsigned_abs() < DEFRAGMENT_REST)
        };
        let wasteful = answers.iter().filter(|it| policy::is_worth_defragmenting(&it.status) && !rests(it));
        wasteful.filter(|_| is_quiet).min_by_key(|it| it.leads())
    }
}

impl Chore {
    fn told(&self) -> (EventType, &'static str, String) {
        match &self.deed {
            ChoreDeed::Copied { node, copy } => (
                EventType::Normal,
                "EtcdSnapshotTaken",
                format!(
                    "a snapshot of the etcd of {node} was taken: {} MiB",
                    copy.size_bytes.div_ceil(1 << 20)
                ),
            ),
            ChoreDeed::Defragmented { node, before_bytes } => (
                EventType::Normal,
                "EtcdDefragmented",
                format!("etcd of {node}: its file had {} MiB, mostly of nothing", before_bytes >> 20),
            ),
            ChoreDeed::Alarm { message } => (EventType::Warning, "EtcdAlarm", message.clone()),
            ChoreDeed::Failed { message } => (EventType::Warning, "EtcdMaintenanceFailed", message.clone()),
        }
    }
}
