//! What may not change once it is stored, each with its reason.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{Report, Violation};
use crate::expand::ObjectMap;
use crate::{
    Cluster, Image, MachineRole, Network, NetworkAttachment, Object, StoragePool, VolumeContent, WorkerGroup,
    names::quoted, upgrade::upgrade_problem,
};

/// Judges the change from a stored object to a new one of the same name.
pub fn validate_update(old: &Object, new: &Object) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut report = Report::new(new.object_ref(), &mut out);
    if old.metadata().is_deleting() {
        report.add("", "is being deleted: wait until it is gone, then apply again");
    }
    match (old, new) {
        (Object::Cluster(old), Object::Cluster(new)) => cluster(&mut report, old, new),
        (Object::WorkerGroup(old), Object::WorkerGroup(new)) => worker_group(&mut report, old, new),
        (Object::Image(old), Object::Image(new)) => image(&mut report, old, new),
        (Object::StoragePool(old), Object::StoragePool(new)) => pool(&mut report, old, new),
        (Object::Network(old), Object::Network(new)) => network(&mut report, old, new),
        _ => {}
    }
    out
}

fn fixed<T: PartialEq + Display>(report: &mut Report<'_>, path: &str, old: &T, new: &T, reason: &str) {
    if old != new {
        report.add(path, format!("cannot change from {old} to {new}: {reason}"));
    }
}

fn cluster(report: &mut Report<'_>, old: &Cluster, new: &Cluster) {
    let (was, is) = (&old.spec, &new.spec);
    let reason = "the pods' addresses and the nodes' shares of it come from there; make a new cluster";
    fixed(report, "spec.podCidr", &was.pod_cidr, &is.pod_cidr, reason);
    let reason = "Services have addresses from there, and the API server's certificate names the first; make a new cluster";
    fixed(report, "spec.serviceCidr", &was.service_cidr, &is.service_cidr, reason);
    let reason =
        "it stands in the API server's certificate and in every kubelet's configuration; make a new cluster";
    fixed(report, "spec.dnsDomain", &was.dns_domain, &is.dns_domain, reason);
    let reason = "node addresses stand in etcd's membership and in certificates; make a new cluster";
    fixed(report, "spec.network", &was.network, &is.network, reason);
    let name = |cni| format!("{cni:?}").to_lowercase();
    let reason = "a pod network is not exchanged under running pods; make a new cluster";
    fixed(report, "spec.cni", &name(was.cni), &name(is.cni), reason);
    let reason = "the machines' clocks are part of how they were defined; make a new cluster";
    fixed(report, "spec.virtualTime", &was.virtual_time, &is.virtual_time, reason);
    // An address that was chosen for the user may be written down later.
    let address = was.endpoint.address.or(old.record.endpoint.as_ref().map(|endpoint| endpoint.address));
    if let (Some(address), Some(wanted)) = (address, is.endpoint.address) {
        let reason = "certificates, kubeconfigs and every kubelet name it; make a new cluster";
        fixed(report, "spec.endpoint.address", &address, &wanted, reason);
    }
    if old.record.initialized && was.endpoint.extra_sans != is.endpoint.extra_sans {
        let message =
            "cannot change: the API server's certificate was made with these names; make a new cluster";
        report.add("spec.endpoint.extraSans", message);
    }
}

/// The version is judged by what the nodes run: a wish that nothing has come of yet can be taken back.
pub(super) fn version(old: &Cluster, new: &Cluster, existing: &ObjectMap) -> Vec<Violation> {
    let mut out = Vec::new();
    let to = &new.spec.kubernetes_version;
    if old.spec.kubernetes_version == *to {
        return out;
    }
    let machines = || {
        existing.values().filter_map(|object| match object {
            Object::Machine(machine)
                if machine.metadata.namespace == old.metadata.namespace
                    && machine.spec.cluster == old.metadata.name =>
            {
                Some(&machine.spec)
            }
            _ => None,
        })
    };
    let of = |role| {
        machines()
            .filter(move |machine| machine.role == role)
            .map(|machine| machine.image.kubernetes_version.as_str())
    };
    let problem = upgrade_problem(of(MachineRole::ControlPlane), of(MachineRole::Worker), to);
    Report::new(new.object_ref(), &mut out).check("spec.kubernetesVersion", problem);
    out
}

fn worker_group(report: &mut Report<'_>, old: &WorkerGroup, new: &WorkerGroup) {
    let reason = "its machines have joined that cluster; make a new group";
    fixed(report, "spec.cluster", &old.spec.cluster, &new.spec.cluster, reason);
}

fn image(report: &mut Report<'_>, old: &Image, new: &Image) {
    let reason = "an image's name stands for its content; import the other one under a name of its own";
    fixed(report, "spec.digest", &old.spec.digest, &new.spec.digest, reason);
    let (was, is) = (&old.spec, &new.spec);
    let reason_same = "the digest is the same, so its content is; import another one under a name of its own";
    fixed(report, "spec.kubernetesVersion", &was.kubernetes_version, &is.kubernetes_version, reason_same);
    fixed(report, "spec.architecture", &was.architecture, &is.architecture, reason_same);
}

/// Builds from the same inputs are not the same byte for byte. Another build takes the place of a recorded one as long as
/// no host has a copy: what is there would be neither right nor mended.
pub(super) fn image_files(old: &Image, new: &Image, existing: &ObjectMap) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut report = Report::new(new.object_ref(), &mut out);
    let hosts: BTreeSet<&str> = existing
        .values()
        .filter_map(|object| match object {
            Object::Volume(volume) => Some(&volume.spec),
            _ => None,
        })
        .filter(|volume| {
            matches!(&volume.content, VolumeContent::ImageFile { image, .. } if *image == new.metadata.name)
        })
        .map(|volume| volume.host.as_str())
        .collect();
    if hosts.is_empty() {
        return out;
    }
    let hosts = Vec::from_iter(hosts).join(", ");
    let reason = format!(
        "copies of the other content are on {hosts} (they go some time after the last machine that boots from them: \
         spec.unusedGraceS); until then import this one under a name of its own"
    );
    let (was, is) = (&old.spec, &new.spec);
    let files = [
        ("disk", was.disk.as_ref(), is.disk.as_ref()),
        ("kernel", Some(&was.kernel), Some(&is.kernel)),
        ("initrd", Some(&was.initrd), Some(&is.initrd)),
    ];
    for (name, was, is) in files {
        if was.map(|file| &file.sha256) != is.map(|file| &file.sha256) {
            report.add(format!("spec.{name}.sha256"), format!("cannot change: {reason}"));
        }
    }
    out
}

fn pool(report: &mut Report<'_>, old: &StoragePool, new: &StoragePool) {
    if old.record.hosts.is_empty() {
        return;
    }
    let reason = "volumes are recorded there; add the other pool under a name of its own";
    fixed(
        report,
        "spec.libvirtName",
        &quoted(&old.spec.libvirt_name),
        &quoted(&new.spec.libvirt_name),
        reason,
    );
}

fn network(report: &mut Report<'_>, old: &Network, new: &Network) {
    if old.record.hosts.is_empty() {
        return;
    }
    let (was, is) = (&old.spec, &new.spec);
    // Hosts may be added to it and taken from it: that decides about new machines only.
    let apart_from_hosts = |spec: &NetworkAttachment| NetworkAttachment { hosts: Vec::new(), ..spec.clone() };
    if apart_from_hosts(&was.attachment) != apart_from_hosts(&is.attachment) {
        let message = "cannot change: machines are attached to it; make a new network";
        report.add("spec.attachment", message);
    }
    if was.is_made_by_us() {
        let reason = "machines were told so at their first boot; make a new network";
        fixed(report, "spec.gateway", &was.gateway, &is.gateway, reason);
        fixed(report, "spec.mtu", &was.mtu(), &is.mtu(), reason);
    }
}
