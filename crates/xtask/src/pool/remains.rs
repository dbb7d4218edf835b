//! What is on the hosts of a cluster, judged by libvirt, the pools' directories and the kernel, not by Ashlar's store.

use anyhow::{Result, ensure};

use super::Address;
use crate::e2e::context::Context;

fn found(context: &mut Context, hosts: &[&str], cluster: &str, address: &Address) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let vni = format!("vxlan id {} ", address.vni);
    for host in hosts {
        let domains =
            context.on(host, &["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"])?;
        let volumes = context.on(host, &["ls", "/var/lib/libvirt/images"])?;
        let links = context.on(host, &["ip", "-details", "-oneline", "link", "show"])?;
        let of_cluster = |line: &&str| line.contains(&format!("{cluster}-ctrl-"));
        found
            .extend(domains.lines().filter(of_cluster).map(|line| format!("{host}: domain {}", line.trim())));
        found
            .extend(volumes.lines().filter(of_cluster).map(|line| format!("{host}: volume {}", line.trim())));
        let links = links.lines().filter(|line| line.contains(&vni));
        found.extend(
            links.filter_map(|line| Some(format!("{host}: device {}", line.split(':').nth(1)?.trim()))),
        );
    }
    Ok(found)
}

pub(super) fn nothing_of(
    context: &mut Context,
    hosts: &[&str],
    cluster: &str,
    address: &Address,
) -> Result<()> {
    let left = found(context, hosts, cluster, address)?;
    ensure!(left.is_empty(), "left of {cluster}: {}", left.join(", "));
    Ok(())
}

/// The same search finds what is there: else that it finds nothing would prove nothing.
pub(super) fn something_of(
    context: &mut Context,
    hosts: &[&str],
    cluster: &str,
    address: &Address,
) -> Result<()> {
    let there = found(context, hosts, cluster, address)?.join(", ");
    println!("test-pool remains: of {cluster}: {there}");
    for kind in ["domain", "volume", "device"] {
        ensure!(there.contains(&format!(": {kind} ")), "no {kind} of {cluster} is found: {there}");
    }
    Ok(())
}
