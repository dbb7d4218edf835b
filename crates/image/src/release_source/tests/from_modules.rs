//! A whole node image from a release whose binaries and images are those that the modules path built.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::registry::Registry;
use super::server::{Route, Server};
use super::{Said, in_own_network};
use crate::cache::Context;
use crate::source::{HOST_PROGRAMS, Release, Source};
use crate::{BuildRequest, build_node_image, digest, list, verify};

/// Stages that both paths share, and that need Debian's servers.
const SHARED: [&str; 3] = ["Debian-packages-", "kernel-packages-", "check-image-"];

/// Where the modules path left what it built: one directory for each such prefix.
fn stages(cache: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(cache.join("stages"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no stage {prefix}: `ashlar image build` first", cache.display());
    found
}

fn publish_file(web: &Server, path: &str, file: PathBuf) {
    let (sha256, _) = digest::of_file("test", &file).unwrap();
    web.put(&format!("{path}.sha256"), Route::bytes(sha256));
    web.put(path, Route::file(file));
}

/// Pushes every image of a docker-archive.
fn push_all(registry: &Registry, archive: &Path) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    for image in manifest.as_array().unwrap() {
        let (name, tag) = image["RepoTags"][0].as_str().unwrap().rsplit_once(':').unwrap();
        let layers: Vec<Vec<u8>> = image["Layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| files[layer.as_str().unwrap()].clone())
            .collect();
        registry.push(name, tag, &["amd64"], &layers);
    }
}

#[test]
#[ignore = "needs a node image built from modules in ASHLAR_CACHE_DIR, and minutes: cargo test -p ashlar-image -- --ignored"]
fn a_release_of_what_modules_built_gives_an_image_with_the_same_components() {
    let version = std::env::var("ASHLAR_TEST_KUBERNETES").unwrap_or_else(|_| "v1.37.2".to_owned());
    let built =
        PathBuf::from(std::env::var("ASHLAR_CACHE_DIR").unwrap_or_else(|_| "/var/cache/ashlar".to_owned()));
    let modules = list(&built)
        .unwrap()
        .images
        .into_iter()
        .map(|image| image.manifest)
        .filter(|manifest| manifest.kubernetes_version.as_ref() == Some(&version))
        .rfind(|manifest| manifest.kubernetes.as_ref().is_some_and(|inside| inside.source == "modules"))
        .expect("no image of that version from modules");
    let programs = stages(&built, &format!("Kubernetes-{version}-from-modules-")).remove(0).join("bin");
    let images = stages(&built, &format!("OCI-images-of-{version}-")).pop().unwrap().join("images.tar");
    // On the same file system, so that what is shared can be linked.
    let cache = tempfile::Builder::new().prefix("release-test-").tempdir_in(&built).unwrap();
    fs::create_dir(cache.path().join("stages")).unwrap();
    for dir in SHARED.iter().flat_map(|prefix| stages(&built, prefix)) {
        let linked =
            Command::new("cp").arg("-al").arg(&dir).arg(cache.path().join("stages")).status().unwrap();
        assert!(linked.success());
    }
    let debian = stages(&built, SHARED[0]).remove(0).join("root/usr/lib/cni");
    let archive = cache.path().join("cni.tgz");
    let packed =
        Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(debian).arg(".").status().unwrap();
    assert!(packed.success());

    let said = Said::default();
    let (image, took) = in_own_network(|| {
        let storage = tempfile::tempdir_in(cache.path()).unwrap();
        let (web, registry) = (Server::start(8080), Registry::start(storage.path(), 5000));
        for name in HOST_PROGRAMS {
            publish_file(&web, &format!("/{version}/bin/linux/amd64/{name}"), programs.join(name));
        }
        publish_file(&web, "/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz", archive);
        push_all(&registry, &images);
        let cancel = AtomicBool::new(false);
        let ctx = Context { cache_dir: cache.path(), reporter: &said, cancel: &cancel };
        let request = BuildRequest {
            source: Source::Auto,
            release: Release {
                release_url: web.url(),
                registry: format!("{}/registry.k8s.io", registry.url()),
                flannel_registry: format!("{}/ghcr.io", registry.url()),
                cni_plugins_url: web.url(),
                ..Release::default()
            },
            ..BuildRequest::new(version)
        };
        let began = Instant::now();
        (build_node_image(&ctx, &request).unwrap(), began.elapsed())
    });
    let made = verify(cache.path(), &image.manifest.name).unwrap().manifest;
    let (of_release, of_modules) = (made.kubernetes.clone().unwrap(), modules.kubernetes.clone().unwrap());
    assert_eq!(of_release.source, "release", "that is what auto chose: {:?}", said.take());
    assert_eq!(made.container_images, in_order_of(&made.container_images, &modules.container_images));
    assert_eq!(made.packages, modules.packages);
    let tags = |inside: &crate::KubernetesContents| {
        (
            inside.etcd_tag.clone(),
            inside.coredns_tag.clone(),
            inside.pause_tag.clone(),
            inside.flannel_image.clone(),
        )
    };
    assert_eq!(tags(&of_release), tags(&of_modules));
    // Three programs, the plugins, and an image for each that kubeadm names and flannel.
    assert_eq!(of_release.downloads.len(), 4 + made.container_images.len() - 1);
    let mib = |manifest: &crate::Manifest| manifest.files[crate::DISK].size_bytes >> 20;
    let mut figures = said.take().join("\n");
    figures += &format!(
        "\nfrom the release: {} MiB in {:.0} s; from modules: {} MiB\n",
        mib(&made),
        took.as_secs_f64(),
        mib(&modules)
    );
    std::io::stderr().write_all(figures.as_bytes()).unwrap();
}

/// The same images, in the order of the first list.
fn in_order_of(
    first: &[crate::ContainerImage],
    other: &[crate::ContainerImage],
) -> Vec<crate::ContainerImage> {
    let mut other = other.to_vec();
    other.sort_by_key(|image| first.iter().position(|one| one.reference == image.reference));
    other
}
