//! Taking copies, and deleting old ones.

use jiff::Timestamp;

use super::{COPY_LIMIT, Chore, ChoreDeed, Look, Upkeep};
use crate::{
    Engine, EngineError,
    deadline::within,
    effects::{CopyOwner, EffectError},
    etcd_copy::{CopyFacts, CopyWriter, gather},
};

impl Engine {
    /// Takes a copy of a member that is well; rather not of the one that leads, which has most to do.
    pub(super) async fn copy_etcd(
        &self,
        upkeep: &Upkeep,
        owner: &CopyOwner,
        look: &Look,
    ) -> Result<ChoreDeed, String> {
        let corrupt = look.corrupt();
        let well = look.answers.iter().filter(|it| !it.status.is_learner && it.status.leader.is_some());
        let right = well.filter(|it| !corrupt.may_be(it.status.member_id));
        let Some(from) = right.min_by_key(|it| (!it.status.errors.is_empty(), it.leads())) else {
            return Err(if corrupt.is_told() {
                "no member answers that knows a leader and whose data etcd does not call CORRUPT: put that right first \
                 (`etcdctl alarm list`); no snapshot of before is deleted meanwhile"
                    .to_owned()
            } else {
                "no member answers that knows a leader".to_owned()
            });
        };
        let told = |error: EffectError| error.message;
        let chain = |error: EngineError| crate::error::chain(&error);
        let objects = gather(self.store.as_ref(), &look.snapshot, &look.cluster).await.map_err(chain)?;
        let now = self.world.clock.now();
        let facts = CopyFacts {
            installation: owner.installation,
            namespace: owner.cluster.namespace.clone(),
            cluster: owner.cluster.name.clone(),
            cluster_uid: Some(owner.uid),
            taken_at: Timestamp::from_second(now.as_second()).unwrap_or(now),
            node: from.node(),
            etcd_version: from.status.version.clone(),
            kubernetes_version: from.machine.spec.image.kubernetes_version.clone(),
        };
        let entropy = self.world.entropy.as_ref();
        let place = upkeep.copies.begin(owner, facts.taken_at).await.map_err(told)?;
        let mut writer = CopyWriter::new(facts, place, entropy).map_err(told)?;
        let what = format!("copying the etcd of {}", from.target.node);
        let call = self.world.etcd.snapshot(&from.target, &mut writer);
        within(self.world.clock.as_ref(), COPY_LIMIT, &what, call).await.map_err(told)?;
        let copy = writer.finish(objects, &self.vault, entropy).await.map_err(told)?;
        Ok(ChoreDeed::Copied { node: from.node(), copy })
    }

    /// Deletes what is too many or too old. Of copies that lie where those of all installations lay once, only what says that it is
    /// this very cluster's.
    pub(super) async fn prune(&self, upkeep: &Upkeep, owner: &CopyOwner) -> Vec<Chore> {
        let failed = |why: String| Chore {
            cluster: owner.cluster.clone(),
            deed: ChoreDeed::Failed { message: format!("an old snapshot of etcd was not deleted: {why}") },
        };
        let (mut copies, mut done) = (Vec::new(), Vec::new());
        for listed in [upkeep.copies.list(owner).await, upkeep.copies.former(owner).await] {
            match listed {
                Ok(listed) => copies.extend(listed),
                Err(error) => done.push(failed(error.message)),
            }
        }
        for old in upkeep.policy.too_many(&copies, self.world.clock.now()) {
            if let Err(error) = upkeep.copies.remove(owner, &old).await {
                done.push(failed(error.message));
            }
        }
        done
    }
}
