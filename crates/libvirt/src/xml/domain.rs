//! Domains: Kubernetes nodes, and the probe that proves an accelerator.

use ashlar_api::{Accelerator, DomainIdentity, NumaCell, VolumeFormat};
use ashlar_engine::effects::probe_name;
use ashlar_plan::DomainSpec;
use ashlar_plan::domain::{DomainDisk, DomainNic, disk_cache, format_name};
use uuid::Uuid;

use super::write::Document;
use super::{FILTER_NAME, MARK_NAMESPACE, XmlError};

const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Target of the CD-ROM drive. libvirt derives the drive's address from it, seven units a controller: the eighth
/// letter on would make it add controllers of its own choice, for which a lean guest has no driver.
const CDROM_TARGET: &str = "sdg";
/// More queues cost 64 KiB of kernel memory each, and bring nothing to a node.
const MAX_QUEUES: u32 = 8;

/// Where a domain's serial console is written on its host. The name holds a part of the UUID: a later domain of the
/// same name must not be taken to have said what this one said.
pub fn console_log_path(domain: &DomainIdentity) -> String {
    let uuid = domain.uuid.simple().to_string();
    format!("/var/log/libvirt/qemu/{}-{}.console.log", domain.name, &uuid[..8])
}

/// XML of a node's domain.
pub fn domain(spec: &DomainSpec) -> Result<String, XmlError> {
    let identity = DomainIdentity { uuid: spec.uuid, name: spec.name.clone() };
    let mut document = Document::new();
    let mut root = vec![("type", type_name(spec.accelerator))];
    if spec.virtual_time {
        root.push(("xmlns:qemu", QEMU_NAMESPACE));
    }
    document.nest("domain", &root, |domain| {
        domain.text("name", &[], "domain name", &spec.name)?;
        domain.text("uuid", &[], "uuid", &spec.uuid.to_string())?;
        domain.nest("metadata", &[], |metadata| mark(metadata, spec))?;
        hardware(domain, spec)?;
        domain.nest("devices", &[], |devices| {
            for (index, disk) in spec.disks.iter().enumerate() {
                write_disk(devices, index, disk, spec.accelerator)?;
            }
            write_cdrom(devices, spec.seed_path.as_deref())?;
            let queues = queues(spec);
            devices.nest(
                "controller",
                &[("type", "scsi"), ("index", "0"), ("model", "virtio-scsi")],
                |it| scsi_driver(it, spec, true),
            )?;
            for nic in &spec.nics {
                write_nic(devices, nic, queues.as_deref())?;
            }
            devices.nest("channel", &[("type", "unix")], |channel| {
                channel.empty("target", &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")])
            })?;
            devices.empty("memballoon", &[("model", "virtio"), ("freePageReporting", "on")])?;
            common_devices(devices, &identity)
        })?;
        if spec.virtual_time {
            domain.nest("qemu:commandline", &[], |commandline| {
                commandline.empty("qemu:arg", &[("value", "-icount")])?;
                commandline.empty("qemu:arg", &[("value", "shift=1,sleep=on")])
            })?;
        }
        Ok(())
    })?;
    Ok(document.finish())
}

/// XML of a transient domain without disks and networks, whose kernel and initrd mark the console and power off.
pub fn probe(
    domain_uuid: Uuid,
    accelerator: Accelerator,
    kernel_path: &str,
    initrd_path: &str,
) -> Result<String, XmlError> {
    let name = probe_name(domain_uuid);
    let mut document = Document::new();
    document.nest("domain", &[("type", type_name(accelerator))], |domain| {
        domain.text("name", &[], "domain name", &name)?;
        domain.text("uuid", &[], "uuid", &domain_uuid.to_string())?;
        domain.text("memory", &[("unit", "MiB")], "memory", "256")?;
        domain.text("vcpu", &[], "vcpus", "1")?;
        boot(domain, "q35", kernel_path, initrd_path, "console=ttyS0 ashlar.probe panic=-1")?;
        cpu(domain, accelerator, 1, &[])?;
        ends(domain)?;
        domain.nest("devices", &[], |devices| {
            common_devices(devices, &DomainIdentity { uuid: domain_uuid, name: name.clone() })
        })
    })?;
    Ok(document.finish())
}

/// XML of the CD-ROM drive alone, with or without a medium: what an update of the device is told.
pub fn cdrom(medium_path: Option<&str>) -> Result<String, XmlError> {
    let mut document = Document::new();
    write_cdrom(&mut document, medium_path)?;
    Ok(document.finish())
}

fn type_name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Emulated => "qemu",
    }
}

pub(super) fn mark(metadata: &mut Document, spec: &DomainSpec) -> Result<(), XmlError> {
    let mark = &spec.mark;
    let attributes = [
        ("xmlns:ashlar", MARK_NAMESPACE),
        ("installation", &*mark.installation.to_string()),
        ("machine", &*mark.machine_uid.to_string()),
        ("generation", &*mark.generation.to_string()),
    ];
    match &mark.machine {
        Some(machine) => metadata.text("ashlar:domain", &attributes, "machine", &ascii_json(machine)?),
        None => metadata.empty("ashlar:domain", &attributes),
    }
}

/// JSON in ASCII only: XML cannot write every character that a label may hold, JSON's escapes can.
fn ascii_json(machine: &ashlar_api::Machine) -> Result<String, XmlError> {
    let json =
        serde_json::to_string(machine).map_err(|error| XmlError::unreadable("machine", error.to_string()))?;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(text)
}

/// Memory, processors, boot, clock, and what happens at the end.
fn hardware(domain: &mut Document, spec: &DomainSpec) -> Result<(), XmlError> {
    domain.text("memory", &[("unit", "MiB")], "memory", &spec.memory_mib.to_string())?;
    super::binding::write(domain, spec)?;
    boot(domain, &spec.machine_type, &spec.kernel_path, &spec.initrd_path, &spec.command_line)?;
    cpu(domain, spec.accelerator, spec.vcpus, &spec.binding.numa)?;
    ends(domain)
}

fn boot(
    domain: &mut Document,
    machine_type: &str,
    kernel_path: &str,
    initrd_path: &str,
    command_line: &str,
) -> Result<(), XmlError> {
    domain.nest("os", &[], |os| {
        os.text("type", &[("arch", "x86_64"), ("machine", machine_type)], "os type", "hvm")?;
        os.text("kernel", &[], "kernel path", kernel_path)?;
        os.text("initrd", &[], "initrd path", initrd_path)?;
        os.text("cmdline", &[], "kernel command line", command_line)
    })?;
    domain.nest("features", &[], |features| {
        features.empty("acpi", &[])?;
        features.empty("apic", &[])
    })
}

fn cpu(
    domain: &mut Document,
    accelerator: Accelerator,
    vcpus: u32,
    numa: &[NumaCell],
) -> Result<(), XmlError> {
    let cores = vcpus.to_string();
    let mode: &[(&str, &str)] = match accelerator {
        Accelerator::Kvm => &[("mode", "host-model"), ("check", "partial")],
        Accelerator::Emulated => &[("mode", "maximum"), ("check", "none")],
    };
    domain.nest("cpu", mode, |cpu| {
        cpu.empty("topology", &[("sockets", "1"), ("dies", "1"), ("cores", &cores), ("threads", "1")])?;
        super::binding::write_guest_nodes(cpu, numa)
    })?;
    domain.nest("clock", &[("offset", "utc")], |clock| {
        if accelerator == Accelerator::Kvm {
            clock.empty("timer", &[("name", "rtc"), ("tickpolicy", "catchup")])?;
            clock.empty("timer", &[("name", "pit"), ("tickpolicy", "delay")])?;
        }
        // Under emulation Linux takes the HPET for its clock where there is one, and every reading of the time
        // becomes an emulated device access.
        clock.empty("timer", &[("name", "hpet"), ("present", "no")])
    })
}

/// A crashed node stays off: whether and when it is started again is the engine's decision, and a kernel that panics
/// at boot would otherwise fill the console log for ever.
fn ends(domain: &mut Document) -> Result<(), XmlError> {
    domain.text("on_poweroff", &[], "action", "destroy")?;
    domain.text("on_reboot", &[], "action", "restart")?;
    domain.text("on_crash", &[], "action", "destroy")
}

/// How the disks' controller does its work. The guest sees nothing of the thread.
pub(super) fn scsi_driver(
    controller: &mut Document,
    spec: &DomainSpec,
    iothread: bool,
) -> Result<(), XmlError> {
    let queues = queues(spec);
    let mut driver = Vec::new();
    if iothread {
        driver.push(("iothread", "1"));
    }
    driver.extend(queues.as_deref().map(|queues| ("queues", queues)));
    if driver.is_empty() {
        // QEMU's default. libvirt drops an empty element, and then takes the controller for another one.
        driver.push(("ioeventfd", "on"));
    }
    controller.empty("driver", &driver)
}

fn queues(spec: &DomainSpec) -> Option<String> {
    let queues = spec.vcpus.min(MAX_QUEUES);
    (spec.accelerator == Accelerator::Kvm && queues > 1).then(|| queues.to_string())
}

/// Target of the disk at that place.
pub(super) fn target(index: usize) -> String {
    format!("sd{}", char::from(b'a' + u8::try_from(index.min(13)).unwrap_or(13)))
}

fn write_disk(
    devices: &mut Document,
    index: usize,
    disk: &DomainDisk,
    accelerator: Accelerator,
) -> Result<(), XmlError> {
    let io = match accelerator {
        Accelerator::Kvm => "native",
        Accelerator::Emulated => "threads",
    };
    let cache = disk_cache(accelerator);
    let format = format_name(disk.format);
    let target = target(index);
    devices.nest("disk", &[("type", "file"), ("device", "disk")], |it| {
        it.empty(
            "driver",
            &[("name", "qemu"), ("type", format), ("cache", cache), ("io", io), ("discard", "unmap")],
        )?;
        it.empty("source", &[("file", &disk.path)])?;
        match &disk.backing_path {
            Some(backing) => it.nest("backingStore", &[("type", "file")], |store| {
                store.empty("format", &[("type", format_name(VolumeFormat::Qcow2))])?;
                store.empty("source", &[("file", backing)])?;
                store.empty("backingStore", &[])
            })?,
            // Empty: nothing is probed.
            None => it.empty("backingStore", &[])?,
        }
        it.empty("target", &[("dev", &target), ("bus", "scsi")])?;
        it.text("serial", &[], "disk serial", &disk.serial)
    })
}

fn write_cdrom(devices: &mut Document, medium_path: Option<&str>) -> Result<(), XmlError> {
    devices.nest("disk", &[("type", "file"), ("device", "cdrom")], |disk| {
        disk.empty("driver", &[("name", "qemu"), ("type", "raw")])?;
        if let Some(path) = medium_path {
            disk.empty("source", &[("file", path)])?;
        }
        disk.empty("target", &[("dev", CDROM_TARGET), ("bus", "scsi")])?;
        disk.empty("readonly", &[])
    })
}

fn write_nic(devices: &mut Document, nic: &DomainNic, queues: Option<&str>) -> Result<(), XmlError> {
    devices.nest("interface", &[("type", "bridge")], |interface| {
        interface.empty("mac", &[("address", &nic.mac)])?;
        interface.empty("source", &[("bridge", &nic.bridge)])?;
        if let Some(vlan) = nic.vlan {
            if vlan.open_vswitch {
                interface.empty("virtualport", &[("type", "openvswitch")])?;
            }
            // Always said: Open vSwitch takes a port without tags for a trunk of all VLANs.
            interface.nest("vlan", &[], |it| it.empty("tag", &[("id", &vlan.tag.to_string())]))?;
        }
        // A name of ours, so that the filter can be there before the tap is.
        interface.empty("target", &[("dev", &nic.tap)])?;
        interface.empty("model", &[("type", "virtio")])?;
        if let Some(queues) = queues {
            interface.empty("driver", &[("queues", queues)])?;
        }
        interface.empty("mtu", &[("size", &nic.mtu.to_string())])?;
        interface.empty("filterref", &[("filter", FILTER_NAME)])
    })
}

/// Console, entropy, panic; no USB, no screen.
fn common_devices(devices: &mut Document, domain: &DomainIdentity) -> Result<(), XmlError> {
    let log = console_log_path(domain);
    devices.empty("controller", &[("type", "usb"), ("index", "0"), ("model", "none")])?;
    devices.nest("serial", &[("type", "pty")], |serial| {
        serial.empty("log", &[("file", &log), ("append", "on")])?;
        serial.empty("target", &[("port", "0")])
    })?;
    devices.nest("console", &[("type", "pty")], |console| {
        console.empty("log", &[("file", &log), ("append", "on")])?;
        console.empty("target", &[("type", "serial"), ("port", "0")])
    })?;
    devices.nest("rng", &[("model", "virtio")], |rng| {
        rng.text("backend", &[("model", "random")], "entropy source", "/dev/urandom")
    })?;
    devices.nest("video", &[], |video| video.empty("model", &[("type", "none")]))?;
    devices.empty("panic", &[("model", "isa")])
}
