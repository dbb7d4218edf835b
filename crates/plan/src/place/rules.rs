//! Rules that a host must pass. Each refusal carries its numbers.

use ashlar_api::*;

use super::request::{Request, image_files};
use super::usage::{HostUsage, offer, pool_offer_mib};
use crate::draft::Draft;
use crate::report::Refusal;
use crate::{HostSeen, names};

/// Whether the host passes every rule.
pub(crate) fn judge(
    draft: &Draft<'_>,
    host: &Host,
    usage: &HostUsage,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    usable(draft, host)?;
    fitting(draft, host, request)?;
    spread(host, request)?;
    name(draft, host, usage, request)?;
    cpu(host, usage, request)?;
    memory(host, usage, request)?;
    disk(draft, host, usage, request)
}

fn refuse(rule: &str, message: String) -> Result<(), Refusal> {
    Err(Refusal { rule: rule.to_owned(), message })
}

fn usable(draft: &Draft<'_>, host: &Host) -> Result<(), Refusal> {
    let name = &host.metadata.name;
    if host.metadata.is_deleting() {
        return refuse("Leaving", "it is being removed".to_owned());
    }
    if host.record.capacity.is_none() || host.record.accelerator.is_none() {
        return refuse(
            "NotEnrolled",
            format!("it was not enrolled to the end: run `ashlar host add {name}`"),
        );
    }
    if host.spec.cordoned {
        return refuse("Cordoned", "it is cordoned: no new machine is placed there".to_owned());
    }
    match draft.snapshot.observed.hosts.get(name) {
        Some(HostSeen::Unreachable { reason }) => {
            refuse("Unreachable", format!("it does not answer: {reason}"))
        }
        Some(HostSeen::NotOurs { reason }) => {
            refuse("NotOurs", format!("it is not the host that was enrolled: {reason}"))
        }
        Some(HostSeen::Fenced { reason }) => refuse("TakenOver", reason.clone()),
        // One that was not asked in this pass is taken as it was recorded.
        Some(HostSeen::Seen(_)) | None => Ok(()),
    }
}

fn fitting(draft: &Draft<'_>, host: &Host, request: &Request<'_>) -> Result<(), Refusal> {
    let name = &host.metadata.name;
    let (has, wants) = (go_architecture(&host.record.architecture), &request.image.spec.architecture);
    if !has.is_empty() && has != wants {
        return refuse(
            "Architecture",
            format!("it is {has}; image {} is {wants}", request.image.metadata.name),
        );
    }
    let network = &request.network;
    if !network.spec.is_on(name) {
        return refuse("Network", format!("network {} is not there", network.metadata.name));
    }
    let pool = &request.pool;
    let allowed = pool.spec.hosts.is_empty() || pool.spec.hosts.contains(name);
    let Some(on_host) = pool.record.hosts.get(name).filter(|_| allowed) else {
        return refuse("Pool", format!("storage pool {} is not there", pool.metadata.name));
    };
    if let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(name)
        && !world.pools.contains_key(&on_host.uuid)
    {
        if let Some(reason) = world.distrusted_pools.get(&on_host.uuid) {
            return refuse("PoolNotMounted", reason.clone());
        }
        return refuse("PoolNotActive", format!("storage pool {} is not active there", pool.metadata.name));
    }
    for (part, ..) in image_files(request.image) {
        let key = names::image_volume(&request.image.spec.digest, name, part);
        let Some(volume) = draft.volumes.get(&key) else { continue };
        if volume.metadata.is_deleting() {
            return refuse("ImageLeaving", format!("image file {} is being removed there", key.name));
        }
        if !matches!(&volume.spec.content, VolumeContent::ImageFile { digest, .. } if *digest == request.image.spec.digest)
        {
            return refuse("ImageName", format!("volume {} there holds another image", key.name));
        }
    }
    Ok(())
}

/// Architectures as Go names them, from the names of the kernel.
pub fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn spread(host: &Host, request: &Request<'_>) -> Result<(), Refusal> {
    let required = request.role == MachineRole::ControlPlane
        && request.cluster.spec.control_plane.spread == Spread::Required;
    if required && request.control_plane_hosts.contains(&host.metadata.name) {
        let cluster = request.cluster.key();
        return refuse("ControlPlaneSpread", format!("a control plane of {cluster} is there already"));
    }
    Ok(())
}

fn name(draft: &Draft<'_>, host: &Host, usage: &HostUsage, request: &Request<'_>) -> Result<(), Refusal> {
    let wanted = &request.domain_name;
    if usage.domain_names.contains(wanted) {
        return refuse("NameTaken", format!("another machine's domain is called {wanted} there"));
    }
    if let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(&host.metadata.name)
        && let Some(domain) = world
            .domains
            .values()
            .find(|domain| domain.name == *wanted && Some(domain.uuid) != request.own_domain)
    {
        return refuse(
            "NameTaken",
            format!(
                "a domain that is not Ashlar's is called {wanted} there (UUID {}): rename or remove it",
                domain.uuid
            ),
        );
    }
    Ok(())
}

fn cpu(host: &Host, usage: &HostUsage, request: &Request<'_>) -> Result<(), Refusal> {
    let Some(offer) = offer(host) else { return Ok(()) };
    let wants = u64::from(request.class.spec.vcpus);
    if wants > offer.threads {
        return refuse(
            "Cpu",
            format!("{wants} vCPUs asked in one machine; it offers {} threads", offer.threads),
        );
    }
    let (mut shared, mut dedicated) = (usage.shared_vcpus, usage.dedicated_vcpus);
    match request.class.spec.cpu_policy {
        CpuPolicy::Shared => shared += wants,
        CpuPolicy::Dedicated => dedicated += wants,
    }
    let overcommit = u64::from(host.spec.cpu_overcommit.max(1));
    let for_shared = offer.threads.saturating_sub(dedicated) * overcommit;
    if dedicated > offer.threads || shared > for_shared {
        let free = match request.class.spec.cpu_policy {
            CpuPolicy::Shared => for_shared.saturating_sub(usage.shared_vcpus),
            CpuPolicy::Dedicated => (offer.threads - usage.dedicated_vcpus.min(offer.threads))
                .saturating_sub(usage.shared_vcpus.div_ceil(overcommit)),
        };
        return refuse(
            "Cpu",
            format!(
                "{wants} vCPUs asked; {free} free ({} threads × {overcommit}, {} claimed)",
                offer.threads,
                usage.shared_vcpus + usage.dedicated_vcpus
            ),
        );
    }
    Ok(())
}

fn memory(host: &Host, usage: &HostUsage, request: &Request<'_>) -> Result<(), Refusal> {
    let Some(offer) = offer(host) else { return Ok(()) };
    let wants = request.class.spec.memory;
    let free = offer.memory_mib.saturating_sub(usage.memory_mib);
    if wants.0 > free {
        return refuse(
            "Memory",
            format!("{wants} asked; {} of {} free", Mebibytes(free), Mebibytes(offer.memory_mib)),
        );
    }
    Ok(())
}

fn disk(draft: &Draft<'_>, host: &Host, usage: &HostUsage, request: &Request<'_>) -> Result<(), Refusal> {
    let (name, pool) = (&host.metadata.name, &request.pool);
    let Some(offered) = pool_offer_mib(pool, name) else { return Ok(()) };
    let image_mib = missing_image_mib(draft, name, request);
    let wants = request.disks_mib() + image_mib;
    let claimed = usage.disk_mib.get(&pool.metadata.name).copied().unwrap_or(0);
    let free = offered.saturating_sub(claimed);
    if wants > free {
        return refuse(
            "Disk",
            format!(
                "{} asked in pool {}; {} of {} free (filled up to {} %)",
                Mebibytes(wants),
                pool.metadata.name,
                Mebibytes(free),
                Mebibytes(offered),
                pool.spec.max_fill_percent
            ),
        );
    }
    // Disks grow as they are written, but some is written at once, and others may have filled the pool.
    let seen = match draft.snapshot.observed.hosts.get(name) {
        Some(HostSeen::Seen(world)) => {
            pool.record.hosts.get(name).and_then(|on_host| world.pools.get(&on_host.uuid))
        }
        _ => None,
    };
    let soon = soon_mib(request, image_mib) + usage.soon_mib.get(&pool.metadata.name).copied().unwrap_or(0);
    match seen {
        Some(seen) if soon > seen.available_mib => refuse(
            "PoolFull",
            format!(
                "{} are written at once in pool {}; {} are free on its file system",
                Mebibytes(soon),
                pool.metadata.name,
                Mebibytes(seen.available_mib)
            ),
        ),
        _ => Ok(()),
    }
}

/// What of the image is not on the host yet.
pub(crate) fn missing_image_mib(draft: &Draft<'_>, host: &str, request: &Request<'_>) -> u64 {
    image_files(request.image)
        .filter(|(part, ..)| {
            !draft.volumes.contains(&names::image_volume(&request.image.spec.digest, host, *part))
        })
        .map(|(_, _, mib)| mib)
        .sum()
}

/// What is written at once: etcd's disk is preallocated, image and seed are uploaded; the root disk grows later.
pub(crate) fn soon_mib(request: &Request<'_>, image_mib: u64) -> u64 {
    request.etcd_mib() + SEED_AND_HEADERS_MIB + image_mib
}

const SEED_AND_HEADERS_MIB: u64 = super::request::SEED_MIB + 1;
