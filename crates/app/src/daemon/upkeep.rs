//! Rounds over the clusters' etcd, beside the passes.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::{Chore, ChoreDeed, Engine, Upkeep};

use super::listener::Listener;

/// Time between two rounds. One in which nothing is due reads the store and lists directories.
const ROUND: Duration = Duration::from_secs(60);
/// The first waits until the passes have found the hosts.
const FIRST: Duration = Duration::from_secs(5);

/// Goes on until it is dropped; a copy that is under way then is none.
pub(super) async fn keep(engine: &Engine, upkeep: &Upkeep, listener: &Arc<Listener>) {
    tokio::time::sleep(FIRST).await;
    loop {
        match engine.keep_etcd(upkeep).await {
            Ok(done) => done.iter().for_each(|chore| tell(listener, chore)),
            Err(error) => tracing::warn!(error = %error, "the clusters' etcd could not be looked after"),
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn tell(listener: &Listener, chore: &Chore) {
    let cluster = &chore.cluster;
    match &chore.deed {
        ChoreDeed::Copied { node, copy } => {
            listener.metrics.etcd_copied(cluster, copy.taken_at);
            tracing::info!(%cluster, node, bytes = copy.size_bytes, "etcd was copied");
        }
        ChoreDeed::Defragmented { node, before_bytes } => {
            tracing::info!(%cluster, node, before_bytes, "etcd was defragmented");
        }
        ChoreDeed::Alarm { message } => tracing::warn!(%cluster, message, "etcd raises an alarm"),
        ChoreDeed::Failed { message } => {
            listener.metrics.etcd_failed(cluster);
            tracing::warn!(%cluster, message, "etcd could not be looked after");
        }
    }
}
