//! Console logs. virtlogd writes them, and rotates at 2 MiB: `LOG` becomes `LOG.0`, that `LOG.1`, and so on.

use ashlar_api::DomainIdentity;
use ashlar_engine::effects::{ConsoleChunk, EffectError, EffectErrorKind, HostTarget};

use crate::hosts::Hosts;
use crate::xml::console_log_path;

/// Most that one call gives.
const CHUNK: usize = 1024 * 1024;

/// The parts of a log from the oldest on are read as one: rotation then changes no offset until the oldest part falls
/// off. First line: how many bytes there are, and from where on the rest of the answer is. Rotation between two of
/// these steps is noticed by the list having changed, and done again.
const READ: &str = r#"log=$1 offset=$2 limit=$3
parts() {
    n=9
    while [ "$n" -ge 0 ]; do
        [ -e "$log.$n" ] && stat -c '%i %s %n' -- "$log.$n"
        n=$((n - 1))
    done
    [ -e "$log" ] && stat -c '%i %s %n' -- "$log"
}
files() { parts | cut -d' ' -f1,3-; }
tries=0
while :; do
    total=0
    list=$(files)
    sizes=$(parts | cut -d' ' -f2)
    for size in $sizes; do total=$((total + size)); done
    from=$offset
    [ "$from" -le "$total" ] || from=0
    end=$((from + limit))
    [ "$end" -le "$total" ] || end=$total
    [ "$list" = "$(files)" ] && break
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || exit 9
done
echo "$total $from $((end - from))"
set --
n=9
while [ "$n" -ge 0 ]; do
    [ -e "$log.$n" ] && set -- "$@" "$log.$n"
    n=$((n - 1))
done
[ -e "$log" ] && set -- "$@" "$log"
[ $# -eq 0 ] || cat -- "$@" | tail -c "+$((from + 1))" | head -c "$((end - from))"
"#;

/// The last bytes of a console and of QEMU's own log of the domain.
const TAILS: &str =
    r#"tail -c 16384 -- "$1" 2>/dev/null; printf '\n\001\n'; tail -c 8192 -- "$2" 2>/dev/null; :"#;

pub(crate) async fn read(
    hosts: &Hosts,
    host: &HostTarget,
    domain: &DomainIdentity,
    offset: u64,
) -> Result<ConsoleChunk, EffectError> {
    let log = console_log_path(domain);
    let argv = ["/bin/sh", "-c", READ, "console", &log, &offset.to_string(), &CHUNK.to_string()];
    let doing = format!("read the console of {}", domain.name);
    let said = hosts.run(host, &argv, &doing, hosts.settings.command_timeout, CHUNK + 256).await?;
    parse(&said.stdout).ok_or_else(|| {
        EffectError::new(
            EffectErrorKind::Busy,
            format!("host {} cannot {doing}: exit code {}, {}", host.name, said.exit, said.stderr.trim()),
        )
    })
}

fn parse(answer: &[u8]) -> Option<ConsoleChunk> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&answer[..end]).ok()?.split(' ').map(str::parse::<u64>);
    let (_total, from) = (words.next()?.ok()?, words.next()?.ok()?);
    let bytes = answer[end + 1..].to_vec();
    // Fewer than announced if the log was rotated meanwhile: then only these are accounted for.
    Some(ConsoleChunk { next_offset: from + bytes.len() as u64, bytes })
}

/// Console and QEMU log, the last lines of each.
pub(crate) async fn read_tails(
    hosts: &Hosts,
    host: &HostTarget,
    domain: &DomainIdentity,
) -> Result<(String, String), EffectError> {
    let console = console_log_path(domain);
    let qemu = format!("/var/log/libvirt/qemu/{}.log", domain.name);
    let argv = ["/bin/sh", "-c", TAILS, "tails", &console, &qemu];
    let doing = format!("read the logs of {}", domain.name);
    let said = hosts.run(host, &argv, &doing, hosts.settings.command_timeout, CHUNK).await?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let (console, qemu) = text.split_once("\n\u{1}\n").unwrap_or((&text, ""));
    Ok((console.to_owned(), qemu.to_owned()))
}
