//! [`HostShell`] on real hosts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostShell, HostTarget};
use async_trait::async_trait;

use crate::hosts::Hosts;

const FACTS: &str = include_str!("facts.sh");
const OUTPUT_BYTES: usize = 256 * 1024;

/// Exit code 0: somebody answers; 1: nobody; 9: it cannot be told. arping (either of the two programs of that name)
/// sees whoever is on the segment; without it a ping makes the kernel ask, which needs an address of the host there.
const ANSWERS: &str = r#"bridge=$1 address=$2
[ -d "/sys/class/net/$bridge" ] || { echo "there is no network device $bridge" >&2; exit 9; }
if command -v arping >/dev/null 2>&1; then
    if said=$(arping -c 2 -w 2 -I "$bridge" "$address" 2>&1); then exit 0; fi
    case $said in *[Rr]eceived* | *unanswered* | *Timeout*) exit 1 ;; esac
fi
ip -4 -o addr show dev "$bridge" 2>/dev/null | grep -q inet ||
    { echo "arping is missing, and $bridge has no address to ask from: install arping" >&2; exit 9; }
ping -c 1 -W 1 -I "$bridge" "$address" >/dev/null 2>&1 && exit 0
case $(ip neigh show to "$address" dev "$bridge" 2>/dev/null) in *lladdr*) exit 0 ;; esac
exit 1
"#;

/// Under the gate's own lock; nothing of the owner's sessions is ended here.
const RELEASE: &str = r#"state=/var/lib/libvirt/ashlar
exec 9>>"$state/lease.lock"
flock -w 10 9 || { echo "the lease is locked" >&2; exit 1; }
read -r owner token _ <"$state/lease" || exit 0
[ "$owner" = "$1" ] && [ "$token" = "$2" ] || { echo "the lease is another's now" >&2; exit 1; }
rm -f "$state/lease" && sync "$state"
"#;

#[async_trait]
impl HostShell for Hosts {
    async fn file_sha256(&self, host: &HostTarget, path: &str) -> Result<String, EffectError> {
        let doing = format!("compute the digest of {path}");
        let argv = ["sha256sum", "--", path];
        let said = self.run(host, &argv, &doing, self.settings.digest_timeout, OUTPUT_BYTES).await?;
        let refused = |kind, what: &str| {
            Err(EffectError::new(kind, format!("host {} cannot {doing}: {what}", host.name)))
        };
        if said.stderr.contains("No such file") {
            return refused(EffectErrorKind::NotFound, "there is no such file");
        }
        let text = String::from_utf8_lossy(&said.stdout);
        // A leading backslash says that the name, not the digest, is escaped.
        let digest = text.trim_start_matches('\\').split_whitespace().next().unwrap_or_default();
        if said.exit == 0 && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(digest.to_ascii_lowercase());
        }
        refused(EffectErrorKind::Refused, said.stderr.trim())
    }

    async fn check_facts(
        &self,
        host: &HostTarget,
        pool_path: &str,
    ) -> Result<BTreeMap<String, String>, EffectError> {
        let doing = "say how it is set up";
        let argv = ["/bin/sh", "-c", FACTS, "facts", pool_path];
        let said = self.run(host, &argv, doing, self.settings.command_timeout * 2, OUTPUT_BYTES).await?;
        if said.exit != 0 {
            return Err(EffectError::new(
                EffectErrorKind::Refused,
                format!("host {} cannot {doing}: {}", host.name, said.stderr.trim()),
            ));
        }
        Ok(facts(&String::from_utf8_lossy(&said.stdout)))
    }

    async fn release_lease(&self, host: &HostTarget) -> Result<(), EffectError> {
        let doing = "give its lease back";
        let installation = host.installation.to_string();
        let token = host.lease_token.to_string();
        let argv = ["/bin/sh", "-c", RELEASE, "release", &installation, &token];
        let said = self.run(host, &argv, doing, self.settings.command_timeout, OUTPUT_BYTES).await?;
        match said.exit {
            0 => Ok(()),
            _ => Err(EffectError::new(
                EffectErrorKind::Busy,
                format!("host {} cannot {doing}: {}", host.name, said.stderr.trim()),
            )),
        }
    }

    async fn address_answers(
        &self,
        host: &HostTarget,
        bridge: &str,
        address: Ipv4Addr,
    ) -> Result<bool, EffectError> {
        let doing = format!("say whether {address} is in use on {bridge}");
        let address = address.to_string();
        let argv = ["/bin/sh", "-c", ANSWERS, "answers", bridge, &address];
        let said = self.run(host, &argv, &doing, self.settings.command_timeout, OUTPUT_BYTES).await?;
        match said.exit {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(EffectError::new(
                EffectErrorKind::Refused,
                format!("host {} cannot {doing}: {}", host.name, said.stderr.trim()),
            )),
        }
    }
}

fn facts(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}
