//! The XML that is written, as golden files, and the XML that is read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod specs;

use ashlar_api::{Accelerator, DomainIdentity, HugepageSize, Mebibytes, NumaCell, VolumeFormat};
use ashlar_engine::effects::VolumeCreate;
use ashlar_libvirt::xml;
use ashlar_plan::DomainSpec;
use proptest::prelude::*;
use specs::{INSTALLATION, control_plane, machine, worker};
use uuid::uuid;

#[test]
fn a_control_plane_under_kvm() {
    insta::assert_snapshot!(xml::domain(&control_plane()).unwrap());
}

#[test]
fn a_worker_under_emulation_without_its_seed() {
    insta::assert_snapshot!(xml::domain(&worker()).unwrap());
}

#[test]
fn a_machine_bound_to_two_numa_nodes() {
    let mut spec = control_plane();
    let cell = |host_node, cpus: &str| NumaCell {
        host_node,
        vcpus: 2,
        memory: Mebibytes::from_gib(4),
        cpus: cpus.parse().unwrap(),
    };
    spec.binding.numa = vec![cell(0, "4-5"), cell(1, "12,14")];
    spec.binding.hugepages = Some(HugepageSize::Gib1);
    spec.binding.shared_cpus = "0-3,8-11".parse().unwrap();
    insta::assert_snapshot!(lines_that_differ(&spec));

    spec.binding.numa = vec![cell(1, "")];
    spec.binding.hugepages = None;
    insta::assert_snapshot!("a_machine_bound_to_one_numa_node", lines_that_differ(&spec));
}

/// Lines that an unbound machine's domain does not have.
fn lines_that_differ(spec: &DomainSpec) -> String {
    let plain = xml::domain(&control_plane()).unwrap();
    let bound = xml::domain(spec).unwrap();
    let has: Vec<&str> = plain.lines().collect();
    bound.lines().filter(|line| !has.contains(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn virtual_time_is_one_processor_and_counted_instructions() {
    let mut spec = worker();
    spec.virtual_time = true;
    let text = xml::domain(&spec).unwrap();
    let plain = xml::domain(&worker()).unwrap();
    let added: Vec<&str> = text.lines().filter(|line| !plain.contains(line)).collect();
    insta::assert_snapshot!(added.join("\n"), @r#"
    <domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
      <qemu:commandline>
        <qemu:arg value="-icount"/>
        <qemu:arg value="shift=1,sleep=on"/>
      </qemu:commandline>
    "#);
}

#[test]
fn the_probe() {
    let uuid = uuid!("00000000-0000-4000-8000-00000000000f");
    insta::assert_snapshot!(
        xml::probe(uuid, Accelerator::Kvm, "/pool/vmlinuz.raw", "/pool/initrd.raw").unwrap()
    );
}

#[test]
fn the_filter() {
    insta::assert_snapshot!(xml::filter().unwrap());
}

#[test]
fn volumes() {
    let root = VolumeCreate {
        pool: INSTALLATION,
        file_name: "ashlar-demo-ctrl-1-root-x.qcow2".to_owned(),
        format: VolumeFormat::Qcow2,
        capacity_bytes: 20 << 30,
        preallocate: false,
        backing_path: Some("/pool/ashlar-0123-disk-x.qcow2".to_owned()),
    };
    let etcd = VolumeCreate {
        file_name: "ashlar-demo-ctrl-1-etcd-x.raw".to_owned(),
        format: VolumeFormat::Raw,
        capacity_bytes: 8 << 30,
        preallocate: true,
        backing_path: None,
        ..root.clone()
    };
    let seed = VolumeCreate {
        file_name: "ashlar-demo-ctrl-1-seed-x.iso".to_owned(),
        format: VolumeFormat::Iso,
        capacity_bytes: 380_928,
        preallocate: false,
        ..etcd.clone()
    };
    let all = [root, etcd, seed].map(|volume| xml::volume(&volume).unwrap());
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_written_is_what_is_read() {
    let spec = control_plane();
    let seen = xml::domain_seen(&xml::domain(&spec).unwrap()).unwrap();
    assert_eq!((seen.uuid, &seen.name), (spec.uuid, &spec.name));
    assert_eq!(seen.mark, Some(spec.mark));
    assert_eq!(seen.disk_paths, spec.disks.iter().map(|disk| disk.path.clone()).collect());
    assert_eq!(seen.medium_path, spec.seed_path);
}

#[test]
fn a_mark_is_ours_by_its_namespace_and_only_whole() {
    let foreign = "<domain><name>a</name><uuid>00000000-0000-4000-8000-000000000001</uuid><metadata>\
        <x:domain xmlns:x='https://example.org/1' installation='00000000-0000-4000-8000-000000000002' \
        machine='00000000-0000-4000-8000-000000000003' generation='1'/></metadata></domain>";
    assert_eq!(xml::domain_seen(foreign).unwrap().mark, None);
    let ours = foreign.replace("https://example.org/1", xml::MARK_NAMESPACE);
    let mark = xml::domain_seen(&ours).unwrap().mark.unwrap();
    assert_eq!((mark.generation, mark.machine.is_none()), (1, true));
    let broken = ours.replace("generation='1'", "generation='x'");
    assert_eq!(xml::domain_seen(&broken).unwrap().mark, None);
    // Written by a version that knows more: the identity stands all the same.
    let newer = ours.replace("generation='1'/>", "generation='1'>{\"new\":1}</x:domain>");
    assert_eq!(xml::domain_seen(&newer).unwrap().mark, Some(mark));
}

#[test]
fn capabilities_say_what_a_host_has() {
    let lab = xml::capabilities(include_str!("fixtures/capabilities-debian12.xml")).unwrap();
    assert_eq!(lab.machine_type.as_deref(), Some("pc-q35-7.2"));
    assert_eq!((lab.capacity.threads, lab.architecture.as_str()), (2, "x86_64"));
    assert!(lab.capacity.memory.0 > 1024 && lab.kvm_claimed);
    let numa = xml::capabilities(include_str!("fixtures/capabilities-numa.xml")).unwrap();
    assert_eq!((numa.capacity.threads, numa.capacity.cores, numa.capacity.sockets), (8, 4, 2));
    assert_eq!(numa.capacity.memory.0, 48 * 1024);
    assert_eq!(numa.capacity.numa[&1].memory.0, 32 * 1024);
    assert_eq!(numa.machine_type.as_deref(), Some("pc-q35-9.2"));
    assert_eq!(numa.capacity.numa[&0].cpus.to_string(), "0-1,4-5");
    assert_eq!(numa.capacity.numa[&1].hugepages, [(HugepageSize::Gib1, 8)].into());
}

#[test]
fn pools_are_read_in_bytes() {
    let text = "<pool type='dir'><name>images</name><uuid>00000000-0000-4000-8000-000000000001</uuid>\
        <capacity unit='bytes'>10737418240</capacity><allocation unit='bytes'>5</allocation>\
        <available unit='bytes'>1048576</available><source/><target><path>/var/lib/libvirt/images</path></target></pool>";
    let (uuid, seen) = xml::pool_seen(text).unwrap();
    assert_eq!(uuid, uuid!("00000000-0000-4000-8000-000000000001"));
    assert_eq!(
        (seen.capacity_mib, seen.available_mib, seen.path.as_str()),
        (10240, 1, "/var/lib/libvirt/images")
    );
    assert!(xml::pool_seen(&text.replace("unit='bytes'", "unit='KiB'")).is_err());
}

#[test]
fn documents_are_bounded_and_declare_no_entities() {
    let error = |text: &str| xml::Element::parse("domain", text).unwrap_err().to_string();
    let deep = "<a>".repeat(65) + &"</a>".repeat(65);
    insta::assert_snapshot!(error(&deep), @"libvirt sent XML of a domain that Ashlar cannot read: it is nested deeper than 64");
    insta::assert_snapshot!(error("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), @"libvirt sent XML of a domain that Ashlar cannot read: it has a document type declaration");
    insta::assert_snapshot!(error("<a>&b;</a>"), @"libvirt sent XML of a domain that Ashlar cannot read: it uses the entity &b;");
    insta::assert_snapshot!(error("<a><b></a>"), @"libvirt sent XML of a domain that Ashlar cannot read: ill-formed document: expected `</b>`, but `</a>` was found");
    insta::assert_snapshot!(error("<a>"), @"libvirt sent XML of a domain that Ashlar cannot read: it ends too early");
    insta::assert_snapshot!(error(""), @"libvirt sent XML of a domain that Ashlar cannot read: it ends too early");
    assert!(error(&format!("<a>{}</a>", " ".repeat(17 << 20))).contains("more than"));
}

#[test]
fn a_console_log_belongs_to_one_domain() {
    let domain = DomainIdentity {
        uuid: uuid!("12345678-0000-4000-8000-000000000001"),
        name: "demo-ctrl-1".to_owned(),
    };
    assert_eq!(xml::console_log_path(&domain), "/var/log/libvirt/qemu/demo-ctrl-1-12345678.console.log");
}

#[test]
fn texts_that_xml_would_change_are_refused() {
    for bad in ["a\nb", "a\u{0}b", "tab\t", "\u{1}", "\u{FFFE}", "\u{85}"] {
        let mut spec = worker();
        spec.disks[0].path = format!("/pool/{bad}");
        let error = xml::domain(&spec).unwrap_err();
        assert!(error.to_string().contains("cannot be written to libvirt"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_name_and_path_comes_back(
        name in "[^\\p{C}\u{2028}\u{2029}]{1,40}",
        path in "/[^\\p{C}\u{2028}\u{2029}]{0,80}",
        label in "\\PC{0,40}",
        any in any::<String>(),
    ) {
        let mut spec = control_plane();
        // libvirt's own text is read without what surrounds it, and a name never begins or ends with a space.
        prop_assume!(name.trim() == name);
        spec.name = name.clone();
        spec.disks[0].path = path.clone();
        let mut machine = machine();
        machine.metadata.labels.insert("label".to_owned(), label);
        machine.metadata.annotations.insert("any".to_owned(), any);
        spec.mark.machine = Some(std::sync::Arc::new(machine));
        let seen = xml::domain_seen(&xml::domain(&spec).unwrap()).unwrap();
        prop_assert_eq!(seen.name, name);
        prop_assert!(seen.disk_paths.contains(&path));
        prop_assert_eq!(seen.mark, Some(spec.mark));
    }

    #[test]
    fn no_document_makes_the_reader_panic(text in any::<String>(), tail in "[<>/a&;'\" !\\[\\]-]{0,60}") {
        let _ = xml::domain_seen(&text);
        let _ = xml::Element::parse("domain", &tail);
        let _ = xml::pool_seen(&format!("<pool>{tail}"));
    }
}

/// What is written is told back as it was meant, so that nothing of it shows as edited.
#[test]
fn a_definition_is_read_as_it_was_written() {
    let mut bound = control_plane();
    let cell = |host_node, cpus: &str| NumaCell {
        host_node,
        vcpus: 2,
        memory: Mebibytes::from_gib(4),
        cpus: cpus.parse().unwrap(),
    };
    bound.binding.numa = vec![cell(0, "4-5"), cell(1, "12,14")];
    bound.binding.hugepages = Some(HugepageSize::Gib1);
    bound.binding.shared_cpus = "0-3,8-11".parse().unwrap();
    let mut one_node = control_plane();
    one_node.binding.numa = vec![cell(1, "")];
    for spec in [control_plane(), worker(), bound, one_node] {
        let seen = xml::domain_seen(&xml::domain(&spec).unwrap()).unwrap();
        assert_eq!(seen.definition.as_deref(), Some(&ashlar_plan::Definition::of(&spec)));
    }
}

/// In libvirt's own words: KiB, vCPUs and memory that are there and not given, devices that came along.
#[test]
fn an_edited_definition_is_read_in_libvirts_own_words() {
    let text = xml::domain(&control_plane()).unwrap();
    let edited = text
        .replace(
            "<memory unit=\"MiB\">8192</memory>",
            "<memory unit='KiB'>8388608</memory><currentMemory unit='KiB'>4194304</currentMemory>",
        )
        .replace("placement=\"static\"", "placement='static' current='2'")
        .replace(
            "<devices>",
            "<devices><hostdev mode='subsystem' type='pci' managed='yes'/><input type='mouse' bus='ps2'/>",
        );
    assert_ne!(edited, text);
    let seen = xml::domain_seen(&edited).unwrap().definition.unwrap();
    let declared = ashlar_plan::Definition::of(&control_plane());
    assert_eq!(
        *seen,
        ashlar_plan::Definition {
            current_memory_kib: 4_194_304,
            current_vcpus: 2,
            devices: vec!["hostdev (pci)".to_owned()],
            ..declared
        }
    );
}
