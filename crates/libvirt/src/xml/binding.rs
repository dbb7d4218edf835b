//! What of its host a domain is bound to: threads, NUMA nodes, huge pages.

use ashlar_api::NumaCell;
use ashlar_plan::DomainSpec;

use super::XmlError;
use super::write::Document;

/// Memory backing, vCPUs with the threads that they run on, and the NUMA nodes that memory comes from.
pub(super) fn write(domain: &mut Document, spec: &DomainSpec) -> Result<(), XmlError> {
    let binding = &spec.binding;
    if let Some(size) = binding.hugepages {
        let kib = (size.mib() * 1024).to_string();
        domain.nest("memoryBacking", &[], |backing| {
            backing.nest("hugepages", &[], |pages| pages.empty("page", &[("size", &kib), ("unit", "KiB")]))
        })?;
    }
    let shared = binding.shared_cpus.to_string();
    let mut vcpu = vec![("placement", "static")];
    if !shared.is_empty() {
        vcpu.push(("cpuset", &shared));
    }
    domain.text("vcpu", &vcpu, "vcpus", &spec.vcpus.to_string())?;
    domain.text("iothreads", &[], "iothreads", "1")?;
    let own: Vec<u32> = binding.numa.iter().flat_map(|cell| cell.cpus.0.iter().copied()).collect();
    if !own.is_empty() {
        domain.nest("cputune", &[], |tune| {
            for (vcpu, thread) in own.iter().enumerate() {
                tune.empty("vcpupin", &[("vcpu", &vcpu.to_string()), ("cpuset", &thread.to_string())])?;
            }
            if !shared.is_empty() {
                tune.empty("emulatorpin", &[("cpuset", &shared)])?;
                tune.empty("iothreadpin", &[("iothread", "1"), ("cpuset", &shared)])?;
            }
            Ok(())
        })?;
    }
    if binding.numa.is_empty() {
        return Ok(());
    }
    // Huge pages are counted by node, and are there. Ordinary memory may have gone to machines that float, and then
    // another node's is better than none.
    let mode = if binding.hugepages.is_some() { "strict" } else { "preferred" };
    let nodes: Vec<String> = binding.numa.iter().map(|cell| cell.host_node.to_string()).collect();
    domain.nest("numatune", &[], |tune| {
        if let [node] = nodes.as_slice() {
            return tune.empty("memory", &[("mode", mode), ("nodeset", node)]);
        }
        for (cell, node) in nodes.iter().enumerate() {
            tune.empty("memnode", &[("cellid", &cell.to_string()), ("mode", mode), ("nodeset", node)])?;
        }
        Ok(())
    })
}

/// The guest's own NUMA nodes, one for each of the host's; a guest on one node needs none.
pub(super) fn write_guest_nodes(cpu: &mut Document, numa: &[NumaCell]) -> Result<(), XmlError> {
    if numa.len() < 2 {
        return Ok(());
    }
    cpu.nest("numa", &[], |nodes| {
        let mut first = 0;
        for (number, cell) in numa.iter().enumerate() {
            let last = first + cell.vcpus.saturating_sub(1);
            let cpus = if first == last { first.to_string() } else { format!("{first}-{last}") };
            first = last + 1;
            let (id, memory) = (number.to_string(), cell.memory.0.to_string());
            nodes.empty("cell", &[("id", &id), ("cpus", &cpus), ("memory", &memory), ("unit", "MiB")])?;
        }
        Ok(())
    })
}
