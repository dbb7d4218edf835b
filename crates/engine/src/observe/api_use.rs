//! Deprecated APIs in use, where an upgrade is wished.

use std::collections::BTreeSet;

use ashlar_api::{Cluster, NamespacedName, Secret};
use ashlar_plan::{ApiUseSeen, ClusterSeen, Objects, Snapshot, api_use_matters, names};
use futures::future::{join_all, try_join_all};

use super::clusters::running_control_planes;
use crate::{Engine, Scope, deadline::within, effects::KubeTarget};

impl Engine {
    /// Asks all API servers of each cluster whose upgrade is wished and has not begun: what they were asked for is in each
    /// one's own figures, megabytes of them.
    pub(crate) async fn observe_api_use(
        &self,
        snapshot: &mut Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        scope: &Scope,
    ) {
        let seen: Vec<(NamespacedName, ApiUseSeen)> = {
            let snapshot = &*snapshot;
            let clusters = snapshot
                .clusters
                .values()
                .filter(|cluster| scope.has_cluster(&cluster.key()) && api_use_matters(snapshot, cluster))
                .filter(|cluster| {
                    let seen = snapshot.observed.clusters.get(&cluster.key());
                    matches!(seen, Some(ClusterSeen::Seen(_)))
                });
            let asked = clusters.map(|cluster| async move {
                let seen = match self.api_use_of(snapshot, secrets, cluster).await {
                    Ok(seen) => seen,
                    Err(reason) => ApiUseSeen::Unknown { reason },
                };
                (cluster.key(), seen)
            });
            join_all(asked).await
        };
        snapshot.observed.api_use = seen.into_iter().collect();
    }

    async fn api_use_of(
        &self,
        snapshot: &Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        cluster: &Cluster,
    ) -> Result<ApiUseSeen, String> {
        let key = cluster.key();
        let secret = secrets.get(&names::pki_secret(&key)).ok_or("its certificates are not in the store")?;
        let target = self.kube_target(snapshot, secret, &key).map_err(|error| crate::error::chain(&error))?;
        let target = target.ok_or("it has no endpoint")?;
        let joined = running_control_planes(snapshot, &key).filter(|it| it.record.joined_at.is_some());
        let asked = joined.map(|machine| {
            let port = target.dial.port;
            let dial = self.machine_port(snapshot, machine, port);
            let server = dial.map(|dial| {
                let server_name = dial.address.to_string();
                KubeTarget { dial, server_name, ..target.clone() }
            });
            async move {
                let node = &machine.spec.node.name;
                let server = server.ok_or_else(|| format!("no way leads to {node}"))?;
                let what = format!("asking the API server of {node} for deprecated APIs");
                let call = self.world.kube.deprecated_apis(&server);
                let answer =
                    within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await;
                answer.map_err(|error| error.message)
            }
        });
        let used: Vec<BTreeSet<_>> = try_join_all(asked).await?;
        if used.is_empty() {
            return Err("no API server was seen running".to_owned());
        }
        Ok(ApiUseSeen::Seen(used.into_iter().flatten().collect()))
    }
}
