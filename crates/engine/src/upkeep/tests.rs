#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_api::{NamespacedName, Object};
use ashlar_plan::{Action, EtcdMember, EtcdStatus, Step, StepState, names};
use async_trait::async_trait;
use futures::executor::block_on;
use jiff::Timestamp;

use super::{Chore, ChoreDeed, CopyPolicy, Upkeep};
use crate::effects::{EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyWriter};
use crate::exec::Job;
use crate::testing::{Fake, cluster, host, machine, name, put};
use crate::{Engine, Scope};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Copies in memory: what was written, and what was put beside it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Copies>>);

/// Database and what is beside it, by time.
type Copies = BTreeMap<Timestamp, (Vec<u8>, String)>;

struct Writing {
    kept: Kept,
    taken_at: Timestamp,
    bytes: Vec<u8>,
}

impl std::io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl EtcdCopyWriter for Writing {
    async fn finish(self: Box<Self>, beside: &str) -> Result<EtcdCopy, EffectError> {
        if self.bytes.is_empty() {
            return Err(EffectError::new(EffectErrorKind::Corrupt, "the copy is empty"));
        }
        let size_bytes = self.bytes.len() as u64;
        self.kept.0.lock().unwrap().insert(self.taken_at, (self.bytes, beside.to_owned()));
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes })
    }
}

#[async_trait]
impl EtcdCopies for Kept {
    async fn list(&self, _: &NamespacedName) -> Result<Vec<EtcdCopy>, EffectError> {
        let kept = self.0.lock().unwrap();
        Ok(kept
            .iter()
            .map(|(at, (bytes, _))| EtcdCopy { taken_at: *at, size_bytes: bytes.len() as u64 })
            .collect())
    }
    async fn begin(
        &self,
        _: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        Ok(Box::new(Writing { kept: self.clone(), taken_at, bytes: Vec::new() }))
    }
    async fn remove(&self, _: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError> {
        self.0.lock().unwrap().remove(&taken_at);
        Ok(())
    }
}

fn policy() -> CopyPolicy {
    CopyPolicy { every: 6 * HOUR, keep: 3, keep_for: Some(48 * HOUR) }
}

/// A cluster that lives, with one control plane.
fn living(fake: &Fake) -> Engine {
    let (_, engine) = fake.engine();
    let (mut cluster, mut machine) = (cluster(), machine());
    if let (Object::Cluster(cluster), Object::Machine(machine)) = (&mut cluster, &mut machine) {
        cluster.record.initialized = true;
        machine.record.first_started_at = Some(Timestamp::UNIX_EPOCH);
        machine.record.joined_at = Some(Timestamp::UNIX_EPOCH);
    }
    // The certificates are made while the cluster was never initialized.
    put(&engine, vec![host("h1"), crate::testing::cluster()]);
    let snapshot = block_on(engine.snapshot(&Scope::StoreOnly)).unwrap();
    let step = Step {
        object: names::cluster_ref(&name("demo")),
        host: String::new(),
        action: Some(Action::CreateClusterPki { cluster: name("demo") }),
        state: StepState::Ready,
        why: String::new(),
    };
    block_on(Job::alone(&engine, &snapshot, &step).run()).unwrap();
    put(&engine, vec![cluster, machine]);
    says(fake, EtcdStatus { db_size_bytes: 40 << 20, db_used_bytes: 30 << 20, ..well() });
    fake.state().database = b"everything".to_vec();
    engine
}

fn well() -> EtcdStatus {
    EtcdStatus { member_id: 7, leader: Some(7), version: "3.7.0".to_owned(), ..EtcdStatus::default() }
}

fn says(fake: &Fake, status: EtcdStatus) {
    let member = EtcdMember { id: 7, name: "demo-ctrl-1".to_owned(), ..EtcdMember::default() };
    fake.state().etcd = Some(vec![(member, Some(status))]);
}

fn round(engine: &Engine, upkeep: &Upkeep) -> Vec<Chore> {
    block_on(engine.keep_etcd(upkeep)).unwrap()
}

fn later(fake: &Fake, time: Duration) {
    fake.state().now_ms += i64::try_from(time.as_millis()).unwrap();
}

#[test]
fn copies_are_taken_on_time_with_what_belongs_to_them_and_old_ones_go() {
    let fake = Fake::default();
    let engine = living(&fake);
    let kept = Kept::default();
    let upkeep = Upkeep::new(policy(), Arc::new(kept.clone()));
    let done = round(&engine, &upkeep);
    assert!(
        matches!(&done[..], [Chore { deed: ChoreDeed::Copied { node, copy }, .. }]
            if node == "demo-ctrl-1" && copy.size_bytes == 10),
        "{done:?}"
    );
    {
        let kept = kept.0.lock().unwrap();
        let (bytes, beside) = kept.values().next().unwrap();
        assert_eq!(bytes, b"everything");
        let beside: serde_json::Value = serde_json::from_str(beside).unwrap();
        let kinds: Vec<&str> =
            beside["objects"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Cluster", "Machine", "Secret"]);
        assert_eq!(beside["kubernetesVersion"], "v1.37.2");
        assert!(!beside.to_string().contains("PRIVATE KEY"), "secrets stay sealed");
    }
    later(&fake, Duration::from_secs(60));
    assert_eq!(round(&engine, &upkeep), [], "not before its time");
    // What a new daemon does depends on what is there, not on what it remembers.
    assert_eq!(round(&engine, &Upkeep::new(policy(), Arc::new(kept.clone()))), []);
    for _ in 0..5 {
        later(&fake, 6 * HOUR);
        assert_eq!(round(&engine, &upkeep).len(), 1);
    }
    assert_eq!(kept.0.lock().unwrap().len(), 3);
    // A copy that is not whole is none, and is tried again in the next round.
    later(&fake, 6 * HOUR);
    fake.state().database.clear();
    let done = round(&engine, &upkeep);
    assert!(
        matches!(&done[..], [Chore { deed: ChoreDeed::Failed { message }, .. }] if message.contains("empty"))
    );
    fake.state().database = b"again".to_vec();
    assert_eq!(round(&engine, &upkeep).len(), 1);
}

#[test]
fn alarms_are_told_and_room_comes_back_from_members_that_are_well() {
    let fake = Fake::default();
    let engine = living(&fake);
    let off = CopyPolicy { every: Duration::ZERO, ..policy() };
    let upkeep = Upkeep::new(off, Arc::new(Kept::default()));
    let wasteful = EtcdStatus { db_size_bytes: 300 << 20, db_used_bytes: 20 << 20, ..well() };
    let alarm = EtcdStatus { errors: vec!["memberID:7 alarm:NOSPACE".to_owned()], ..wasteful.clone() };
    says(&fake, alarm);
    let done = round(&engine, &upkeep);
    assert!(
        matches!(&done[..], [Chore { deed: ChoreDeed::Alarm { message }, .. }] if message.contains("NOSPACE")),
        "{done:?}"
    );
    let calls = || fake.state().calls.iter().filter(|call| call.starts_with("defragment")).count();
    says(&fake, wasteful);
    assert_eq!(round(&engine, &upkeep), [], "asked just now");
    later(&fake, 11 * 60 * Duration::from_secs(1));
    let done = round(&engine, &upkeep);
    assert!(matches!(&done[..], [Chore { deed: ChoreDeed::Defragmented { .. }, .. }]), "{done:?}");
    later(&fake, 11 * 60 * Duration::from_secs(1));
    assert_eq!(round(&engine, &upkeep), [], "it rests, whatever it says");
    assert_eq!(calls(), 1);
}

#[test]
fn what_is_due_and_what_goes() {
    let at = |hours: i64| EtcdCopy { taken_at: Timestamp::from_second(hours * 3600).unwrap(), size_bytes: 1 };
    let now = |hours: i64| at(hours).taken_at;
    let policy = policy();
    assert!(policy.is_due(&[], now(0)));
    assert!(!policy.is_due(&[at(0)], now(5)) && policy.is_due(&[at(0)], now(6)));
    assert!(policy.is_due(&[at(1000)], now(10)), "taken by a clock that was wrong");
    assert_eq!(policy.too_many(&[at(0), at(6), at(12)], now(12)), []);
    assert_eq!(policy.too_many(&[at(0), at(6), at(12), at(18)], now(18)), [now(0)]);
    assert_eq!(policy.too_many(&[at(0), at(6)], now(100)), [now(0)], "the newest stays, however old");
    let ever = CopyPolicy { keep_for: None, keep: 0, ..policy };
    assert_eq!(ever.too_many(&[at(0)], now(9999)), [], "one is always kept");
}
