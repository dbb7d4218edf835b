//! What the engine works with: real hosts, this machine's clock, and an API server that answers and knows no nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    Clock, EffectError, EffectErrorKind, Entropy, EtcdApi, EtcdTarget, KubeApi, KubeSeen, KubeTarget,
    NodeNow, NodePatch, ServingDecision, ServingRequestNow, ThisMachine, World,
};
use ashlar_engine::{EngineEvent, EventSink};
use ashlar_libvirt::{Hosts, PowerControl};
use ashlar_plan::{ClusterWorld, DeprecatedApi, EtcdMember, EtcdStatus};
use async_trait::async_trait;
use jiff::Timestamp;
use rand::TryRngCore;
use zeroize::Zeroizing;

/// All of it.
pub(crate) fn world(hosts: &Arc<Hosts>) -> World {
    let nobody = Arc::new(Nobody::default());
    World {
        hypervisor: Arc::clone(hosts) as _,
        shell: Arc::clone(hosts) as _,
        files: Arc::new(ThisMachine),
        networks: Arc::clone(hosts) as _,
        kube: Arc::clone(&nobody) as _,
        fencer: Arc::new(PowerControl::default()),
        etcd: nobody,
        clock: Arc::new(RealTime),
        entropy: Arc::new(RealTime),
    }
}

/// The operating system's clock and random numbers.
pub(crate) struct RealTime;

#[async_trait]
impl Clock for RealTime {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Entropy for RealTime {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(buffer).unwrap();
    }
}

/// An API server without nodes: workers may start, and never join.
#[derive(Default)]
struct Nobody {
    tokens: Mutex<BTreeMap<String, Timestamp>>,
}

#[async_trait]
impl KubeApi for Nobody {
    async fn observe(
        &self,
        _: &KubeTarget,
        _: &[(String, String, String, String, String)],
        _: &[String],
    ) -> Result<KubeSeen, EffectError> {
        let bootstrap_tokens = self.tokens.lock().unwrap().clone();
        let world = ClusterWorld { bootstrap_tokens, ..ClusterWorld::default() };
        Ok(KubeSeen { world, ..KubeSeen::default() })
    }

    async fn deprecated_apis(&self, _: &KubeTarget) -> Result<BTreeSet<DeprecatedApi>, EffectError> {
        Ok(BTreeSet::new())
    }

    async fn put_bootstrap_token(
        &self,
        _: &KubeTarget,
        token_id: &str,
        _: &Zeroizing<String>,
        expires: Timestamp,
        _: &str,
    ) -> Result<(), EffectError> {
        self.tokens.lock().unwrap().insert(token_id.to_owned(), expires);
        Ok(())
    }

    async fn delete_bootstrap_token(&self, _: &KubeTarget, token_id: &str) -> Result<(), EffectError> {
        self.tokens.lock().unwrap().remove(token_id);
        Ok(())
    }

    async fn apply(&self, _: &KubeTarget, _: &serde_json::Value) -> Result<(), EffectError> {
        Ok(())
    }

    async fn node(&self, _: &KubeTarget, _: &str) -> Result<Option<NodeNow>, EffectError> {
        Ok(None)
    }

    async fn patch_node(&self, _: &KubeTarget, _: &str, _: &NodePatch) -> Result<(), EffectError> {
        Ok(())
    }

    async fn exists(&self, _: &KubeTarget, _: &serde_json::Value) -> Result<bool, EffectError> {
        Ok(false)
    }

    async fn cordon(&self, _: &KubeTarget, _: &str) -> Result<(), EffectError> {
        Ok(())
    }

    async fn evict(&self, _: &KubeTarget, _: &NamespacedName) -> Result<(), EffectError> {
        Ok(())
    }

    async fn serving_request(
        &self,
        _: &KubeTarget,
        _: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError> {
        Ok(None)
    }

    async fn decide_serving_request(
        &self,
        _: &KubeTarget,
        _: &str,
        _: &str,
        _: &ServingDecision,
    ) -> Result<(), EffectError> {
        Ok(())
    }

    async fn delete_node(&self, _: &KubeTarget, _: &str) -> Result<(), EffectError> {
        Ok(())
    }
}

fn no_etcd<T>() -> Result<T, EffectError> {
    Err(EffectError::new(EffectErrorKind::Unreachable, "no etcd runs in a guest that halts"))
}

#[async_trait]
impl EtcdApi for Nobody {
    async fn members(&self, _: &EtcdTarget) -> Result<Vec<EtcdMember>, EffectError> {
        no_etcd()
    }

    async fn status(&self, _: &EtcdTarget) -> Result<EtcdStatus, EffectError> {
        no_etcd()
    }

    async fn promote_member(&self, _: &EtcdTarget, _: u64) -> Result<(), EffectError> {
        no_etcd()
    }

    async fn remove_member(&self, _: &EtcdTarget, _: u64) -> Result<(), EffectError> {
        no_etcd()
    }

    async fn move_leader(&self, _: &EtcdTarget, _: u64) -> Result<(), EffectError> {
        no_etcd()
    }

    async fn snapshot(&self, _: &EtcdTarget, _: &mut (dyn std::io::Write + Send)) -> Result<(), EffectError> {
        no_etcd()
    }

    async fn defragment(&self, _: &EtcdTarget) -> Result<(), EffectError> {
        no_etcd()
    }
}

/// Actions that ended well, by kind: how many, and for how long in all, waiting for their turn included.
#[derive(Default)]
pub(crate) struct Log {
    actions: Mutex<BTreeMap<String, (usize, Duration)>>,
    failures: Mutex<Vec<String>>,
    changed: tokio::sync::Notify,
}

impl EventSink for Log {
    fn event(&self, event: &EngineEvent) {
        match event {
            EngineEvent::ActionDone { step, elapsed } => {
                let name = format!("{:?}", step.action);
                let name = name.trim_start_matches("Some(").split([' ', '(', '{']).next().unwrap_or_default();
                let mut actions = self.actions.lock().unwrap();
                let entry = actions.entry(name.to_owned()).or_default();
                entry.0 += 1;
                entry.1 += *elapsed;
                self.changed.notify_one();
            }
            EngineEvent::ActionFailed { step, error, .. } => {
                self.failures.lock().unwrap().push(format!("{}: {error}", step.object));
            }
            _ => {}
        }
    }
}

impl Log {
    fn count(&self, action: &str) -> usize {
        self.actions.lock().unwrap().get(action).map_or(0, |entry| entry.0)
    }

    /// Waits until so many actions of the kind ended well; gives the time then.
    pub(crate) async fn reached(&self, action: &str, count: usize) -> Instant {
        while self.count(action) < count {
            self.changed.notified().await;
        }
        Instant::now()
    }

    /// What it saw since it was last asked.
    pub(crate) fn take(&self) -> String {
        let actions = std::mem::take(&mut *self.actions.lock().unwrap());
        let failures = std::mem::take(&mut *self.failures.lock().unwrap());
        let mut text = String::new();
        for (name, (count, elapsed)) in actions {
            let mean_ms = elapsed.as_secs_f64() * 1000.0 / f64::from(u32::try_from(count).unwrap_or(1));
            text.push_str(&format!("            {name:<20} {count:>5} × {mean_ms:>7.0} ms\n"));
        }
        if let Some(first) = failures.first() {
            text.push_str(&format!(
                "            {} steps failed and were taken again: {first}\n",
                failures.len()
            ));
        }
        text
    }
}
