//! A release as it is published, small: programs that run, archives that unpack, images that can be pulled.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::registry::Registry;
use super::server::{Route, Server};
use crate::digest;
use crate::source::Release;

pub(super) const VERSION: &str = "v1.37.2";
pub(super) const FLANNEL: &str = "v0.28.10";
const IMAGES: [(&str, &str); 7] = [
    ("kube-apiserver", VERSION),
    ("kube-controller-manager", VERSION),
    ("kube-scheduler", VERSION),
    ("kube-proxy", VERSION),
    ("coredns/coredns", "v1.14.6"),
    ("pause", "3.10.2"),
    ("etcd", "3.7.0-0"),
];

/// A web server, a registry, and what is on them.
pub(super) struct Published {
    pub(super) web: Server,
    pub(super) registry: Registry,
    pub(super) release: Release,
    _dir: TempDir,
}

impl Published {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let web = Server::start(8080);
        let registry = Registry::start(dir.path(), 5000);
        let release = Release {
            release_url: format!("{}/release", web.url()),
            registry: registry.url(),
            flannel_registry: format!("{}/ghcr.io", registry.url()),
            cni_plugins_url: format!("{}/cni/", web.url()),
            ..Release::default()
        };
        let published = Self { web, registry, release, _dir: dir };
        published.put_program("kubeadm", kubeadm(VERSION));
        published.put_program("kubelet", program("kubelet"));
        published.put_program("kubectl", program("kubectl"));
        let archive = cni_plugins(&["bridge", "host-local", "loopback", "portmap", "vlan"]);
        published.put_checked("/cni/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz", archive);
        let base = layer("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        for (name, tag) in IMAGES {
            let own = layer("usr/local/bin/program", name);
            published.registry.push(name, tag, &["arm64", "amd64"], &[base.clone(), own]);
        }
        published.registry.push_single("ghcr.io/flannel-io/flannel", FLANNEL, "amd64", &[base]);
        published
    }

    pub(super) fn put_program(&self, name: &str, content: Vec<u8>) {
        self.put_checked(&program_path(name), content);
    }

    /// A file and its checksum.
    pub(super) fn put_checked(&self, path: &str, content: Vec<u8>) {
        self.web.put(&format!("{path}.sha256"), Route::bytes(digest::of_bytes(&content)));
        self.web.put(path, Route::bytes(content));
    }
}

pub(super) fn program_path(name: &str) -> String {
    format!("/release/{VERSION}/bin/linux/amd64/{name}")
}

/// What kubeadm says when it is asked for its images.
fn images() -> String {
    IMAGES.iter().map(|(name, tag)| format!("registry.k8s.io/{name}:{tag}\n")).collect()
}

/// A kubeadm that says which images it wants, and that it is of this version.
pub(super) fn kubeadm(version: &str) -> Vec<u8> {
    elf(&images(), &format!("{version}\n"))
}

pub(super) fn program(text: &str) -> Vec<u8> {
    elf(text, text)
}

/// A Linux program for x86-64 that prints the second text when it has three arguments, and else the first.
fn elf(text: &str, with_three: &str) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut code = Vec::new();
    code.extend(b"\x48\x83\x3c\x24\x04"); // cmpq $4, (%rsp): argc
    code.extend(b"\x74\x0e"); // je to the second lea
    code.extend(b"\x48\x8d\x35"); // lea text(%rip), %rsi
    code.extend(number(40));
    code.push(0xba); // mov $length, %edx
    code.extend(number(text.len()));
    code.extend(b"\xeb\x0c"); // jmp to the write
    code.extend(b"\x48\x8d\x35"); // lea with_three(%rip), %rsi
    code.extend(number(26 + text.len()));
    code.push(0xba);
    code.extend(number(with_three.len()));
    code.extend(b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x0f\x05"); // write(1, %rsi, %rdx)
    code.extend(b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"); // exit(0)
    assert_eq!(code.len(), 54);
    code.extend(text.bytes());
    code.extend(with_three.bytes());
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(b"\x02\0\x3e\0\x01\0\0\0"); // executable, x86-64
    file.extend((BASE + HEADERS).to_le_bytes()); // entry
    file.extend(64_u64.to_le_bytes()); // program headers
    file.extend([0; 12]);
    file.extend(b"\x40\0\x38\0\x01\0\x40\0\0\0\0\0"); // sizes and counts
    file.extend(b"\x01\0\0\0\x05\0\0\0"); // load, read and execute
    for value in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    assert_eq!(file.len() as u64, HEADERS);
    file.extend(code);
    file
}

/// The archive of the CNI project: plugins at its root, beside a licence.
pub(super) fn cni_plugins(names: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("LICENSE"), "Apache License\n").unwrap();
    for name in names {
        fs::write(dir.path().join(name), program(name)).unwrap();
    }
    let out = Command::new("tar").args(["-cz", "-C"]).arg(dir.path()).arg(".").output().unwrap();
    assert!(out.status.success());
    out.stdout
}

/// A layer with one file.
pub(super) fn layer(path: &str, text: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, Path::new(path), text.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}
