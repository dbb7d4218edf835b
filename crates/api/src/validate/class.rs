//! Machine classes.

use super::Report;
use crate::{Cluster, CpuPolicy, MachineClassSpec, Mebibytes};

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
    check_numa(report, spec);
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

/// The most NUMA nodes that any board has.
const MOST_NUMA_NODES: u32 = 64;

/// Each NUMA node gets an equal and whole part.
fn check_numa(report: &mut Report<'_>, spec: &MachineClassSpec) {
    if let Some(nodes) = spec.numa_nodes {
        if !(1..=MOST_NUMA_NODES).contains(&nodes) {
            report.add("spec.numaNodes", format!("{nodes} is outside of 1 to {MOST_NUMA_NODES}"));
            return;
        }
        if spec.cpu_policy == CpuPolicy::Shared && spec.hugepages.is_none() {
            let message = "binds nothing: machines that share CPUs and have ordinary memory float over their host; set \
                           `cpuPolicy: dedicated` or `hugepages`, or leave it out";
            report.add("spec.numaNodes", message);
        }
        if !spec.vcpus.is_multiple_of(nodes) {
            let message = format!(
                "{} vCPUs cannot be split evenly over {nodes} NUMA nodes: use a multiple of {nodes}",
                spec.vcpus
            );
            report.add("spec.vcpus", message);
        }
        if !spec.memory.0.is_multiple_of(u64::from(nodes)) {
            let message = format!("{} cannot be split evenly over {nodes} NUMA nodes", spec.memory);
            report.add("spec.memory", message);
        }
    }
    let nodes = u64::from(spec.numa_nodes.unwrap_or(1).max(1));
    if let Some(size) = spec.hugepages
        && spec.memory.0.is_multiple_of(nodes)
        && !(spec.memory.0 / nodes).is_multiple_of(size.mib())
    {
        let part = Mebibytes(spec.memory.0 / nodes);
        let message = if nodes == 1 {
            format!("{part} is not a whole number of huge pages of {size}")
        } else {
            format!("{part} on each of {nodes} NUMA nodes is not a whole number of huge pages of {size}")
        };
        report.add("spec.memory", message);
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
