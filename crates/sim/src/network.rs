//! Networks on simulated hosts.

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostNetworks, HostTarget};
use ashlar_plan::network::{HostNetwork, names};
use ashlar_plan::{NetworkSeen, NetworksSeen};
use async_trait::async_trait;
use uuid::Uuid;

use crate::SimWorld;

fn refused(host: &HostTarget, message: &str) -> EffectError {
    EffectError::new(EffectErrorKind::Refused, format!("host {}: {message}", host.name))
}

#[async_trait]
impl HostNetworks for SimWorld {
    async fn observe_networks(&self, host: &HostTarget) -> Result<NetworksSeen, EffectError> {
        self.look(host, |state| {
            let seen = state.host_by_ssh(host)?;
            let mut networks = seen.networks.clone();
            for network in networks.values_mut() {
                let applied = network.applied.as_ref().filter(|applied| applied.made.is_none());
                network.bridge_gone = applied.is_some_and(|applied| !seen.bridges.contains(&applied.bridge));
            }
            Ok(NetworksSeen::Seen {
                networks,
                foreign: seen.foreign_parts.clone(),
                hostname: seen.hostname.clone(),
            })
        })
        .await
    }

    async fn apply_network(&self, host: &HostTarget, network: &HostNetwork) -> Result<(), EffectError> {
        let overlay = network.made.as_ref().and_then(|made| made.overlay.as_ref());
        let mut what = format!("{} on {}", network.name, bridge_kind(network));
        if let Some(overlay) = overlay {
            let peers: Vec<String> = overlay.peers.iter().map(ToString::to_string).collect();
            what += &format!(", to [{}]", peers.join(" "));
        }
        let machines: Vec<&str> = network.taps.values().map(|tap| tap.machine.as_str()).collect();
        what += &format!(", filters of [{}]", machines.join(" "));
        let (target, network) = (host.clone(), network.clone());
        self.change(host, "apply_network", what, move |state| {
            let (host, network) = (&target, &network);
            let overlay = network.made.as_ref().and_then(|made| made.overlay.as_ref());
            let seen = state.host_by_ssh(host)?;
            let parts = [names::bridge(network.uid), names::namespace(network.uid), names::table(network.uid)];
            if let Some(taken) = parts.iter().find(|part| seen.foreign_parts.contains(*part)) {
                return Err(refused(host, &format!("{taken} does not carry Ashlar's mark: it is left alone")));
            }
            if network.made.is_none() && !seen.bridges.contains(&network.bridge) {
                return Err(refused(host, &format!("there is no bridge {}", network.bridge)));
            }
            // A refusal leaves the bridge behind: it is half made.
            seen.networks.entry(network.uid).or_insert(NetworkSeen::default());
            if overlay.is_some() && !seen.vxlan {
                return Err(refused(host, "it cannot make a VXLAN device: its kernel needs the module vxlan"));
            }
            if overlay.is_some() && seen.underlay_mtu < network.mtu + 50 {
                let message = format!(
                    "an MTU of {} needs {} on its underlay, which has {}: set the Network's mtu to {} at most",
                    network.mtu,
                    network.mtu + 50,
                    seen.underlay_mtu,
                    seen.underlay_mtu - 50
                );
                return Err(refused(host, &message));
            }
            let whole = NetworkSeen { applied: Some(Box::new(network.clone())), intact: true, bridge_gone: false };
            seen.networks.insert(network.uid, whole);
            Ok(())
        })
        .await
    }

    async fn remove_network(&self, host: &HostTarget, _: Uuid, network: Uuid) -> Result<(), EffectError> {
        let name = {
            let state = self.state();
            let seen = state.hosts.get(&host.name).and_then(|seen| seen.networks.get(&network));
            seen.and_then(|seen| seen.applied.as_ref()).map_or("half made".to_owned(), |it| it.name.clone())
        };
        let target = host.clone();
        self.change(host, "remove_network", name, move |state| {
            let host = &target;
            state.destructive_calls += 1;
            let taps = |seen: &NetworkSeen| {
                let applied = seen.applied.as_ref();
                applied.into_iter().flat_map(|applied| applied.taps.keys().cloned()).collect::<Vec<_>>()
            };
            let seen = state.host_by_ssh(host)?;
            let attached = seen.networks.get(&network).map(taps).unwrap_or_default();
            let user = seen.domains.values().find(|domain| {
                let nics = domain.spec.iter().flat_map(|spec| &spec.nics);
                domain.state.is_active() && nics.into_iter().any(|nic| attached.contains(&nic.tap))
            });
            if let Some(user) = user {
                let message = format!("{} is still attached to it", user.name);
                return Err(EffectError::new(
                    EffectErrorKind::Busy,
                    format!("host {}: {message}", host.name),
                ));
            }
            seen.networks.remove(&network);
            Ok(())
        })
        .await
    }
}

fn bridge_kind(network: &HostNetwork) -> String {
    match &network.made {
        None => format!("bridge {}", network.bridge),
        Some(made) => match &made.overlay {
            None => "a bridge of its own".to_owned(),
            Some(overlay) => format!("VXLAN {}", overlay.vni),
        },
    }
}
