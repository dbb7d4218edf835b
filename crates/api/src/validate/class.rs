//! Machine classes.

use super::Report;
use crate::{Cluster, MachineClassSpec, Mebibytes};

/// What kubeadm's preflight wants of a control plane.
const CONTROL_PLANE_VCPUS: u32 = 2;
const CONTROL_PLANE_MEMORY: Mebibytes = Mebibytes(1700);
/// No x86 machine type of QEMU has more.
const MOST_VCPUS: u32 = 1024;
/// Below, a kernel with its initrd does not come up.
const LEAST_MEMORY: Mebibytes = Mebibytes(128);
const MOST_MEMORY: Mebibytes = Mebibytes(16 << 20);
/// Five segments of etcd's write-ahead log (64 MiB each) and the smallest database.
const LEAST_ETCD_DISK: Mebibytes = Mebibytes(512);
const LEAST_ROOT_DISK: Mebibytes = Mebibytes(64);
const MOST_DISK: Mebibytes = Mebibytes(64 << 20);

pub(super) fn check(report: &mut Report<'_>, spec: &MachineClassSpec) {
    if !(1..=MOST_VCPUS).contains(&spec.vcpus) {
        report.add("spec.vcpus", format!("{} is outside of 1 to {MOST_VCPUS}", spec.vcpus));
    }
    let bounds = [
        ("spec.memory", spec.memory, LEAST_MEMORY, MOST_MEMORY),
        ("spec.rootDisk", spec.root_disk, LEAST_ROOT_DISK, MOST_DISK),
        ("spec.etcdDisk", spec.etcd_disk, LEAST_ETCD_DISK, MOST_DISK),
    ];
    for (path, value, least, most) in bounds {
        if !(least..=most).contains(&value) {
            report.add(path, format!("{value} is outside of {least} to {most}"));
        }
    }
}

/// What keeps a class from being used by a cluster's control planes.
pub(super) fn control_plane_problems(class: &str, spec: &MachineClassSpec, cluster: &Cluster) -> Vec<String> {
    let mut problems = Vec::new();
    let vcpus = if cluster.spec.virtual_time { 1 } else { CONTROL_PLANE_VCPUS };
    if spec.vcpus < vcpus {
        problems.push(format!(
            "class {class} has {} vCPU, and kubeadm refuses control planes with less than {vcpus}",
            spec.vcpus
        ));
    }
    if spec.memory < CONTROL_PLANE_MEMORY {
        problems.push(format!(
            "class {class} has {} of memory, and kubeadm refuses control planes with less than {CONTROL_PLANE_MEMORY}",
            spec.memory
        ));
    }
    problems
}

/// What keeps a class from being used by any machine of a cluster.
pub(super) fn machine_problems(class: &str, spec: &MachineClassSpec, cluster: &Cluster) -> Option<String> {
    (cluster.spec.virtual_time && spec.vcpus > 1).then(|| {
        format!(
            "class {class} has {} vCPUs, and virtualTime works with one only (QEMU counts the instructions of one)",
            spec.vcpus
        )
    })
}
