//! Few questions of the protocol of Amazon's S3, which many services speak: put, list, delete, and look what was put.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind};
use ashlar_engine::vault::Sealed;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, S3Action, UrlStyle};
use sha2::{Digest as _, Sha256};
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, SendBody};

use super::credentials;
use crate::daemon::config::S3Bucket;
use crate::failure::{Context as _, Failure, Result};

/// Signed for so long; a clock that is more than a quarter of an hour off is refused by the service.
const SIGNED_FOR: Duration = Duration::from_secs(5 * 60);
const CONNECT: Duration = Duration::from_secs(10);
/// A question without much content.
const LIMIT: Duration = Duration::from_secs(60);
/// What an upload achieves at the very least.
const BYTES_PER_S: u64 = 1 << 20;
/// More is not put in one piece: the limit of the protocol. Kubernetes' etcd holds 2 GiB, unless it was told otherwise.
const LARGEST: u64 = 5 << 30;
/// Of an error's text, and of a page of a list.
const TEXT_BYTES: u64 = 4 << 20;
const SHA256: &str = "x-amz-checksum-sha256";

/// A bucket at a service.
pub(super) struct Client {
    agent: ureq::Agent,
    bucket: Bucket,
    /// For people.
    name: String,
    credentials_file: PathBuf,
}

/// What is put, with its digest.
pub(super) struct Content {
    bytes: Source,
    length: u64,
    sha256: String,
}

enum Source {
    File(File),
    Bytes(Vec<u8>),
}

impl Content {
    /// All of a file, whose digest is known.
    pub(super) fn of_file(mut file: File, sealed: Sealed) -> std::io::Result<Content> {
        file.rewind()?;
        let sha256 = STANDARD.encode(sealed.sha256);
        Ok(Content { bytes: Source::File(file), length: sealed.bytes, sha256 })
    }

    /// Few bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Content {
        let sha256 = STANDARD.encode(Sha256::digest(bytes));
        Content { bytes: Source::Bytes(bytes.to_vec()), length: bytes.len() as u64, sha256 }
    }
}

impl Client {
    pub(super) fn new(settings: &S3Bucket) -> Result<Client> {
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let wrong =
            |what: String| Failure::new(format!("etcdSnapshots.s3.endpoint {}: {what}", settings.endpoint));
        let endpoint = settings.endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
            .map_err(|error| wrong(error.to_string()))?;
        let root_certs = match &settings.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => {
                let doing = || format!("cannot use etcdSnapshots.s3.caFile {}", path.display());
                let pem = std::fs::read(path).context(doing())?;
                let items: Result<Vec<PemItem<'static>>, ureq::Error> = parse_pem(&pem).collect();
                let certificate = |item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                };
                let certificates: Vec<Certificate<'static>> =
                    items.context(doing())?.into_iter().filter_map(certificate).collect();
                if certificates.is_empty() {
                    return Err(Failure::new("it holds no certificate").because_of(doing()));
                }
                RootCerts::Specific(Arc::new(certificates))
            }
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(root_certs)
            .build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .user_agent(concat!("ashlar/", env!("CARGO_PKG_VERSION")))
            // A redirection would take the signature elsewhere.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(LIMIT))
            .build();
        let name = format!("bucket {} at {}", settings.bucket, settings.endpoint);
        Ok(Client { agent: agent.into(), bucket, name, credentials_file: settings.credentials_file.clone() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Puts an object, and makes sure that it is what was meant.
    pub(super) fn put(&self, key: &str, content: &Content) -> Result<(), EffectError> {
        let doing = format!("cannot write {key} to {}", self.name);
        let Content { bytes, length, sha256 } = content;
        if *length > LARGEST {
            let message = format!("{doing}: its {} GiB are more than an object may have", length >> 30);
            return Err(EffectError::new(EffectErrorKind::Refused, message));
        }
        let credentials = credentials::read(&self.credentials_file)?;
        let mut action = self.bucket.put_object(Some(&credentials), key);
        action.headers_mut().insert(SHA256, sha256.clone());
        let request = self
            .agent
            .put(action.sign(SIGNED_FOR).as_str())
            .config()
            .timeout_global(Some(LIMIT + Duration::from_secs(length / BYTES_PER_S)))
            .build()
            .header(SHA256, sha256)
            .header("content-length", length.to_string());
        let answer = match bytes {
            Source::Bytes(bytes) => request.send(bytes.as_slice()),
            Source::File(file) => {
                let mut reader = file;
                reader.rewind().map_err(|error| {
                    EffectError::new(EffectErrorKind::Exhausted, format!("{doing}: {error}"))
                })?;
                request.send(SendBody::from_reader(&mut reader))
            }
        };
        good(&doing, answer)?;
        self.compare(key, content)
    }

    /// Compares what is there with what was put: by the digest that the service made, or its bytes.
    fn compare(&self, key: &str, content: &Content) -> Result<(), EffectError> {
        let doing = format!("cannot look at {key} in {}", self.name);
        let damaged = || {
            let message = format!("{key} in {} is not what was written to it: its digest differs", self.name);
            Err(EffectError::new(EffectErrorKind::Corrupt, message))
        };
        let credentials = credentials::read(&self.credentials_file)?;
        let mut action = self.bucket.head_object(Some(&credentials), key);
        action.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        let request =
            self.agent.head(action.sign(SIGNED_FOR).as_str()).header("x-amz-checksum-mode", "ENABLED");
        let head = good(&doing, request.call())?;
        let said = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
        if said("content-length").is_some_and(|length| length != content.length.to_string()) {
            return damaged();
        }
        if let Some(there) = said(SHA256) {
            return if there == content.sha256 { Ok(()) } else { damaged() };
        }
        let mut hash = Sha256::new();
        let mut reader = self.get(key, content.length)?.take(content.length + 1);
        let read = std::io::copy(&mut reader, &mut hash)
            .map_err(|error| EffectError::new(EffectErrorKind::Unreachable, format!("{doing}: {error}")))?;
        if read == content.length && STANDARD.encode(hash.finalize()) == content.sha256 {
            Ok(())
        } else {
            damaged()
        }
    }

    /// Reads an object of so many bytes.
    pub(super) fn get(&self, key: &str, length: u64) -> Result<Box<dyn Read>, EffectError> {
        let doing = format!("cannot read {key} in {}", self.name);
        let credentials = credentials::read(&self.credentials_file)?;
        let action = self.bucket.get_object(Some(&credentials), key);
        let request = self
            .agent
            .get(action.sign(SIGNED_FOR).as_str())
            .config()
            .timeout_global(Some(LIMIT + Duration::from_secs(length / BYTES_PER_S)))
            .build();
        Ok(Box::new(good(&doing, request.call())?.into_body().into_reader()))
    }

    /// Deletes an object; fine if there is none.
    pub(super) fn delete(&self, key: &str) -> Result<(), EffectError> {
        let credentials = credentials::read(&self.credentials_file)?;
        let url = self.bucket.delete_object(Some(&credentials), key).sign(SIGNED_FOR);
        let doing = format!("cannot delete {key} in {}", self.name);
        good(&doing, self.agent.delete(url.as_str()).call()).map(drop)
    }

    /// Keys that begin with the prefix, and sizes.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, EffectError> {
        let doing = format!("cannot list {prefix} in {}", self.name);
        let refused = |error: String| EffectError::new(EffectErrorKind::Refused, format!("{doing}: {error}"));
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let credentials = credentials::read(&self.credentials_file)?;
            let mut action = self.bucket.list_objects_v2(Some(&credentials));
            action.with_prefix(prefix);
            if let Some(token) = &token {
                action.with_continuation_token(token);
            }
            let answer = good(&doing, self.agent.get(action.sign(SIGNED_FOR).as_str()).call())?;
            let page = text(answer).map_err(|error| refused(error.to_string()))?;
            let page = ListObjectsV2::parse_response(&page)
                .map_err(|error| refused(format!("the answer is no list of S3: {error}")))?;
            found.extend(
                page.contents.into_iter().map(|object| (object.key, object.size.unwrap_or_default())),
            );
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

fn text(answer: Response<Body>) -> std::io::Result<String> {
    let mut text = String::new();
    answer.into_body().into_reader().take(TEXT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// An answer that is one; else what the service, or the way to it, says. Never the address that was asked, which is signed.
fn good(doing: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, EffectError> {
    let answer = answer.map_err(|error| {
        let why = match &error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(which) => format!("no answer in time ({which})"),
            ureq::Error::HostNotFound => "the name of its server does not resolve".to_owned(),
            ureq::Error::Rustls(error) => error.to_string(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            _ => "the connection failed".to_owned(),
        };
        EffectError::new(EffectErrorKind::Unreachable, format!("{doing}: {why}"))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let said = text(answer).unwrap_or_default();
    let within = |tag: &str| {
        let (_, rest) = said.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(value, _)| value.trim().to_owned())
    };
    let code = within("Code").unwrap_or_default();
    let why = [Some(code.clone()), within("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let kind = match code.as_str() {
        "BadDigest" | "XAmzContentChecksumMismatch" => EffectErrorKind::Corrupt,
        _ if status.is_server_error() => EffectErrorKind::Unreachable,
        _ => EffectErrorKind::Refused,
    };
    Err(EffectError::new(kind, format!("{doing}: {status} {why}").trim_end().to_owned()))
}
