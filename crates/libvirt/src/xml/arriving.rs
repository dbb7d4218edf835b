//! A domain as it arrives from another host: the very machine that runs there, bound to what is here.
//!
//! It is made of what runs, and not of what we would write: libvirt compares both, device by device with their
//! addresses, and the processor with what it became at the start.

use ashlar_plan::DomainSpec;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

use super::write::{Document, check};
use super::{Element, XmlError};

const KIND: &str = "domain that is to move";
/// What a host decides: it is written anew.
const OURS: [&str; 6] = ["metadata", "vcpu", "iothreads", "cputune", "numatune", "memoryBacking"];

/// What takes the place of a device's own.
#[derive(Clone, Default)]
struct Device {
    source: Option<String>,
    backing: Option<String>,
    target: Option<String>,
}

/// XML of the domain whose running XML (`VIR_DOMAIN_XML_MIGRATABLE`) is given, with the files, bridges, threads and
/// mark of the other host. `iothread` says whether its disks may have a thread of their own there.
pub fn arriving(live: &str, spec: &DomainSpec, iothread: bool) -> Result<String, XmlError> {
    let bad = |reason: String| XmlError::unreadable(KIND, reason);
    let root = Element::parse(KIND, live)?;
    let (mut disks, mut interfaces) = (disks(&root, spec)?.into_iter(), interfaces(&root, spec)?.into_iter());
    if root.child("metadata").is_none() || root.child("vcpu").is_none() {
        return Err(bad("it has no mark of Ashlar's".to_owned()));
    }
    let mut reader = Reader::from_str(live);
    let mut writer = Writer::new(Vec::new());
    let mut path: Vec<String> = Vec::new();
    let mut device = Device::default();
    let mut in_scsi = None;
    loop {
        let event = reader.read_event().map_err(|error| bad(error.to_string()))?;
        match event {
            Event::Eof => break,
            Event::Start(start) => {
                path.push(name(&start));
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                if let ["domain", child] = *names.as_slice()
                    && OURS.contains(&child)
                {
                    reader.read_to_end(start.name()).map_err(|error| bad(error.to_string()))?;
                    emit(&mut writer, Event::Text(BytesText::from_escaped(ours(child, spec)?)));
                    path.pop();
                    continue;
                }
                let text = match *names.as_slice() {
                    ["domain", "os", "kernel"] => Some(&spec.kernel_path),
                    ["domain", "os", "initrd"] => Some(&spec.initrd_path),
                    ["domain", "devices", "disk"] => {
                        device = disks.next().unwrap_or_default();
                        None
                    }
                    ["domain", "devices", "interface"] => {
                        device = interfaces.next().unwrap_or_default();
                        None
                    }
                    _ => None,
                };
                if let Some(text) = text {
                    check("path", text)?;
                    reader.read_to_end(start.name()).map_err(|error| bad(error.to_string()))?;
                    let end = name(&start);
                    emit(&mut writer, Event::Start(start));
                    emit(&mut writer, Event::Text(BytesText::new(text)));
                    emit(&mut writer, Event::End(BytesEnd::new(end)));
                    path.pop();
                    continue;
                }
                let own_driver = is_scsi_controller(&start, &names);
                let start = placed(start, &names, &device)?;
                emit(&mut writer, Event::Start(start));
                if own_driver {
                    let mut driver = Document::new();
                    super::domain::scsi_driver(&mut driver, spec, iothread)?;
                    let driver = driver.finish().trim_end().to_owned();
                    emit(&mut writer, Event::Text(BytesText::from_escaped(driver)));
                    in_scsi = Some(path.len());
                }
            }
            Event::Empty(start) => {
                let own = name(&start);
                let mut names: Vec<&str> = path.iter().map(String::as_str).collect();
                names.push(&own);
                let driver = in_scsi == Some(path.len()) && own == "driver";
                if !driver && !matches!(*names.as_slice(), ["domain", child] if OURS.contains(&child)) {
                    let start = placed(start, &names, &device)?;
                    emit(&mut writer, Event::Empty(start));
                }
            }
            Event::End(end) => {
                in_scsi = in_scsi.filter(|depth| *depth < path.len());
                path.pop();
                emit(&mut writer, Event::End(end));
            }
            other => emit(&mut writer, other),
        }
    }
    String::from_utf8(writer.into_inner()).map_err(|error| bad(error.to_string()))
}

fn emit(writer: &mut Writer<Vec<u8>>, event: Event<'_>) {
    // A Vec takes every write.
    let _ = writer.write_event(event);
}

fn name(start: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(start.name().as_ref()).into_owned()
}

fn is_scsi_controller(start: &BytesStart<'_>, path: &[&str]) -> bool {
    path == ["domain", "devices", "controller"]
        && start.try_get_attribute("type").ok().flatten().is_some_and(|kind| &*kind.value == b"scsi")
}

/// What stands in the place of a child of the domain.
fn ours(child: &str, spec: &DomainSpec) -> Result<String, XmlError> {
    let mut document = Document::new();
    match child {
        "metadata" => document.nest("metadata", &[], |metadata| super::domain::mark(metadata, spec))?,
        // All that binds it, in the place of one: each of the others is left out.
        "vcpu" => super::binding::write(&mut document, spec)?,
        _ => return Ok(String::new()),
    }
    Ok(document.finish().trim_end().to_owned())
}

/// An element with the attribute of the other host, where it has one.
fn placed(start: BytesStart<'_>, path: &[&str], device: &Device) -> Result<BytesStart<'static>, XmlError> {
    let (key, value) = match path {
        ["domain", "devices", "disk", "source"] => ("file", &device.source),
        ["domain", "devices", "disk", "backingStore", "source"] => ("file", &device.backing),
        ["domain", "devices", "interface", "source"] => ("bridge", &device.source),
        ["domain", "devices", "interface", "target"] => ("dev", &device.target),
        _ => return Ok(start.into_owned()),
    };
    let Some(value) = value else { return Ok(start.into_owned()) };
    check("path", value)?;
    let mut changed = BytesStart::new(name(&start));
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| XmlError::unreadable(KIND, error.to_string()))?;
        if attribute.key.as_ref() == key.as_bytes() {
            changed.push_attribute((key, value.as_str()));
        } else {
            changed.push_attribute(attribute);
        }
    }
    Ok(changed)
}

/// Files of its disks and drives on the other host, in the order of the document.
fn disks(root: &Element, spec: &DomainSpec) -> Result<Vec<Device>, XmlError> {
    let bad = |reason: String| XmlError::unreadable(KIND, reason);
    let mut found = Vec::new();
    let mut count = 0;
    for disk in root.path(&["devices"]).iter().flat_map(|devices| devices.all("disk")) {
        let target = disk.child("target").and_then(|target| target.attribute("dev")).unwrap_or_default();
        let layers = layers(disk);
        if disk.attribute("device") == Some("cdrom") {
            if layers > 0 && spec.seed_path.is_none() {
                return Err(bad(format!(
                    "its drive {target} holds a medium, which is not on the other host"
                )));
            }
            found.push(Device { source: spec.seed_path.clone(), ..Device::default() });
            continue;
        }
        let wanted = spec.disks.iter().enumerate().find(|(index, _)| super::domain::target(*index) == target);
        let Some((_, wanted)) = wanted else {
            return Err(bad(format!("its disk {target} is not one that Ashlar gave it")));
        };
        let expected = if wanted.backing_path.is_some() { 2 } else { 1 };
        if layers != expected {
            return Err(bad(format!(
                "its disk {target} stands on {layers} files instead of {expected}: does it have a snapshot?"
            )));
        }
        count += 1;
        found.push(Device {
            source: Some(wanted.path.clone()),
            backing: wanted.backing_path.clone(),
            target: None,
        });
    }
    if count != spec.disks.len() {
        return Err(bad(format!("it has {count} disks instead of {}", spec.disks.len())));
    }
    Ok(found)
}

/// Files that a disk is made of: its own, and those below it.
fn layers(disk: &Element) -> usize {
    let mut layers = 0;
    let mut below = Some(disk);
    while let Some(layer) = below.filter(|layer| layer.child("source").is_some()) {
        layers += 1;
        below = layer.child("backingStore");
    }
    layers
}

fn interfaces(root: &Element, spec: &DomainSpec) -> Result<Vec<Device>, XmlError> {
    let bad = |reason: String| XmlError::unreadable(KIND, reason);
    let mut found = Vec::new();
    for interface in root.path(&["devices"]).iter().flat_map(|devices| devices.all("interface")) {
        let mac = interface.child("mac").and_then(|mac| mac.attribute("address")).unwrap_or_default();
        let Some(nic) = spec.nics.iter().find(|nic| nic.mac.eq_ignore_ascii_case(mac)) else {
            return Err(bad(format!("its network card {mac} is not one that Ashlar gave it")));
        };
        found.push(Device { source: Some(nic.bridge.clone()), backing: None, target: Some(nic.tap.clone()) });
    }
    if found.len() != spec.nics.len() {
        return Err(bad(format!("it has {} network cards instead of {}", found.len(), spec.nics.len())));
    }
    Ok(found)
}
