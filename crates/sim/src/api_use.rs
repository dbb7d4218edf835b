//! Clients that ask an API server for deprecated APIs.

use ashlar_plan::DeprecatedApi;

use crate::State;

/// Somebody asks the API server of a node for one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiAsked {
    node: String,
    api: DeprecatedApi,
}

impl ApiAsked {
    /// `RESOURCE[/SUBRESOURCE] of GROUP/VERSION [removed in RELEASE]`.
    pub(crate) fn parse(node: &str, words: &[&str]) -> Result<Self, String> {
        let (resource, of, release) = match words {
            [resource, "of", of] => (resource, of, ""),
            [resource, "of", of, "removed", "in", release] => (resource, of, *release),
            _ => return Err("an API is RESOURCE of GROUP/VERSION [removed in RELEASE]".to_owned()),
        };
        let (group, version) = of.split_once('/').unwrap_or(("", of));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let [group, version, resource, subresource, removed_release] =
            [group, version, resource, subresource, release].map(str::to_owned);
        let api = DeprecatedApi { group, version, resource, subresource, removed_release };
        Ok(ApiAsked { node: node.to_owned(), api })
    }

    /// It happens.
    pub(crate) fn happen(&self, state: &mut State) -> Result<(), String> {
        let of = |world: &&mut crate::SimCluster| world.nodes.contains_key(&self.node);
        let world = state.clusters.values_mut().find(of);
        let world = world.ok_or_else(|| format!("there is no node {}", self.node))?;
        world.deprecated.entry(self.node.clone()).or_default().insert(self.api.clone());
        Ok(())
    }
}
