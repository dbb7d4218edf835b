//! Looking at the world: hosts first, then the consoles of what boots there, then the APIs that these show to be worth
//! asking.

mod api_use;
mod clusters;
mod consoles;
mod etcd;
mod hosts;
mod kubelets;
mod questions;

pub(crate) use clusters::ClusterAccess;
pub(crate) use consoles::Consoles;
pub(crate) use hosts::HostHealth;
pub(crate) use kubelets::Kubelets;
pub(crate) use questions::Questions;

use crate::{Engine, Scope, read::StoreView};

impl Engine {
    /// Fills in what is seen of the scope: of all hosts, or, with questions that go on, of those that answer in time.
    pub(crate) async fn observe(
        &self,
        view: &mut StoreView,
        scope: &Scope,
        questions: Option<&mut Questions>,
    ) {
        if !scope.asks_hosts() {
            return;
        }
        view.snapshot.observed.hosts = match questions {
            Some(questions) => self.observe_hosts_in_time(&view.snapshot, questions).await,
            None => self.observe_hosts(&view.snapshot).await,
        };
        ashlar_plan::distrust_emptied_hosts(&mut view.snapshot);
        ashlar_plan::distrust_emptied_pools(&mut view.snapshot);
        view.snapshot.observed.consoles = self.observe_consoles(&view.snapshot, scope).await;
        let (clusters, etcd) = futures::future::join(
            self.observe_clusters(&view.snapshot, &view.secrets, scope),
            self.observe_etcd(&view.snapshot, &view.secrets, scope),
        )
        .await;
        view.snapshot.observed.clusters = clusters;
        view.snapshot.observed.etcd = etcd;
        self.observe_api_use(&mut view.snapshot, &view.secrets, scope).await;
    }
}

#[cfg(test)]
mod tests;
