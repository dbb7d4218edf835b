//! Images that are not what they should be: named, with the cause and the next step, and the others go on working.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::Place;
use crate::seed::stock;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image in the cache, its manifest changed by the caller.
fn put(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    let mut files = serde_json::Map::new();
    for (file, content) in [("disk.qcow2", "a disk"), ("vmlinuz", "a kernel"), ("initrd.img", "an initrd")] {
        place.file(&format!("cache/images/{name}/{file}"), content);
        let entry = json!({"sha256": sha256(content.as_bytes()), "sizeBytes": content.len()});
        files.insert(file.to_owned(), entry);
    }
    let mut manifest = json!({
        "name": name, "purpose": "node", "inputsDigest": sha256(name.as_bytes()), "kubernetesVersion": "v1.37.2",
        "os": "Debian GNU/Linux 13 (trixie)", "arch": "x86_64", "files": files, "virtualSizeBytes": 8_u64 << 30,
        "kernelCommandLine": "console=ttyS0", "created": "2026-11-23T17:00:00Z",
        "kubernetes": {
            "source": "modules", "imageRepository": "registry.k8s.io", "etcdTag": "3.7.0-0",
            "etcdDefaultTag": "3.7.0-0", "corednsTag": "v1.14.6", "corednsDefaultTag": "v1.14.6", "pauseTag": "3.10.2",
            "flannelImage": "ghcr.io/flannel-io/flannel:v0.28.10", "flannelVersion": "v0.28.10",
        },
    });
    change(&mut manifest);
    place.file(&format!("cache/images/{name}/image.json"), &manifest.to_string());
}

/// One image that is right, and one for each thing that can be wrong with one.
fn cache() -> Place {
    let place = Place::with(&stock());
    put(&place, "node-good", |_| {});
    put(&place, "node-bits-flipped", |_| {});
    place.file("cache/images/node-bits-flipped/disk.qcow2", "a dusk");
    put(&place, "node-cut", |_| {});
    place.file("cache/images/node-cut/disk.qcow2", "a d");
    put(&place, "node-no-kernel", |_| {});
    fs::remove_file(place.path().join("cache/images/node-no-kernel/vmlinuz")).unwrap();
    put(&place, "node-other-name", |manifest| manifest["name"] = "node-good".into());
    put(&place, "node-newer", |manifest| manifest["signedBy"] = "a later version".into());
    put(&place, "node-no-initrd-named", |manifest| {
        manifest["files"].as_object_mut().unwrap().remove("initrd.img");
    });
    place.file("cache/images/node-no-manifest/disk.qcow2", "a disk");
    place.file("cache/images/node-no-json/image.json", "{\"name\": ");
    place
}

#[test]
fn damaged_images_do_not_hide_the_others() {
    let place = cache();
    let all = [place.run(&["image", "list"]), place.run(&["image", "list", "-o", "json", "-q"])];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_damaged_image_is_named_with_the_cause_and_the_next_step() {
    let place = cache();
    let mut all = Vec::new();
    for name in ["cut", "no-kernel", "other-name", "newer", "no-manifest", "no-json"] {
        all.push(place.run(&["image", "inspect", &format!("node-{name}")]));
    }
    all.push(place.run(&["image", "inspect", "--verify", "node-bits-flipped"]));
    for name in ["bits-flipped", "cut", "no-initrd-named", "gone"] {
        all.push(place.run(&["image", "register", &format!("node-{name}")]));
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_damaged_image_can_be_removed_and_a_good_one_used() {
    let place = cache();
    let all = [
        place.run(&["image", "remove", "node-cut"]),
        place.run(&["image", "remove", "node-cut", "--yes"]),
        place.run(&["image", "remove", "node-no-json", "--yes"]),
        place.run(&["image", "remove", "node-gone", "--yes"]),
        place.run(&["image", "inspect", "--verify", "node-good", "-q"]),
        place.run(&["image", "register", "node-good"]),
        place.run(&["image", "register", "node-good"]),
        place.run(&["get", "images"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn an_image_that_was_built_anew_takes_the_place_of_a_record_that_no_host_has() {
    let place = cache();
    let first = place.run(&["image", "register", "node-good"]);
    let digest = sha256(b"node-good");
    place.file("cache/images/node-good/disk.qcow2", "another disk");
    put(&place, "node-again", |manifest| {
        manifest["name"] = "node-good".into();
        manifest["inputsDigest"] = digest.into();
        let content = "another disk";
        manifest["files"]["disk.qcow2"] =
            json!({"sha256": sha256(content.as_bytes()), "sizeBytes": content.len()});
    });
    let again = place.path().join("cache/images");
    fs::copy(again.join("node-again/image.json"), again.join("node-good/image.json")).unwrap();
    let all = [
        first,
        place.run(&["image", "register", "node-good"]),
        place.run(&["image", "register", "node-good"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_cluster_of_an_image_that_is_not_there() {
    let place = cache();
    let cluster = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec:\n  network: lan\n  \
                   controlPlane: {replicas: 1, class: ctrl}\n";
    let file = place.file("a.yaml", &format!("{cluster}  kubernetesVersion: v1.36.3\n"));
    let named = place.file("b.yaml", &format!("{cluster}  kubernetesVersion: v1.37.2\n  image: node-cut\n"));
    let all = [place.run(&["apply", "-f", &file]), place.run(&["plan", "--offline", "-f", &named])];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn kubernetes_that_can_be_had_from_nowhere() {
    let place = Place::new();
    let build = |more: &[&str], env: &[(&str, &str)]| {
        let args = [&["image", "build", "--kubernetes", "v1.37.2"], more].concat();
        place.run_offline(&args, env)
    };
    let release = ["--source", "release", "--release-url", "http://mirror.invalid/release"];
    let all = [
        build(&[], &[("PATH", "/nonexistent")]),
        build(&release, &[]),
        // It is the proxy that is asked, and nobody resolves the name here.
        build(&release, &[("HTTPS_PROXY", "http://192.0.2.1:3128")]),
        build(&release, &[("HTTPS_PROXY", "http://192.0.2.1:3128"), ("NO_PROXY", "mirror.invalid")]),
        build(&["--source", "release"], &[("ASHLAR_RELEASE_URL", "http://192.0.2.1/release")]),
        build(&["--registry", "ftp://192.0.2.1"], &[]),
        place.run_offline(&["image", "build", "--kubernetes", "v1.37"], &[]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}
