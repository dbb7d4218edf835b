//! The scripts, whole: what is sent to a host's shell as its standard input.

use ashlar_plan::network::{HostNetwork, names};
use uuid::Uuid;

use super::nft;

const COMMON: &str = include_str!("common.sh");
const OWNED: &str = include_str!("owned.sh");
const OBSERVE: &str = include_str!("observe.sh");
const BEGIN: &str = include_str!("apply.sh");
const MADE: &str = include_str!("made.sh");
const REMOVE: &str = include_str!("remove.sh");

pub(super) fn observe_script() -> String {
    format!("{COMMON}{OBSERVE}")
}

/// Makes a network what it should be on a host.
///
/// # Errors
/// A name in it cannot be written as JSON.
pub fn apply_script(network: &HostNetwork) -> Result<String, serde_json::Error> {
    let id = names::id(network.uid);
    let mark = nft::mark(network.installation, network.uid);
    let json = serde_json::to_string(network)?;
    let (bridge, mtu) = (&network.bridge, network.mtu);
    let bridge_table = nft::bridge_table(network);
    let host_table = nft::host_table(network);
    let mut script = format!(
        "{COMMON}id={id}\nmark={}\nmtu={mtu}\n{BEGIN}{OWNED}echo \"$mark\" >\"$run/$id\"\n",
        quote(&mark)
    );
    if network.made.is_none() {
        let bridge = quote(bridge);
        script += &format!(
            "[ -d /sys/class/net/{bridge} ] || fail refused 'there is no bridge '{bridge}' on it: make it, or name the \
             right one in the Network'\n"
        );
    }
    // Both tables in one transaction.
    script += &format!("nft -f - <<'ASHLAR-END'\n{bridge_table}{host_table}ASHLAR-END\n");
    if let Some(made) = &network.made {
        let overlay = made.overlay.as_ref();
        let text = |value: Option<String>| value.unwrap_or_default();
        let peers: Vec<String> =
            overlay.into_iter().flat_map(|it| &it.peers).map(ToString::to_string).collect();
        let table = nft::namespace_table(network, made);
        script += &format!(
            "bridge_mac={}\ngateway={}\ngateway_mac={}\negress={}\nvni='{}'\nport='{}'\nlocal='{}'\npeers='{}'\n{MADE}",
            bridge_mac(network.uid),
            made.gateway,
            made.gateway_mac,
            u8::from(made.egress),
            text(overlay.map(|it| it.vni.to_string())),
            text(overlay.map(|it| it.port.to_string())),
            text(overlay.map(|it| it.local.to_string())),
            peers.join(" "),
        );
        script += &format!("ip netns exec \"$ns\" nft -f - <<'ASHLAR-END'\n{table}ASHLAR-END\n");
        script += &format!(
            "ip netns exec \"$ns\" sh -c 'echo {} >/proc/sys/net/ipv4/ip_forward'\n",
            u8::from(made.egress)
        );
    }
    // What is there now is how it should be; whoever looks later compares. The description comes last: with it the
    // network counts as made to its end.
    script += "show_state \"$id\" | sha256sum >\"$run/$id.state.new\"\nmv \"$run/$id.state.new\" \"$run/$id.state\"\n";
    script += &format!(
        "cat >\"$run/$id.json.new\" <<'ASHLAR-END'\n{json}\nASHLAR-END\nmv \"$run/$id.json.new\" \"$run/$id.json\"\n"
    );
    Ok(script)
}

/// Removes everything of a network from a host.
pub fn remove_script(installation: Uuid, network: Uuid) -> String {
    let mark = quote(&nft::mark(installation, network));
    format!("{COMMON}id={}\nmark={mark}\n{BEGIN}{OWNED}set +e\n{REMOVE}", names::id(network))
}

/// A bridge's MAC is that of one of its ports, and changes with them, unless it is given one.
fn bridge_mac(network: Uuid) -> String {
    names::gateway_mac(network).replacen("02:a5:", "02:a6:", 1)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_are_posix_shell() {
        let scripts = [
            observe_script(),
            remove_script(Uuid::nil(), Uuid::nil()),
            format!("{COMMON}{BEGIN}{OWNED}{MADE}"),
        ];
        for (number, script) in scripts.iter().enumerate() {
            for shell in ["sh", "bash"] {
                let status = std::process::Command::new(shell).args(["-n", "-c", script]).status().unwrap();
                assert!(status.success(), "{shell} {number}");
            }
        }
    }
}
