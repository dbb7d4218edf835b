//! [`Dial`] on real hosts: a tunnel over a host's trunk.
//!
//! What the lease gate guarantees for a tunnel: it exists only on a trunk whose session passed the gate with the
//! caller's token, and it ends when a newer token takes the host over, because the gate then kills the sshd process
//! of that trunk. A dial with an older token never gets a trunk. (Where the SSH server is not OpenSSH, the gate finds
//! no sshd process, and an old tunnel lives until its own process notices.)

use std::net::Ipv4Addr;

use ashlar_engine::effects::{Dial, DialTarget, EffectError, EffectErrorKind, HostTarget, Stream};
use async_trait::async_trait;

use crate::hosts::Hosts;
use crate::ssh::{Forward, open_forward};

/// Tells why a connection cannot be made; the protocol of the tunnel does not.
const WHY: &str = r#"timeout 3 bash -c ": </dev/tcp/$1/$2""#;

#[async_trait]
impl Dial for Hosts {
    async fn dial(&self, target: &DialTarget) -> Result<Box<dyn Stream>, EffectError> {
        // `target.network` has no namespace of its own on the hosts: networks are existing bridges, and their
        // addresses are reached from the host itself.
        let mut last = None;
        for host in &target.via {
            match self.tunnel(host, target.address, target.port).await {
                Ok(stream) => return Ok(Box::new(stream)),
                // Another host cannot help against this.
                Err(error) if error.kind == EffectErrorKind::Fenced => return Err(error),
                Err(error) => last = Some(error),
            }
            for other in &target.others {
                // The error that counts is that of the address that was meant.
                if let Ok(stream) = self.tunnel(host, *other, target.port).await {
                    return Ok(Box::new(stream));
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            EffectError::new(
                EffectErrorKind::Unreachable,
                format!("no host carries network {}, on which {} lies", target.network, target.address),
            )
        }))
    }
}

impl Hosts {
    async fn tunnel(&self, host: &HostTarget, address: Ipv4Addr, port: u16) -> Result<Forward, EffectError> {
        let entry = self.entry(host)?;
        let limit = self.settings.dial_timeout;
        let text = address.to_string();
        let mut lost = None;
        // A trunk that died since it was last used is made anew once.
        for _ in 0..2 {
            let trunk = entry.trunk().await?;
            match tokio::time::timeout(limit, open_forward(&trunk, &text, port)).await {
                Ok(Ok(Some(forward))) => return Ok(forward),
                Ok(Ok(None)) => return Err(self.why(host, &text, port).await),
                Ok(Err(error)) => {
                    entry.drop_trunk().await;
                    lost = Some(error);
                }
                Err(_) => {
                    return Err(EffectError::new(
                        EffectErrorKind::Unreachable,
                        format!(
                            "{address}:{port} behind host {} does not answer within {} s",
                            host.name,
                            limit.as_secs()
                        ),
                    ));
                }
            }
        }
        let why = lost.map(|error| error.to_string()).unwrap_or_default();
        Err(EffectError::new(
            EffectErrorKind::Unreachable,
            format!("host {}: the SSH connection is lost: {why}", host.name),
        ))
    }

    /// The error of a connection that the host could not open.
    async fn why(&self, host: &HostTarget, address: &str, port: u16) -> EffectError {
        let doing = format!("connect to {address}:{port}");
        let port = port.to_string();
        let argv = ["/bin/sh", "-c", WHY, "why", address, &port];
        let said = match self.run(host, &argv, &doing, self.settings.dial_timeout, 1024).await {
            Ok(said) => said,
            Err(error) => return error,
        };
        let has = |text: &str| said.stderr.contains(text);
        let (kind, why) = match said.exit {
            _ if has("Connection refused") => {
                (EffectErrorKind::Unreachable, "connection refused: nothing listens there (yet)".to_owned())
            }
            _ if has("No route to host") || has("unreachable") => {
                (EffectErrorKind::Unreachable, "no route: no machine has that address (yet)".to_owned())
            }
            124 => (EffectErrorKind::Unreachable, "no answer within 3 s".to_owned()),
            0 => (
                EffectErrorKind::Refused,
                "its SSH server opens no tunnels: allow them (AllowTcpForwarding yes in sshd_config)"
                    .to_owned(),
            ),
            exit => (EffectErrorKind::Unreachable, format!("exit code {exit}: {}", said.stderr.trim())),
        };
        EffectError::new(kind, format!("host {} cannot {doing}: {why}", host.name))
    }
}
