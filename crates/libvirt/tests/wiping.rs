//! Disks that are overwritten before they are deleted, on real file systems and real libvirt. Needs root, and the busybox test image.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use ashlar_api::VolumeFormat;
use ashlar_engine::effects::{EffectErrorKind, HostShell, Hypervisor, VolumeCreate};
use common::{TestLab, place};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);
/// What a guest wrote, in each byte.
const PATTERN: u8 = 0x5a;

/// Where a file's bytes lie on the medium, from `filefrag -v`.
fn extents(lab: &TestLab, path: &str) -> Vec<String> {
    let text = lab.on_host(0, &["filefrag", "-v", path]);
    text.lines()
        .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| line.split(':').nth(2).unwrap_or_default().trim().to_owned())
        .collect()
}

/// Size, bytes taken, and bytes that are not zero.
fn measured(lab: &TestLab, path: &str) -> (u64, u64, u64) {
    let said = lab.on_host(0, &["stat", "-c", "%s %b %B", path]);
    let numbers: Vec<u64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let count = "tr -d '\\000' <\"$1\" | wc -c";
    let left = lab.on_host(0, &["sh", "-c", count, "count", path]);
    (numbers[0], numbers[1] * numbers[2], left.trim().parse().unwrap())
}

fn written(lab: &TestLab, path: &str, places: &[&str]) {
    for place in places {
        let command = format!("write -q -P {PATTERN:#x} {place}");
        lab.on_host(0, &["qemu-io", "-c", &command, path]);
    }
}

#[test]
fn what_a_disk_holds_is_overwritten_where_it_lies_and_what_it_leaves_empty_stays_so() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let (host, pool) = (&place.host, place.pool);
        let path = |name: &str| format!("{}/{name}", place.pool_path);
        let base = VolumeCreate {
            format: VolumeFormat::Qcow2,
            capacity_bytes: 64 * MIB,
            ..place.volume("ashlar-test-base.qcow2")
        };
        hosts.create_volume(host, &base).await.unwrap();
        written(&lab, &path(&base.file_name), &["0 4M"]);
        let base_before = hosts.file_sha256(host, &path(&base.file_name)).await.unwrap();
        let overlay = |name: &str| VolumeCreate {
            format: VolumeFormat::Qcow2,
            capacity_bytes: 20 * 1024 * MIB,
            backing_path: Some(path(&base.file_name)),
            ..place.volume(name)
        };

        // An overlay of 20 GiB in which 100 MiB were written, some of it given back.
        let disk = overlay("ashlar-test-overlay.qcow2");
        hosts.create_volume(host, &disk).await.unwrap();
        let file = path(&disk.file_name);
        written(&lab, &file, &["1G 50M", "15G 50M"]);
        lab.on_host(0, &["qemu-io", "-d", "unmap", "-c", "discard -q 1G 10M", &file]);
        lab.on_host(0, &["sync", &file]);
        let (before, places) = (measured(&lab, &file), extents(&lab, &file));
        assert!(before.2 >= 90 * MIB, "{before:?}");
        let began = Instant::now();
        assert_eq!(hosts.zero_file(host, &file, LIMIT).await.unwrap(), None);
        let took = began.elapsed();
        let after = measured(&lab, &file);
        println!("overlay: size, taken, not zero {before:?} -> {after:?} in {took:?}");
        assert_eq!((after.0, after.2), (before.0, 0));
        assert!(after.1 <= before.1 + MIB, "it takes {} and took {}", after.1, before.1);
        assert_eq!(extents(&lab, &file), places, "it was written elsewhere");
        // As good as once.
        assert_eq!(hosts.zero_file(host, &file, LIMIT).await.unwrap(), None);
        assert_eq!(measured(&lab, &file), after);
        hosts.delete_volume(host, pool, &disk.file_name).await.unwrap();

        // libvirt's own wiping of such a file gives its blocks back, as they are: nothing is written over them.
        let disk = overlay("ashlar-test-libvirt.qcow2");
        hosts.create_volume(host, &disk).await.unwrap();
        let file = path(&disk.file_name);
        written(&lab, &file, &["1G 8M", "15G 8M"]);
        lab.on_host(0, &["qemu-io", "-d", "unmap", "-c", "discard -q 1G 1M", &file]);
        lab.on_host(0, &["sync", &file]);
        let before = measured(&lab, &file);
        hosts.wipe_volume(host, pool, &disk.file_name).await.unwrap();
        let after = measured(&lab, &file);
        println!("libvirt's wipe: size, taken, not zero {before:?} -> {after:?}");
        assert_eq!((after.0, after.1, after.2), (before.0, 0, 0));
        hosts.delete_volume(host, pool, &disk.file_name).await.unwrap();

        // etcd's disk: all of it is given, little was written.
        let disk = VolumeCreate {
            format: VolumeFormat::Raw,
            capacity_bytes: 64 * MIB,
            preallocate: true,
            ..place.volume("ashlar-test-etcd.raw")
        };
        hosts.create_volume(host, &disk).await.unwrap();
        let file = path(&disk.file_name);
        lab.on_host(0, &["qemu-io", "-f", "raw", "-c", &format!("write -q -P {PATTERN:#x} 7M 8M"), &file]);
        let before = measured(&lab, &file);
        assert_eq!(before.2, 8 * MIB);
        assert_eq!(hosts.zero_file(host, &file, LIMIT).await.unwrap(), None);
        let after = measured(&lab, &file);
        println!("etcd's disk: size, taken, not zero {before:?} -> {after:?}");
        assert_eq!((after.0, after.1, after.2), (before.0, before.1, 0));

        let base_after = hosts.file_sha256(host, &path(&base.file_name)).await.unwrap();
        assert_eq!(base_after, base_before, "what overlays stand on was touched");
    });
}

#[test]
fn what_is_not_there_or_cannot_be_overwritten_in_place_is_left_alone() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = &place.host;
        let path = |name: &str| format!("{}/{name}", place.pool_path);
        let gone = hosts.zero_file(host, &path("ashlar-test-none.raw"), LIMIT).await.unwrap_err();
        assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
        let absent = "[ ! -e \"$1\" ]";
        lab.on_host(0, &["sh", "-c", absent, "absent", &path("ashlar-test-none.raw")]);

        let disk = place.volume("ashlar-test-target.raw");
        hosts.create_volume(host, &disk).await.unwrap();
        let file = path(&disk.file_name);
        lab.on_host(0, &["qemu-io", "-f", "raw", "-c", &format!("write -q -P {PATTERN:#x} 0 512k"), &file]);
        let link = path("ashlar-test-link.raw");
        lab.on_host(0, &["ln", "-s", &file, &link]);
        let refused = hosts.zero_file(host, &link, LIMIT).await.unwrap_err();
        assert_eq!(refused.kind, EffectErrorKind::NotFound, "{refused}");
        assert_eq!(measured(&lab, &file).2, 512 << 10);

        // Cut off by a deadline that it cannot keep, and done by the next attempt.
        let cut = hosts.zero_file(host, &file, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(cut.kind, EffectErrorKind::Unreachable, "{cut}");
        assert_eq!(hosts.zero_file(host, &file, LIMIT).await.unwrap(), None);
        assert_eq!(measured(&lab, &file).2, 0);

        // A file system that writes elsewhere.
        let over = lab.dir.path().join("over");
        for part in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir_all(over.join(part)).unwrap();
        }
        let part = |name: &str| over.join(name).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", part("lower"), part("upper"), part("work"));
        let merged = part("merged");
        lab.on_host(0, &["mount", "-t", "overlay", "overlay", "-o", &options, &merged]);
        let file = format!("{merged}/disk.raw");
        lab.on_host(0, &["sh", "-c", "printf secret >\"$1\"", "write", &file]);
        let why = hosts.zero_file(host, &file, LIMIT).await.unwrap().unwrap();
        assert!(why.contains("overlayfs"), "{why}");
        assert_eq!(lab.on_host(0, &["cat", &file]), "secret");
        lab.on_host(0, &["umount", &merged]);
        assert_eq!(std::fs::metadata(over.join("upper/disk.raw")).unwrap().size(), 6);
    });
}
