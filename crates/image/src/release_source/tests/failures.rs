//! What goes wrong is said with its address, its cause and the next step.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::published::{FLANNEL, Published, cni_plugins, kubeadm, layer, program, program_path};
use super::server::Route;
use super::{Said, fetch, in_own_network};
use crate::cache::Context;
use crate::digest;
use crate::release_source::objection;
use crate::source::Release;

/// Changes what is published, fetches it, and returns the complaint.
fn complaint(change: impl FnOnce(&mut Published) + Send) -> String {
    in_own_network(|| {
        let mut published = Published::start();
        change(&mut published);
        let cache = tempfile::tempdir().unwrap();
        match fetch(cache.path(), &Said::default(), &published.release) {
            Ok(fetched) => panic!("this must not work: {fetched:?}"),
            Err(error) => error.to_string(),
        }
    })
}

fn shown(all: Vec<(&str, String)>) -> String {
    all.iter().map(|(what, error)| format!("# {what}\n{error}\n")).collect::<Vec<_>>().join("\n")
}

#[test]
fn web_servers() {
    let kubelet = program_path("kubelet");
    let put = |published: &Published, route| published.web.put(&kubelet, route);
    let damaged = [program("kubelet"), b"\n".to_vec()].concat();
    insta::assert_snapshot!(shown(vec![
        ("nobody listens", complaint(|p| p.release.release_url = "http://127.0.0.1:9/release".to_owned())),
        ("this version is not there", complaint(|p| p.release.release_url += "s")),
        ("the file is not what its checksum says", complaint(|p| put(p, Route::bytes(damaged)))),
        (
            "a page in place of a checksum",
            complaint(|p| p
                .web
                .put(&format!("{kubelet}.sha256"), Route::bytes("<html>Please log in</html>"))),
        ),
        (
            "every transfer breaks",
            complaint(|p| put(p, Route { always_cut: Some(20), ..Route::bytes(program("kubelet")) })),
        ),
        ("a server that is out of order", complaint(|p| put(p, Route::status(500)))),
        ("a server that wants a password", complaint(|p| put(p, Route::status(403)))),
        ("a server that falls silent", complaint(|p| put(p, Route { is_silent: true, ..Route::bytes("") })),),
        (
            "a program for another machine",
            complaint(|p| {
                let mut arm = program("kubelet");
                arm[18] = 183;
                p.put_program("kubelet", arm);
            }),
        ),
        ("no program at all", complaint(|p| p.put_program("kubelet", b"#!/bin/sh\nexec true\n".to_vec()))),
        ("another version under this name", complaint(|p| p.put_program("kubeadm", kubeadm("v1.37.1")))),
        (
            "an archive without a plugin",
            complaint(|p| {
                let archive = cni_plugins(&["bridge", "host-local", "portmap"]);
                p.put_checked("/cni/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz", archive);
            }),
        ),
    ]));
}

#[test]
fn registries() {
    let own = layer("usr/local/bin/program", "another etcd");
    insta::assert_snapshot!(shown(vec![
        ("nobody listens", complaint(|p| p.release.registry = "http://127.0.0.1:9".to_owned())),
        ("this is no registry", complaint(|p| p.release.registry = "http://127.0.0.1:8080".to_owned())),
        ("no registry's name", complaint(|p| p.release.registry = "file:///srv".to_owned())),
        ("a tag is missing", complaint(|p| p.release.flannel_registry = p.registry.url())),
        (
            "an index without our architecture",
            complaint(|p| p.registry.push(
                "etcd",
                "3.7.0-0",
                &["s390x", "arm64"],
                std::slice::from_ref(&own)
            )),
        ),
        (
            "an image of another architecture",
            complaint(|p| p.registry.push_single(
                "ghcr.io/flannel-io/flannel",
                FLANNEL,
                "arm64",
                std::slice::from_ref(&own)
            )),
        ),
        (
            "a layer that is damaged on the registry's disk",
            complaint(|p| {
                p.registry.push("etcd", "3.7.0-0", &["amd64"], std::slice::from_ref(&own));
                p.registry.damage(&own);
            }),
        ),
        (
            "a manifest that is not what the registry says",
            complaint(|p| {
                p.release.registry = p.web.url();
                let lie = format!("Docker-Content-Digest: sha256:{}", digest::of_bytes(b"another"));
                p.web.put(
                    "/v2/kube-apiserver/manifests/v1.37.2",
                    Route { headers: vec![lie], ..Route::bytes("{}") },
                );
            }),
        ),
        (
            "a page in place of a manifest",
            complaint(|p| {
                p.release.registry = p.web.url();
                let html = vec!["Content-Type: text/html".to_owned()];
                p.web.put(
                    "/v2/kube-apiserver/manifests/v1.37.2",
                    Route { headers: html, ..Route::bytes("<html>") },
                );
            }),
        ),
    ]));
}

#[test]
fn a_certificate_of_an_authority_that_nobody_knows() {
    let error = complaint(|published| {
        let listener = TcpListener::bind("127.0.0.1:8443").unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                // The client hangs up as soon as it has seen the certificate.
                let _ = rustls::StreamOwned::new(session, stream.unwrap()).read(&mut [0]);
            }
        });
        published.release.release_url = "https://127.0.0.1:8443/release".to_owned();
    });
    insta::assert_snapshot!("certificate", error);
}

#[test]
fn a_look_says_which_server_does_not_answer() {
    let cache = tempfile::tempdir().unwrap();
    let look = |release: &Release| {
        let cancel = AtomicBool::new(false);
        let ctx = Context { cache_dir: cache.path(), reporter: &crate::Silent, cancel: &cancel };
        objection(&ctx, release, &super::VERSION.parse().unwrap()).unwrap()
    };
    in_own_network(|| {
        let published = Published::start();
        let release = &published.release;
        assert_eq!(look(release), None);
        let other = |change: fn(&mut Release)| {
            let mut release = release.clone();
            change(&mut release);
            look(&release).unwrap_or_default()
        };
        insta::assert_snapshot!(shown(vec![
            ("no web server", other(|r| r.release_url = "http://127.0.0.1:9".to_owned())),
            ("another version only", other(|r| r.release_url += "d")),
            ("no registry", other(|r| r.registry = "http://127.0.0.1:9".to_owned())),
            ("no other registry", other(|r| r.flannel_registry = "http://127.0.0.1:8080".to_owned())),
            ("no plugins", other(|r| r.cni_plugins_version = "v0.0.1".to_owned())),
        ]));
    });
}
