//! Keys and the sshd configuration of a lab's hosts.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::LabError;
use crate::command;
use crate::describe::LabDescription;
use crate::files::{ensure_dir, ensure_file};
use crate::layout::HostPaths;

const KEYGEN_DEADLINE: Duration = Duration::from_secs(30);

/// Makes an ed25519 key pair unless it is there, and returns its public half: `ssh-ed25519 AAAA…`, without comment.
pub(crate) fn ensure_key(path: &Path, comment: &str) -> Result<String, LabError> {
    let public = path.with_extension("pub");
    if !path.exists() || !public.exists() {
        // Made elsewhere and moved: the ssh-keygen of an `up` that was killed may be writing still. The private key
        // comes last, so that half a pair is not taken for one.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = tempfile::tempdir_in(parent).map_err(LabError::io("create a directory in", parent))?;
        let made = dir.path().join("key");
        let mut keygen = command::command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&made);
        command::checked(&mut keygen, KEYGEN_DEADLINE)?;
        for (from, to) in [(made.with_extension("pub"), public.as_path()), (made, path)] {
            fs::rename(&from, to).map_err(LabError::io("move a key to", to))?;
        }
    }
    let text = fs::read_to_string(&public).map_err(LabError::io("read", public))?;
    let mut words = text.split_whitespace();
    Ok(format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default()))
}

/// Writes what the host's `/etc/ssh` holds, and returns its public host key.
pub(crate) fn ensure_server(
    paths: &HostPaths,
    host: &str,
    address: Ipv4Addr,
    client_public_key: &str,
) -> Result<String, LabError> {
    let dir = paths.etc_ssh();
    ensure_dir(&dir, 0o755)?;
    let public_key = ensure_key(&dir.join("ssh_host_ed25519_key"), host)?;
    ensure_file(&dir.join("authorized_keys"), format!("{client_public_key}\n").as_bytes(), 0o600)?;
    ensure_file(&dir.join("ssh_config"), b"", 0o644)?;
    let config = server_config(address, openssh_version()?);
    ensure_file(&dir.join("sshd_config"), config.as_bytes(), 0o644)?;
    Ok(public_key)
}

fn server_config(address: Ipv4Addr, version: Option<(u32, u32)>) -> String {
    let mut config = format!(
        "# One host of an Ashlar lab: reached from the lab's control namespace only.
Port 22
ListenAddress {address}
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
AuthorizedKeysFile /etc/ssh/authorized_keys
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers root
UsePAM no
UseDNS no
AllowTcpForwarding yes
X11Forwarding no
PrintMotd no
PrintLastLog no
# One connection carries many channels (libvirt, tunnels to nodes), and tests open many at once.
MaxSessions 500
MaxStartups 500
LoginGraceTime 60
Subsystem sftp internal-sftp
LogLevel VERBOSE
"
    );
    // Since 9.8 sshd locks out an address after failures; every client of a lab shares one. Older ones do not know it.
    if version.is_some_and(|version| version >= (9, 8)) {
        config.push_str("PerSourcePenalties no\n");
    }
    config
}

/// Configuration for `ssh -F`, with a host block for each host of the lab.
pub(crate) fn client_config(lab: &LabDescription) -> String {
    let mut config = String::from("# For use in the lab's control namespace.\n");
    for host in &lab.hosts {
        config.push_str(&format!(
            "Host {} {address}\n    HostName {address}\n    Port {}\n    User {}\n",
            host.name,
            host.ssh_port,
            host.ssh_user,
            address = host.ssh_address,
        ));
    }
    config.push_str(&format!(
        "Host *\n    IdentityFile {}\n    IdentitiesOnly yes\n    UserKnownHostsFile {}\n    \
         StrictHostKeyChecking yes\n    BatchMode yes\n",
        lab.client_key.display(),
        lab.known_hosts.display(),
    ));
    config
}

/// Version of the installed OpenSSH: server and client come from one source package, and only the client tells.
fn openssh_version() -> Result<Option<(u32, u32)>, LabError> {
    let output = command::output(command::command("ssh").arg("-V"), KEYGEN_DEADLINE)?;
    Ok(parse_version(&String::from_utf8_lossy(&output.stderr)))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("OpenSSH_")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_about_options_that_old_servers_refuse() {
        let bookworm = parse_version("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.18 30 Sep 2025");
        let trixie = parse_version("OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.4 30 Sep 2025");
        assert_eq!((bookworm, trixie), (Some((9, 2)), Some((10, 0))));
        let address = Ipv4Addr::new(10, 77, 0, 11);
        assert!(!server_config(address, bookworm).contains("PerSourcePenalties"));
        assert!(server_config(address, trixie).contains("PerSourcePenalties no"));
        assert!(!server_config(address, None).contains("PerSourcePenalties"));
    }
}
