//! Giving room back: one member at a time, and never one that the others could not do without.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use ashlar_api::{Cluster, ClusterSpec, Defragmentation, EventType, Machine, Object};
use ashlar_plan::{defragmentation, names};
use ashlar_store::Transaction;
use jiff::Timestamp;

use super::{Answer, ChoreDeed, Look, Upkeep, policy};
use crate::{
    CommittedWrite, Engine, EngineError, WriteVerb,
    audit::Deed,
    deadline::within,
    effects::{CopyOwner, EffectErrorKind},
    objects,
};

/// A member that was defragmented is left alone for so long, whatever it says.
const REST: Duration = Duration::from_secs(60 * 60);
/// Longest time for a defragmentation, in which the database is written anew. What ends so may go on for a while:
/// [`defragmentation::LASTS`] is twice as long.
const LIMIT: Duration = Duration::from_secs(5 * 60);

impl Look {
    /// Whether the cluster can do without any one of its members now: all are there and well, and none comes, goes or moves.
    fn is_whole(&self) -> bool {
        let key = self.cluster.key();
        let machines = || self.snapshot.control_planes(&key);
        let stays = |machine: &Machine| {
            machine.record.joined_at.is_some()
                && machine.record.migration.is_none()
                && machine.record.failure.is_none()
                && !machine.metadata.is_deleting()
        };
        let is_well = |answer: &Answer| {
            let status = &answer.status;
            status.errors.is_empty() && status.leader.is_some() && !status.is_learner
        };
        self.silent == 0
            && self.answers.len() == machines().count()
            && machines().all(stays)
            && self.answers.iter().all(is_well)
            && defragmentation::under_way(&self.cluster, self.snapshot.now).is_none()
    }

    /// A member whose database is mostly room; followers first.
    fn wasteful(&self, upkeep: &Upkeep) -> Option<&Answer> {
        let defragmented = upkeep.defragmented.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |answer: &Answer| {
            let at = defragmented.get(&answer.machine.key());
            at.is_some_and(|at| self.snapshot.now.duration_since(*at).unsigned_abs() < REST)
        };
        let is_wasteful = |it: &&Answer| policy::is_worth_defragmenting(&it.status) && !rests(it);
        self.answers.iter().filter(is_wasteful).min_by_key(|it| it.leads())
    }
}

impl Engine {
    /// Defragments the database of one member that is mostly room, if the cluster can do without it now. Decided from what is so
    /// at this moment, while no step of this process disturbs a control plane of the cluster; and recorded in the store, which
    /// refuses who no longer leads and whoever saw other control planes, and keeps all others away until it has ended.
    pub(super) async fn give_room_back(
        &self,
        upkeep: &Upkeep,
        owner: &CopyOwner,
    ) -> Result<Option<ChoreDeed>, String> {
        let Some(_alone) = self.disruptions.defragmentation(&owner.cluster) else { return Ok(None) };
        let look = self.look_at_etcd(owner).await.map_err(|error| chain(&error))?;
        let Some(look) = look.filter(Look::is_whole) else { return Ok(None) };
        let Some(answer) = look.wasteful(upkeep) else { return Ok(None) };
        if !self.are_all_members(&look, answer).await? {
            return Ok(None);
        }
        let now = self.world.clock.now();
        let Some(marked) = self.mark(&look, answer, now).await.map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        upkeep.defragmented.lock().unwrap_or_else(PoisonError::into_inner).insert(answer.machine.key(), now);
        let about = names::machine_ref(&answer.machine.key());
        let why = format!(
            "{} MiB of its database of {} MiB hold nothing",
            (answer.status.db_size_bytes - answer.status.db_used_bytes) >> 20,
            answer.status.db_size_bytes >> 20
        );
        self.record_event(&upkeep.told, &about, EventType::Normal, "EtcdDefragmenting", &why).await;
        let (action, object) = ("defragmentEtcd".to_owned(), about.to_string());
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
        let outcome = within(self.world.clock.as_ref(), LIMIT, &what, call).await;
        let ended = match &outcome {
            Ok(()) => Deed::Done { action, object },
            Err(error) => Deed::Failed { action, object, error: error.message.clone() },
        };
        self.audit.record(self.world.clock.now(), &ended).map_err(|error| chain(&error))?;
        // What got no answer may go on: it is waited for until its time.
        let may_go_on = outcome.as_ref().is_err_and(|error| error.kind == EffectErrorKind::Unreachable);
        if !may_go_on {
            self.unmark(&marked).await;
        }
        outcome.map_err(|error| error.message)?;
        Ok(Some(ChoreDeed::Defragmented { node: answer.node(), before_bytes: answer.status.db_size_bytes }))
    }

    /// Whether the members that etcd knows are those that answered, and all of them vote.
    async fn are_all_members(&self, look: &Look, asked: &Answer) -> Result<bool, String> {
        let what = format!("asking the etcd of {} for its members", asked.target.node);
        let call = self.world.etcd.members(&asked.target);
        let members = within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await;
        let members = members.map_err(|error| error.message)?;
        let known: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
        let answered: BTreeSet<u64> = look.answers.iter().map(|answer| answer.status.member_id).collect();
        Ok(known == answered && members.iter().all(|member| !member.is_learner))
    }

    /// Records in the cluster that it begins; none if the cluster or one of its control planes is not as it was seen.
    async fn mark(
        &self,
        look: &Look,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<Option<Cluster>, EngineError> {
        let mut cluster = look.cluster.clone();
        let machine = answer.machine.metadata.name.clone();
        let until = now.saturating_add(defragmentation::LASTS).unwrap_or(now);
        cluster.record.defragmenting = Some(Defragmentation { machine, since: now, until });
        let expect = objects::unchanged_since(&cluster.metadata.resource_version)?;
        let object = cluster.object_ref();
        let value = objects::to_stored(Object::from(cluster.clone()))?;
        let mut transaction = Transaction::new().put(objects::key_of(&object), value, expect);
        for machine in look.snapshot.control_planes(&cluster.key()) {
            let expect = objects::unchanged_since(&machine.metadata.resource_version)?;
            transaction = transaction.check(objects::key_of(&machine.object_ref()), expect);
        }
        let told = [CommittedWrite { object, verb: WriteVerb::Updated }];
        self.audit.record(now, &Deed::decided(&told, now))?;
        match self.store.commit(transaction).await {
            Ok(_) => Ok(Some(cluster)),
            Err(error) if error.is_conflict() => {
                self.audit.record(self.world.clock.now(), &Deed::Conflicted { plan: now })?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// It has ended. Where that cannot be recorded, it ends by its time.
    async fn unmark(&self, marked: &Cluster) {
        let ours = &marked.record.defragmenting;
        let change = |cluster: &mut Cluster| {
            let is_ours = cluster.record.defragmenting == *ours;
            if is_ours {
                cluster.record.defragmenting = None;
            }
            is_ours
        };
        let ended = objects::update::<ClusterSpec>(self.store.as_ref(), marked, change).await;
        if let Err(error) = ended {
            tracing::debug!(cluster = %marked.key(), %error, "the end of a defragmentation was not recorded");
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    crate::error::chain(error)
}
