//! What keeps the clusters' etcd well while a daemon runs, besides what the plan does: copies of the database on time,
//! alarms told, room that was freed given back, one member at a time.

mod alarms;
mod copying;
mod defragment;
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
    deadline::within,
    effects::{CopyOwner, EtcdCopies, EtcdCopy, EtcdTarget},
    history::Told,
    objects,
};

/// Clusters that are looked after at one moment: a copy goes over the hosts' links.
const AT_ONCE: usize = 2;
/// How often members are asked for alarms and for the room that they waste.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// Longest time for a copy: etcd's largest database, 8 GiB, at a third of the pace that bulk data is given elsewhere.
const COPY_LIMIT: Duration = Duration::from_secs(100 * 60);

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

/// A cluster and its etcd as they are at one moment.
struct Look {
    snapshot: Snapshot,
    cluster: Cluster,
    answers: Vec<Answer>,
    /// How many members say nothing.
    silent: usize,
}

impl Look {
    fn corrupt(&self) -> Corrupt {
        Corrupt::told(self.answers.iter().map(|answer| &answer.status))
    }
}

/// Whether it has an etcd that is to be kept well.
fn lives(cluster: &Cluster) -> bool {
    cluster.record.initialized && !cluster.record.stopped && !cluster.metadata.is_deleting()
}

impl Engine {
    /// One round over all clusters: what is due is done, and told.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn keep_etcd(&self, upkeep: &Upkeep) -> Result<Vec<Chore>, EngineError> {
        let snapshot = self.snapshot(&Scope::StoreOnly).await?;
        let clusters = snapshot.clusters.values().filter(|cluster| lives(cluster));
        let owners: Vec<CopyOwner> =
            clusters.filter_map(|cluster| CopyOwner::of(snapshot.installation, cluster)).collect();
        drop(snapshot);
        let rounds = stream::iter(&owners).map(|owner| self.keep_etcd_of(upkeep, owner));
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

    async fn keep_etcd_of(&self, upkeep: &Upkeep, owner: &CopyOwner) -> Vec<Chore> {
        let now = self.world.clock.now();
        let chore = |deed| Chore { cluster: owner.cluster.clone(), deed };
        let failed = |what: &str, why: String| chore(ChoreDeed::Failed { message: format!("{what}: {why}") });
        let copies = match upkeep.copies.list(owner).await {
            Ok(copies) => copies,
            Err(error) => return vec![failed("the snapshots of etcd cannot be listed", error.message)],
        };
        let is_due = upkeep.policy.is_due(&copies, now);
        let is_look_due = {
            let looked = upkeep.looked.lock().unwrap_or_else(PoisonError::into_inner);
            looked.get(&owner.cluster).is_none_or(|at| now.duration_since(*at).unsigned_abs() >= LOOK_EVERY)
        };
        if !is_due && !is_look_due {
            return Vec::new();
        }
        let unasked = |error: EngineError| failed("etcd cannot be asked", crate::error::chain(&error));
        let mut look = match self.look_at_etcd(owner).await {
            Ok(Some(look)) => look,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![unasked(error)],
        };
        let looked = (owner.cluster.clone(), now);
        upkeep.looked.lock().unwrap_or_else(PoisonError::into_inner).extend([looked]);
        let mut done: Vec<Chore> = look
            .answers
            .iter()
            .flat_map(|answer| answer.status.errors.iter().map(move |error| (answer.node(), error)))
            .map(|(node, error)| chore(ChoreDeed::Alarm { message: format!("etcd of {node}: {error}") }))
            .collect();
        // While members differ, what was copied before may be the last that is right: none of it goes. etcd takes no writes
        // then, so that after some copies there is nothing more to have.
        if is_due && !(look.corrupt().is_told() && upkeep.policy.is_full(&copies)) {
            done.push(match self.copy_etcd(upkeep, owner, &look).await {
                Ok(deed) => chore(deed),
                Err(why) => failed("no snapshot of etcd was taken", why),
            });
            // A copy may take an hour, in which much becomes otherwise.
            look = match self.look_at_etcd(owner).await {
                Ok(Some(look)) => look,
                Ok(None) => return done,
                Err(error) => {
                    done.push(unasked(error));
                    return done;
                }
            };
            if !look.corrupt().is_told() {
                done.extend(self.prune(upkeep, owner).await);
            }
        }
        if look.answers.iter().any(|answer| policy::is_worth_defragmenting(&answer.status)) {
            match self.give_room_back(upkeep, owner).await {
                Ok(deed) => done.extend(deed.map(chore)),
                Err(why) => done.push(failed("etcd was not defragmented", why)),
            }
        }
        done
    }

    /// What is so of a cluster now; none if it is no more, or has no etcd that is to be kept well.
    async fn look_at_etcd(&self, owner: &CopyOwner) -> Result<Option<Look>, EngineError> {
        let snapshot = self.snapshot(&Scope::StoreOnly).await?;
        let cluster = snapshot.clusters.get(&owner.cluster);
        let Some(cluster) = cluster.filter(|it| lives(it) && it.metadata.uid == Some(owner.uid)).cloned()
        else {
            return Ok(None);
        };
        let name = names::pki_secret(&owner.cluster);
        let name = ObjectRef::new(Kind::Secret, &name.namespace, &name.name);
        let Some(pki) = objects::read::<SecretSpec>(self.store.as_ref(), &name).await? else {
            return Err(EngineError::Refused(format!("{name} is not in the store")));
        };
        let (mut answers, mut silent) = (Vec::new(), 0);
        let machines = snapshot.control_planes(&owner.cluster);
        for machine in machines.filter(|machine| machine.record.joined_at.is_some()) {
            let Some(target) = self.etcd_target(&snapshot, &pki, machine)? else { continue };
            let what = format!("asking the etcd of {}", target.node);
            let call = self.world.etcd.status(&target);
            match within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await {
                Ok(status) => answers.push(Answer { machine: machine.clone(), target, status }),
                Err(_) => silent += 1,
            }
        }
        Ok(Some(Look { snapshot, cluster, answers, silent }))
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
