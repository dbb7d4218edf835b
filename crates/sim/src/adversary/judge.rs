//! Whether everything is as it was asked for.

use ashlar_api::NamespacedName;

use super::teller::{Asked, Teller, Wanted};
use crate::guest;

impl Teller<'_> {
    pub(super) fn judge_end(&self) -> Result<(), String> {
        for (name, asked) in &self.asked {
            if !self.spoiled.contains(name) {
                self.judge_cluster(name, asked)?;
            }
        }
        self.judge_orphans()
    }

    /// What is on hosts belongs to something.
    fn judge_orphans(&self) -> Result<(), String> {
        let orphans = self.simulation.world.state().orphans();
        match orphans.into_iter().find(|(cluster, _)| !self.spoiled.contains(&cluster.name)) {
            None => Ok(()),
            Some((cluster, what)) => {
                Err(format!("something is on a host that belongs to nothing: {}: {what}", cluster.name))
            }
        }
    }

    fn judge_cluster(&self, name: &str, asked: &Asked) -> Result<(), String> {
        let cluster = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, name);
        let state = self.simulation.world.state();
        match asked.wanted {
            Wanted::Gone => none("a cluster is gone", name, &state.remains(&cluster)),
            Wanted::Up => {
                none("a cluster is ready", name, &state.leftover_secrets(&cluster))?;
                let votes = state.etcd_votes(&cluster);
                if votes != (asked.control_planes, asked.control_planes) {
                    return Err(format!(
                        "etcd is not as asked for: {name}: {} of {} voters live, and {} were asked for",
                        votes.0, votes.1, asked.control_planes
                    ));
                }
                let nodes = state.clusters.get(&cluster).into_iter().flat_map(|world| world.nodes.keys());
                let (ready, silent): (Vec<_>, Vec<_>) =
                    nodes.partition(|node| guest::is_node(&state, &cluster, node));
                if ready.len() != asked.control_planes + asked.workers || !silent.is_empty() {
                    return Err(format!(
                        "nodes are not as asked for: {name}: {ready:?} are ready, {silent:?} are not, and {} + {} were asked for",
                        asked.control_planes, asked.workers
                    ));
                }
                let versions = state.recorded_versions(&cluster);
                if versions.iter().any(|version| *version != asked.version) {
                    return Err(format!(
                        "versions are not as asked for: {name}: {versions:?}, and {} was asked for",
                        asked.version
                    ));
                }
                Ok(())
            }
            Wanted::Stopped => {
                let domains = state.hosts.values().flat_map(|host| host.domains.values());
                let on = domains.filter(|domain| {
                    domain.state.is_active() && domain.name.starts_with(&format!("{name}-"))
                });
                let on: Vec<String> = on.map(|domain| format!("domain {}", domain.name)).collect();
                none("a cluster is stopped", name, &on)
            }
        }
    }
}

fn none(what: &str, cluster: &str, left: &[String]) -> Result<(), String> {
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("{what}, and something is left: {cluster}: {}", left.join(", ")))
    }
}
