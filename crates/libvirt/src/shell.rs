//! [`HostShell`] on real hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ashlar_engine::effects::{
    EffectError, EffectErrorKind, FileChunks, HostShell, HostTarget, MAX_ADDRESSES,
};
use async_trait::async_trait;

use crate::hosts::{Hosts, token_of};

const FACTS: &str = include_str!("facts.sh");
const ZERO: &str = include_str!("zero.sh");
/// Exit code of [`ZERO`] where the file system cannot do it.
const ZERO_CANNOT: i32 = 8;
const OUTPUT_BYTES: usize = 256 * 1024;

/// Addresses that somebody answers for, one a line; exit code 9: of one it cannot be told. arping (either of the two
/// programs of that name) sees whoever is on the segment; without it a ping makes the kernel ask, which needs an address
/// of the host there.
const ANSWERS: &str = r#"bridge=$1; shift
[ -d "/sys/class/net/$bridge" ] || { echo "there is no network device $bridge" >&2; exit 9; }
ask() {
    if command -v arping >/dev/null 2>&1; then
        if said=$(arping -c 2 -w 2 -I "$bridge" "$1" 2>&1); then echo "$1"; return 0; fi
        case $said in *[Rr]eceived* | *unanswered* | *Timeout*) return 0 ;; esac
    fi
    ip -4 -o addr show dev "$bridge" 2>/dev/null | grep -q inet ||
        { echo "arping is missing, and $bridge has no address to ask from: install arping" >&2; return 9; }
    ping -c 1 -W 1 -I "$bridge" "$1" >/dev/null 2>&1 && { echo "$1"; return 0; }
    case $(ip neigh show to "$1" dev "$bridge" 2>/dev/null) in *lladdr*) echo "$1" ;; esac
    return 0
}
asked='' result=0
for address; do ask "$address" & asked="$asked $!"; done
for one in $asked; do wait "$one" || result=9; done
exit $result
"#;

/// What counts as verified must survive a loss of power: `sync` with a file waits until its content is on the disk.
const SHA256: &str = r#"{ [ ! -f "$1" ] || sync -- "$1"; } && exec sha256sum -- "$1""#;

/// The size, then a digest a line. Chunks are multiples of 1 MiB.
const CHUNKS: &str = r#"path=$1 mib=$2
size=$(stat -L -c %s -- "$path") || exit 1
echo "$size"
at=0
while [ $((at * 1048576)) -lt "$size" ]; do
    dd if="$path" bs=1048576 skip="$at" count="$mib" status=none | sha256sum || exit 1
    at=$((at + mib))
done
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
        let argv = ["/bin/sh", "-c", SHA256, "sha256", path];
        let said = self.run(host, &argv, &doing, self.settings.digest_timeout, OUTPUT_BYTES).await?;
        let text = String::from_utf8_lossy(&said.stdout);
        match digest(text.trim_end()) {
            Some(digest) if said.exit == 0 => Ok(digest),
            _ => Err(unreadable(host, &doing, &said.stderr)),
        }
    }

    async fn file_chunks(
        &self,
        host: &HostTarget,
        path: &str,
        chunk_bytes: u64,
    ) -> Result<FileChunks, EffectError> {
        let doing = format!("compute the digests of what {path} holds");
        let mib = (chunk_bytes >> 20).max(1).to_string();
        let argv = ["/bin/sh", "-c", CHUNKS, "chunks", path, &mib];
        let said = self.run(host, &argv, &doing, self.settings.digest_timeout, OUTPUT_BYTES).await?;
        let text = String::from_utf8_lossy(&said.stdout);
        let mut lines = text.lines();
        let size_bytes = lines.next().and_then(|size| size.trim().parse().ok());
        let sha256: Option<Vec<String>> = lines.map(digest).collect();
        match (size_bytes, sha256) {
            (Some(size_bytes), Some(sha256)) if said.exit == 0 => Ok(FileChunks { size_bytes, sha256 }),
            _ => Err(unreadable(host, &doing, &said.stderr)),
        }
    }

    async fn zero_file(
        &self,
        host: &HostTarget,
        path: &str,
        timeout: Duration,
    ) -> Result<Option<String>, EffectError> {
        let doing = format!("overwrite {path}");
        token_of(host)?;
        let argv = ["/bin/sh", "-c", ZERO, "zero", path];
        let said = self.run(host, &argv, &doing, timeout, OUTPUT_BYTES).await?;
        match said.exit {
            0 => Ok(None),
            ZERO_CANNOT => Ok(Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())),
            _ => Err(unreadable(host, &doing, &said.stderr)),
        }
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
        let token = token_of(host)?.to_string();
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

    async fn addresses_answer(
        &self,
        host: &HostTarget,
        bridge: &str,
        addresses: &[Ipv4Addr],
    ) -> Result<BTreeSet<Ipv4Addr>, EffectError> {
        let doing = format!("say which of {} addresses are in use on {bridge}", addresses.len());
        let addresses: Vec<String> = addresses.iter().take(MAX_ADDRESSES).map(Ipv4Addr::to_string).collect();
        let mut argv = vec!["/bin/sh", "-c", ANSWERS, "answers", bridge];
        argv.extend(addresses.iter().map(String::as_str));
        let said = self.run(host, &argv, &doing, self.settings.command_timeout, OUTPUT_BYTES).await?;
        let stdout = String::from_utf8_lossy(&said.stdout);
        let answered: BTreeSet<Ipv4Addr> =
            stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
        // Those that somebody answered for are in use, whatever could not be told of others.
        if said.exit != 0 && answered.is_empty() {
            return Err(EffectError::new(
                EffectErrorKind::Refused,
                format!("host {} cannot {doing}: {}", host.name, said.stderr.trim()),
            ));
        }
        Ok(answered)
    }
}

/// The digest in a line of `sha256sum`. A leading backslash says that the name, not the digest, is escaped.
fn digest(line: &str) -> Option<String> {
    let digest = line.trim_start_matches('\\').split_whitespace().next()?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| digest.to_ascii_lowercase())
}

fn unreadable(host: &HostTarget, doing: &str, stderr: &str) -> EffectError {
    let (kind, what) = if stderr.contains("No such file") {
        (EffectErrorKind::NotFound, "there is no such file")
    } else {
        (EffectErrorKind::Refused, stderr.trim())
    };
    EffectError::new(kind, format!("host {} cannot {doing}: {what}", host.name))
}

fn facts(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}
