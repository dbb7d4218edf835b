//! What is published arrives, as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::published::{Published, kubeadm};
use super::{Said, fetch, in_own_network};
use crate::digest;

#[test]
fn a_release_is_fetched_once_and_is_what_was_published() {
    let cache = tempfile::tempdir().unwrap();
    let said = Said::default();
    let (fetched, release, log) = in_own_network(|| {
        let published = Published::start();
        let fetched = fetch(cache.path(), &said, &published.release).unwrap();
        (fetched, published.release.clone(), published.web.log())
    });
    let mut shown = fetched.contents.clone();
    // How well gzip compresses is a matter of its version.
    let plugins = shown.downloads.iter_mut().find(|one| one.url.ends_with(".tgz")).unwrap();
    plugins.digest = "sha256:…".to_owned();
    let contents = serde_json::to_string_pretty(&(&shown, &fetched.images)).unwrap();
    insta::assert_snapshot!("contents", contents);
    insta::assert_snapshot!(log.join("\n"), @r"
    /release/v1.37.2/bin/linux/amd64/kubeadm.sha256
    /release/v1.37.2/bin/linux/amd64/kubeadm
    /release/v1.37.2/bin/linux/amd64/kubelet.sha256
    /release/v1.37.2/bin/linux/amd64/kubelet
    /release/v1.37.2/bin/linux/amd64/kubectl.sha256
    /release/v1.37.2/bin/linux/amd64/kubectl
    /cni/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz.sha256
    /cni/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz
    ");
    assert_eq!(fs::read(fetched.programs_dir.join("kubeadm")).unwrap(), kubeadm("v1.37.2"));
    let plugins = fetched.cni_plugins_dir.unwrap();
    assert!(plugins.join("bridge").is_file() && plugins.join("LICENSE").is_file());
    check_archive(&fetched.archives[0], fetched.images.iter().map(|image| image.reference.clone()).collect());
    assert!(!cache.path().join("downloads").exists(), "what was made of downloads is kept, and they are not");

    // Nothing is asked for again: here nobody would answer.
    said.take();
    let again = in_own_network(|| fetch(cache.path(), &said, &release)).unwrap();
    assert_eq!(again.contents, fetched.contents);
    insta::assert_snapshot!(said.take().join("\n"), @r"
    Kubernetes v1.37.2 as released: kept
    CNI plugins v1.9.1 as released: kept
    OCI images of v1.37.2 as released: kept
    ");
}

/// Every name leads to a manifest for linux/amd64, its configuration and its layers, all under their digests.
fn check_archive(path: &Path, mut references: Vec<String>) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(path).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(hex, digest::of_bytes(&bytes));
        }
        assert!(files.insert(name, bytes).is_none(), "an entry is there twice");
    }
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
    let blob = |descriptor: &Value| {
        let path = format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
        assert_eq!(descriptor["size"].as_u64().unwrap(), files[&path].len() as u64);
        path
    };
    let index = json("index.json");
    let mut found = Vec::new();
    for image in index["manifests"].as_array().unwrap() {
        found.push(image["annotations"]["io.containerd.image.name"].as_str().unwrap().to_owned());
        let manifest = json(&blob(image));
        assert_eq!(json(&blob(&manifest["config"]))["architecture"], "amd64");
        assert!(!manifest["layers"].as_array().unwrap().is_empty());
        for layer in manifest["layers"].as_array().unwrap() {
            blob(layer);
        }
    }
    found.sort();
    references.sort();
    assert_eq!(found, references);
}
