//! [`HostNetworks`] on real hosts: one shell script over SSH for each call, with `ip`, `bridge` and `nft` only.

mod nft;
mod script;
mod seen;

use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostNetworks, HostTarget};
use ashlar_plan::NetworksSeen;
use ashlar_plan::network::HostNetwork;
use async_trait::async_trait;
use uuid::Uuid;

use crate::command::Said;
use crate::hosts::{Hosts, token_of};

pub use nft::{bridge_table, host_table, namespace_table};
pub use script::{apply_script, remove_script};

/// A network's description, with a filter for each machine.
const OUTPUT_BYTES: usize = 4 * 1024 * 1024;
/// Many devices and rules on a host that is busy starting machines.
const PATIENCE: u32 = 3;

impl Hosts {
    async fn run_script(&self, host: &HostTarget, script: String, doing: &str) -> Result<Said, EffectError> {
        let limit: Duration = self.settings.command_timeout * PATIENCE;
        let said = self
            .run_with(host, &["/bin/sh", "-s"], Some(script.into_bytes()), doing, limit, OUTPUT_BYTES)
            .await?;
        match said.exit {
            0 => Ok(said),
            _ => Err(judge(host, &said, doing)),
        }
    }
}

/// What a script that failed says: a line `ashlar-network: KIND: …` is its own judgement.
fn judge(host: &HostTarget, said: &Said, doing: &str) -> EffectError {
    let own = said.stderr.lines().find_map(|line| line.strip_prefix("ashlar-network: ")?.split_once(": "));
    let (kind, why) = match own {
        Some(("busy", why)) => (EffectErrorKind::Busy, why.to_owned()),
        Some((_, why)) => (EffectErrorKind::Refused, why.to_owned()),
        None => (EffectErrorKind::Refused, format!("exit code {}: {}", said.exit, said.stderr.trim())),
    };
    EffectError::new(kind, format!("host {} cannot {doing}: {why}", host.name))
}

#[async_trait]
impl HostNetworks for Hosts {
    async fn observe_networks(&self, host: &HostTarget) -> Result<NetworksSeen, EffectError> {
        let doing = "say which networks are there";
        let said = self.run_script(host, script::observe_script(), doing).await?;
        Ok(seen::read(&String::from_utf8_lossy(&said.stdout), host.installation))
    }

    async fn apply_network(&self, host: &HostTarget, network: &HostNetwork) -> Result<(), EffectError> {
        let doing = format!("set up network {}", network.name);
        let script = apply_script(network).map_err(|error| {
            EffectError::new(EffectErrorKind::Refused, format!("host {} cannot {doing}: {error}", host.name))
        })?;
        token_of(host)?;
        self.counters().count("apply_network");
        self.run_script(host, script, &doing).await.map(drop)
    }

    async fn remove_network(
        &self,
        host: &HostTarget,
        installation: Uuid,
        network: Uuid,
    ) -> Result<(), EffectError> {
        let doing = format!("remove the network {network}");
        token_of(host)?;
        self.counters().count("remove_network");
        self.run_script(host, remove_script(installation, network), &doing).await.map(drop)
    }
}
