//! A domain as it arrives from another host: libvirt's own text of one that runs (Debian 12), with what the other host has.

#![allow(clippy::unwrap_used, reason = "tests")]

mod specs;

use ashlar_api::{Mebibytes, NumaCell};
use ashlar_libvirt::xml;
use ashlar_plan::DomainSpec;

const LIVE: &str = include_str!("fixtures/domain-migratable.xml");

/// What the one that runs is to be on the other host.
fn spec() -> DomainSpec {
    let mut spec = specs::control_plane();
    spec.accelerator = ashlar_api::Accelerator::Emulated;
    spec.vcpus = 1;
    spec.kernel_path = "/pool/ashlar-01-kernel.raw".to_owned();
    spec.initrd_path = "/pool/ashlar-01-initrd.raw".to_owned();
    spec.disks[0].path = "/pool/root <&> there.qcow2".to_owned();
    spec.disks[0].backing_path = Some("/pool/image.qcow2".to_owned());
    spec.disks[1].path = "/pool/etcd.raw".to_owned();
    spec.seed_path = None;
    spec.nics[0].mac = "52:54:00:A5:01:01".to_owned();
    spec.nics[0].bridge = "br-there".to_owned();
    spec.nics[0].tap = "as-there".to_owned();
    spec.mark.machine = None;
    spec
}

/// Lines that one has and the other has not.
fn changes(live: &str, arriving: &str) -> String {
    let trimmed = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let (old, new) = (trimmed(live), trimmed(arriving));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let added = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(added).collect::<Vec<_>>().join("\n")
}

#[test]
fn files_bridge_and_mark_are_the_other_hosts_and_nothing_else_changes() {
    let arriving = xml::arriving(LIVE, &spec(), true).unwrap();
    insta::assert_snapshot!(changes(LIVE, &arriving));
    let seen = xml::domain_seen(&arriving).unwrap();
    assert_eq!(seen.mark, Some(spec().mark));
    assert_eq!(seen.disk_paths, spec().disks.into_iter().map(|disk| disk.path).collect());
    // Both ways are the same way.
    assert_eq!(changes(&arriving, &xml::arriving(&arriving, &spec(), true).unwrap()), "");
}

#[test]
fn a_disks_thread_is_left_out_and_comes_back() {
    let without = xml::arriving(LIVE, &spec(), false).unwrap();
    assert!(!without.contains("iothread=") && without.contains("<iothreads>1</iothreads>"), "{without}");
    assert!(without.contains("<driver ioeventfd=\"on\"/>"), "{without}");
    let with = xml::arriving(&without, &spec(), true).unwrap();
    assert_eq!(changes(&with, &xml::arriving(LIVE, &spec(), true).unwrap()), "");
    // libvirt leaves out what says nothing.
    let bare = without.replace("<driver ioeventfd=\"on\"/>", "");
    assert!(xml::arriving(&bare, &spec(), true).unwrap().contains("<driver iothread=\"1\"/>"));
}

#[test]
fn it_is_bound_to_the_other_hosts_threads() {
    let cell =
        |cpus: &str| NumaCell { host_node: 1, vcpus: 1, memory: Mebibytes(128), cpus: cpus.parse().unwrap() };
    let mut here = spec();
    here.binding.numa = vec![cell("4")];
    let live = xml::arriving(LIVE, &here, true).unwrap();
    assert!(live.contains("<vcpupin vcpu=\"0\" cpuset=\"4\"/>"), "{live}");
    let mut there = spec();
    there.binding.numa = vec![cell("9")];
    there.binding.shared_cpus = "0-3".parse().unwrap();
    let arriving = xml::arriving(&live, &there, true).unwrap();
    insta::assert_snapshot!(changes(&live, &arriving));
    assert_eq!(arriving.matches("<cputune>").count(), 1);
    assert_eq!(
        changes(&xml::arriving(&arriving, &spec(), true).unwrap(), &live).matches("cputune").count(),
        2
    );
}

#[test]
fn what_ashlar_did_not_give_it_does_not_move() {
    let refused = |live: &str| xml::arriving(live, &spec(), true).unwrap_err().to_string();
    let snapshot = LIVE.replacen(
        "<backingStore/>",
        "<backingStore type='file'><format type='qcow2'/><source file='/pool/base'/></backingStore>",
        1,
    );
    assert!(refused(&snapshot).contains("sda stands on 3 files instead of 2"), "{}", refused(&snapshot));
    let medium = LIVE.replace("<target dev='sdg'", "<source file='/pool/seed.iso'/><target dev='sdg'");
    assert!(refused(&medium).contains("sdg holds a medium"), "{}", refused(&medium));
    let disk = LIVE.replace("<target dev='sdb'", "<target dev='vdb'");
    assert!(refused(&disk).contains("vdb is not one that Ashlar gave it"), "{}", refused(&disk));
    let card = LIVE.replace("52:54:00:a5:01:01", "52:54:00:a5:01:02");
    assert!(refused(&card).contains("52:54:00:a5:01:02 is not one that"), "{}", refused(&card));
    let mut more = spec();
    more.nics.clear();
    assert!(xml::arriving(LIVE, &more, true).is_err());
    let mut more = spec();
    more.disks.push(more.disks[1].clone());
    assert!(xml::arriving(LIVE, &more, true).unwrap_err().to_string().contains("2 disks instead of 3"));
}
