//! [`Dial`] on real hosts: a tunnel over a host's trunk.
//!
//! What the lease gate guarantees for a tunnel: it exists only on a trunk whose session passed the gate with the
//! caller's token, and it ends when a newer token takes the host over, because the gate then kills the sshd process
//! of that trunk. A dial with an older token never gets a trunk. (Where the SSH server is not OpenSSH, the gate finds
//! no sshd process, and an old tunnel lives until its own process notices.) A visitor's tunnel has no token, and stays.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::PoisonError;
use std::task::{Context, Poll};

use ashlar_engine::effects::{Dial, DialTarget, EffectError, EffectErrorKind, HostTarget, Stream};
use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::hosts::Hosts;
use crate::ssh::{Forward, open_forward};

/// Tells why a connection cannot be made; the protocol of the tunnel does not.
const WHY: &str = r#"timeout 3 bash -c ": </dev/tcp/$1/$2""#;

/// A connection from inside a namespace, between standard input and output. bash is what every host has that can open
/// one. Whichever end closes first, closes the whole.
const INSIDE: &str = r#"[ -e "/run/netns/$1" ] || { echo "the network is not on this host" >&2; exit 9; }
exec ip netns exec "$1" bash -c '
exec 3<>"/dev/tcp/$0/$1" || exit 7
echo ashlar-connected
cat <&3 &
reader=$!
cat <&0 >&3 &
writer=$!
exec 3>&- </dev/null >/dev/null
wait -n
kill $reader $writer 2>/dev/null
' "$2" "$3"
"#;
const CONNECTED: &str = "ashlar-connected";
/// More is never kept of what it says on standard error.
const STDERR_BYTES: u64 = 4096;

#[async_trait]
impl Dial for Hosts {
    async fn dial(&self, target: &DialTarget) -> Result<Box<dyn Stream>, EffectError> {
        // Existing bridges are reached from the host itself; a network that Ashlar makes from its namespace there. A
        // gateway reaches the machines of its own host only: who of a control plane holds the virtual address is
        // found out by trying, and remembered.
        let way = (target.namespace.clone(), target.address, target.port);
        let last_good = self.good_ways.lock().unwrap_or_else(PoisonError::into_inner).get(&way).cloned();
        let mut via: Vec<&HostTarget> = target.via.iter().collect();
        via.sort_by_key(|host| Some(&host.name) != last_good.as_ref());
        let mut last = None;
        for host in via {
            let opened = self.one_way(host, target, target.address).await;
            match opened {
                Ok(stream) => {
                    if target.namespace.is_some() {
                        let mut ways = self.good_ways.lock().unwrap_or_else(PoisonError::into_inner);
                        ways.insert(way, host.name.clone());
                    }
                    return Ok(stream);
                }
                // Another host cannot help against this.
                Err(error) if error.kind == EffectErrorKind::Fenced => return Err(error),
                Err(error) => last = Some(error),
            }
            for other in &target.others {
                // The error that counts is that of the address that was meant.
                if let Ok(stream) = self.one_way(host, target, *other).await {
                    return Ok(stream);
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
    /// To an address of the target's network, through one host.
    async fn one_way(
        &self,
        host: &HostTarget,
        target: &DialTarget,
        address: Ipv4Addr,
    ) -> Result<Box<dyn Stream>, EffectError> {
        Ok(match &target.namespace {
            None => Box::new(self.tunnel(host, address, target.port).await?),
            Some(namespace) => Box::new(self.inside(host, namespace, address, target.port).await?),
        })
    }

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

/// A connection through a command on the host.
struct Inside {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Ends when this is dropped.
    _child: Child,
}

impl Hosts {
    async fn inside(
        &self,
        host: &HostTarget,
        namespace: &str,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Inside, EffectError> {
        let entry = self.entry(host)?;
        let trunk = entry.trunk().await?;
        let (text, port_text) = (address.to_string(), port.to_string());
        let argv = ["/bin/sh", "-c", INSIDE, "inside", namespace, &text, &port_text];
        let mut command = Command::from(entry.ssh.session(Some(&trunk), &argv));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let cannot = |why: String| {
            let message = format!("host {} cannot connect to {address}:{port}: {why}", host.name);
            EffectError::new(EffectErrorKind::Unreachable, message)
        };
        let work = async {
            let mut child = command.spawn()?;
            let missing = || std::io::Error::other("a pipe is missing");
            let input = child.stdin.take().ok_or_else(missing)?;
            let mut output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let mut line = String::new();
            (&mut output).take(64).read_line(&mut line).await?;
            if line.trim_end() == CONNECTED {
                return Ok(Ok(Inside { input, output, _child: child }));
            }
            let mut said = String::new();
            stderr.take(STDERR_BYTES).read_to_string(&mut said).await?;
            Ok::<_, std::io::Error>(Err(said))
        };
        match tokio::time::timeout(self.settings.dial_timeout, work).await {
            Ok(Ok(Ok(inside))) => Ok(inside),
            Ok(Ok(Err(said))) if said.contains("Connection refused") => {
                Err(cannot("connection refused: nothing listens there (yet)".to_owned()))
            }
            Ok(Ok(Err(said))) if said.contains("No route to host") => {
                Err(cannot("no machine on this host has that address (yet)".to_owned()))
            }
            Ok(Ok(Err(said))) => Err(cannot(said.trim().replace('\n', "; "))),
            Ok(Err(error)) => Err(cannot(error.to_string())),
            Err(_) => Err(cannot(format!("no answer within {} s", self.settings.dial_timeout.as_secs()))),
        }
    }
}

impl AsyncRead for Inside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}
