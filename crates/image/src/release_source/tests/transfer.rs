//! Transfers that break, servers that want a token, and a person who has waited enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::published::Published;
use super::server::{Route, Server};
use super::{Said, TIMING, fetch, in_own_network};
use crate::cache::Context;
use crate::digest;
use crate::error::Error;
use crate::fetch::{Algorithm, Checksum, Fetcher, Place, Timing, Wanted};
use crate::release_source::registry::Registry;

const PLACE: Place<'_> = Place { stage: "test", option: "--release-url", if_missing: "look elsewhere" };

fn with_fetcher<T>(
    cache: &std::path::Path,
    said: &Said,
    timing: Timing,
    work: impl FnOnce(&Fetcher<'_>) -> T,
) -> T {
    let cancel = AtomicBool::new(false);
    let ctx = Context { cache_dir: cache, reporter: said, cancel: &cancel };
    let lock = ctx.lock().unwrap();
    work(&Fetcher::new(&ctx, &lock, timing).unwrap())
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_broke_even_in_another_run() {
    let cache = tempfile::tempdir().unwrap();
    let said = Said::default();
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let checksum = Checksum::of_bytes(Algorithm::Sha256, &content);
    in_own_network(|| {
        let server = Server::start(8080);
        let url = format!("{}/file", server.url());
        let wanted = Wanted { url: &url, checksum: &checksum, size_bytes: None };
        let cuts = vec![300_000, 0, 100_000];
        server.put("/file", Route { cuts, ..Route::bytes(content.clone()) });
        // The first run has one attempt, and loses it.
        let impatient = Timing { pauses: &[], ..TIMING };
        let error =
            with_fetcher(cache.path(), &said, impatient, |fetcher| fetcher.file(&PLACE, &wanted, None))
                .unwrap_err();
        insta::assert_snapshot!("broken", error);
        let path =
            with_fetcher(cache.path(), &said, TIMING, |fetcher| fetcher.file(&PLACE, &wanted, None)).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content);
        insta::assert_snapshot!("resumed", server.log().join("\n"));

        // What lay here is not what is wanted: it is thrown away, not appended to.
        let half = cache.path().join(format!("downloads/sha256-{}.part", digest::of_bytes(b"all of it")));
        std::fs::write(half, "rubbish").unwrap();
        server.put("/other", Route::bytes("all of it"));
        let (url, checksum) =
            (format!("{}/other", server.url()), Checksum::of_bytes(Algorithm::Sha256, b"all of it"));
        let wanted = Wanted { url: &url, checksum: &checksum, size_bytes: Some(9) };
        let path =
            with_fetcher(cache.path(), &said, TIMING, |fetcher| fetcher.file(&PLACE, &wanted, None)).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"all of it");
    });
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again() {
    let cache = tempfile::tempdir().unwrap();
    let said = Said::default();
    in_own_network(|| {
        let published = Published::start();
        let url = format!("{}/flaky", published.web.url());
        published.web.put("/flaky", Route::status(503));
        let error =
            with_fetcher(cache.path(), &said, TIMING, |fetcher| fetcher.text(&PLACE, &url, "*/*", None));
        insta::assert_snapshot!("out_of_order", error.unwrap_err());
        assert_eq!(published.web.log().len(), 3, "once, and twice again");
        // A checksum of the longer kind is taken where there is no other.
        let path = super::published::program_path("kubelet");
        let content = super::published::program("another kubelet");
        published.web.put(&format!("{path}.sha256"), Route::status(404));
        let longer = Checksum::of_bytes(Algorithm::Sha512, &content);
        published.web.put(&format!("{path}.sha512"), Route::bytes(format!("{}\n", longer.hex)));
        published.web.put(&path, Route::bytes(content));
        let fetched = fetch(cache.path(), &said, &published.release).unwrap();
        let kubelet = fetched.contents.downloads.iter().find(|one| one.url.ends_with("/kubelet")).unwrap();
        assert_eq!(kubelet.digest, longer.to_string());
    });
}

#[test]
fn a_registry_that_wants_a_token_gets_one_from_where_it_says() {
    let cache = tempfile::tempdir().unwrap();
    let said = Said::default();
    in_own_network(|| {
        let server = Server::start(8080);
        let config = r#"{"os":"linux","architecture":"amd64"}"#;
        let digest = format!("sha256:{}", digest::of_bytes(config.as_bytes()));
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":{}}},"layers":[]}}"#,
            config.len()
        );
        let closed = |body: &str| {
            Route {
            token: Some("Bearer open-sesame".to_owned()),
            headers: vec![
                r#"WWW-Authenticate: Bearer realm="http://127.0.0.1:8080/token",service="here",scope="repository:m/x:pull""#
                    .to_owned(),
            ],
            ..Route::bytes(body)
        }
        };
        server.put("/v2/m/x/manifests/1", closed(&manifest));
        server.put(&format!("/v2/m/x/blobs/{digest}"), closed(config));
        server.put("/token", Route::bytes(r#"{"token":"open-sesame"}"#));
        let pull = || {
            with_fetcher(cache.path(), &said, TIMING, |fetcher| {
                let registry = Registry::new(fetcher, "http://127.0.0.1:8080/m/", "--registry").unwrap();
                registry.pull("test", "registry.k8s.io/x:1", "x", "1")
            })
        };
        let pulled = pull().unwrap();
        assert_eq!(pulled.blobs.len(), 1);
        insta::assert_snapshot!("token_asked_for", server.log().join("\n"));
        server.put("/token", Route::bytes(r#"{"token":"wrong"}"#));
        insta::assert_snapshot!("token_refused", pull().unwrap_err());
        server.put("/token", Route::bytes("{}"));
        insta::assert_snapshot!("token_missing", pull().unwrap_err());
    });
}

#[test]
fn a_person_who_has_waited_enough_does_not_wait_for_a_silent_server() {
    let cache = tempfile::tempdir().unwrap();
    in_own_network(|| {
        let server = Server::start(8080);
        server.put("/file", Route { is_silent: true, ..Route::bytes("") });
        let cancel = AtomicBool::new(false);
        let ctx = Context { cache_dir: cache.path(), reporter: &crate::Silent, cancel: &cancel };
        let lock = ctx.lock().unwrap();
        let patient = Timing { silence: Duration::from_secs(600), ..TIMING };
        let fetcher = Fetcher::new(&ctx, &lock, patient).unwrap();
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.log().is_empty() {
                    std::thread::yield_now();
                }
                cancel.store(true, Ordering::Relaxed);
            });
            let end = fetcher.text(&PLACE, &format!("{}/file", server.url()), "*/*", None);
            assert!(matches!(end, Err(Error::Cancelled { .. })), "{end:?}");
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}
