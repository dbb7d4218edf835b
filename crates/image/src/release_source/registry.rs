//! Images from an OCI registry: tag → index → the manifest for linux/amd64 → configuration and layers, each verified
//! against the digest that led to it. Anonymous, with the token that public registries hand out.

use std::cell::RefCell;
use std::fs;

use serde::Deserialize;

use super::archive::{Blob, Pulled};
use crate::error::{Error, Result};
use crate::fetch::{Algorithm, Authorizer, Checksum, Fetcher, Place, Wanted};

const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// What containerd unpacks; anything else is not in the registry, or no file system.
const LAYER_TYPES: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// A registry, with a path under which its repositories lie.
pub(super) struct Registry<'a> {
    fetcher: &'a Fetcher<'a>,
    base: Base,
    /// The option that names it.
    option: &'a str,
}

/// Scheme, server and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    server: String,
    path: String,
}

impl Base {
    /// Takes `https://mirror.example/k8s`, `http://10.0.0.1:5000` and `registry.k8s.io`.
    pub(super) fn parse(text: &str, option: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let (server, path) =
            rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        if server.is_empty() || !["http", "https"].contains(&scheme) || server.contains([' ', '@']) {
            return Err(Error::invalid(
                "registry",
                format!(
                    "`{option} {text}` names no registry; write it as in https://registry.example.org:5000/mirror"
                ),
            ));
        }
        let path = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Self { server: format!("{scheme}://{server}"), path })
    }

    /// What every registry answers.
    pub(super) fn ping_url(&self) -> String {
        format!("{}/v2/", self.server)
    }

    fn url(&self, repository: &str, kind: &str, reference: &str) -> String {
        format!("{}/v2/{}{repository}/{kind}/{reference}", self.server, self.path)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// An index has `manifests`, a manifest has `config` and `layers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(fetcher: &'a Fetcher<'a>, url: &str, option: &'a str) -> Result<Self> {
        Ok(Self { fetcher, base: Base::parse(url, option)?, option })
    }

    /// Fetches an image; `reference` is the name it will have on the node.
    pub(super) fn pull(&self, stage: &str, reference: &str, repository: &str, tag: &str) -> Result<Pulled> {
        let if_missing = format!(
            "name a registry that has {repository}:{tag} with `{} URL`, or build with `--source modules`",
            self.option
        );
        let place = Place { stage, option: self.option, if_missing: &if_missing };
        let token =
            Token { repository: format!("{}{repository}", self.base.path), value: RefCell::new(None) };
        let (mut url, mut bytes, mut document) = self.document(&place, repository, tag, None, &token)?;
        if document.config.is_none() {
            let chosen = choose(&document.manifests).map_err(|cause| place.elsewhere(&url, &cause))?;
            let digest = digest_of(&place, &url, chosen)?;
            (url, bytes, document) =
                self.document(&place, repository, &chosen.digest, Some(&digest), &token)?;
        }
        let Some(config) = &document.config else {
            return Err(place.elsewhere(&url, "this is an index of indexes, and no image"));
        };
        let config_blob = self.blob(&place, repository, &url, config, &token)?;
        let platform = fs::read(&config_blob.path)
            .map_err(Error::io(stage, "read", &config_blob.path))
            .map(|text| serde_json::from_slice::<Platform>(&text))?
            .map_err(|e| place.elsewhere(&url, &format!("its configuration is not understood ({e})")))?;
        if !is_ours(&platform) {
            let cause = format!(
                "this image is for {}/{}, and nodes are linux/amd64",
                platform.os, platform.architecture
            );
            return Err(place.elsewhere(&url, &cause));
        }
        let mut blobs = vec![config_blob];
        for layer in &document.layers {
            if !LAYER_TYPES.contains(&layer.media_type.as_str()) {
                let cause = format!("a layer is of type `{}`, which no node unpacks", layer.media_type);
                return Err(place.elsewhere(&url, &cause));
            }
            blobs.push(self.blob(&place, repository, &url, layer, &token)?);
        }
        let media_type =
            if document.media_type.is_empty() { MANIFEST_TYPES[0] } else { document.media_type.as_str() };
        Ok(Pulled {
            reference: reference.to_owned(),
            url,
            digest: Checksum::of_bytes(Algorithm::Sha256, &bytes),
            media_type: media_type.to_owned(),
            manifest: bytes,
            blobs,
        })
    }

    /// An index or a manifest, by tag or by digest.
    fn document(
        &self,
        place: &Place<'_>,
        repository: &str,
        reference: &str,
        expected: Option<&Checksum>,
        token: &Token,
    ) -> Result<(String, Vec<u8>, Document)> {
        let url = self.base.url(repository, "manifests", reference);
        let accept = [INDEX_TYPES, MANIFEST_TYPES].concat().join(", ");
        let text = self.fetcher.text(place, &url, &accept, Some(token))?;
        let announced = text.digest.as_deref().and_then(Checksum::from_oci);
        if let Some(expected) = expected.or(announced.as_ref()) {
            let actual = Checksum::of_bytes(expected.algorithm, &text.bytes);
            if actual != *expected {
                return Err(Error::Digest {
                    stage: place.stage.to_owned(),
                    subject: url,
                    expected: expected.to_string(),
                    actual: actual.to_string(),
                    hint: format!("the registry is damaged: name another one with `{} URL`", place.option),
                });
            }
        }
        match serde_json::from_slice::<Document>(&text.bytes) {
            Ok(document) if document.config.is_some() || !document.manifests.is_empty() => {
                Ok((url, text.bytes, document))
            }
            Ok(_) => Err(place.elsewhere(&url, "this is neither an image nor an index of images")),
            Err(error) => {
                let cause = format!("this is no manifest but `{}` ({error})", text.content_type);
                Err(place.elsewhere(&url, &cause))
            }
        }
    }

    fn blob(
        &self,
        place: &Place<'_>,
        repository: &str,
        manifest_url: &str,
        descriptor: &Descriptor,
        token: &Token,
    ) -> Result<Blob> {
        let checksum = digest_of(place, manifest_url, descriptor)?;
        let url = self.base.url(repository, "blobs", &descriptor.digest);
        let wanted = Wanted { url: &url, checksum: &checksum, size_bytes: Some(descriptor.size) };
        let path = self.fetcher.file(place, &wanted, Some(token))?;
        Ok(Blob { checksum, path })
    }
}

fn digest_of(place: &Place<'_>, url: &str, descriptor: &Descriptor) -> Result<Checksum> {
    Checksum::from_oci(&descriptor.digest).ok_or_else(|| {
        place.elsewhere(url, &format!("`{}` is no digest that can be verified", descriptor.digest))
    })
}

fn is_ours(platform: &Platform) -> bool {
    platform.os == "linux" && platform.architecture == "amd64"
}

fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let platform = |one: &Descriptor| one.platform.clone();
    if let Some(ours) = manifests.iter().find(|one| platform(one).is_some_and(|p| is_ours(&p))) {
        return Ok(ours);
    }
    let mut others: Vec<String> = manifests
        .iter()
        .filter_map(platform)
        .filter(|platform| platform.os != "unknown")
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .collect();
    others.sort();
    others.dedup();
    let others = if others.is_empty() { "no platform at all".to_owned() } else { others.join(", ") };
    Err(format!("there is no image for linux/amd64; there is one for {others}"))
}

/// The bearer token of one repository.
struct Token {
    repository: String,
    value: RefCell<Option<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authorizer for Token {
    fn header(&self) -> Option<String> {
        self.value.borrow().as_ref().map(|token| format!("Bearer {token}"))
    }

    fn answer(&self, fetcher: &Fetcher<'_>, place: &Place<'_>, challenge: &str) -> Result<bool> {
        let Some(url) = token_url(challenge, &self.repository) else { return Ok(false) };
        // One that has run out does not help to get the next.
        self.value.replace(None);
        let place = Place { if_missing: "the registry names a token server that does not know it", ..*place };
        let text = fetcher.text(&place, &url, "application/json", None)?;
        let answer: TokenAnswer = serde_json::from_slice(&text.bytes)
            .map_err(|_| place.elsewhere(&url, "the answer holds no token"))?;
        let token = answer.token.or(answer.access_token);
        let is_there = token.is_some();
        self.value.replace(token);
        Ok(is_there)
    }
}

/// `Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:x:pull"` as the address to ask.
fn token_url(challenge: &str, repository: &str) -> Option<String> {
    let parameters = challenge.strip_prefix("Bearer ").or_else(|| challenge.strip_prefix("bearer "))?;
    let parameter = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let realm = parameter("realm")?;
    let scope = parameter("scope").unwrap_or_else(|| format!("repository:{repository}:pull"));
    let separator = if realm.contains('?') { '&' } else { '?' };
    let service = parameter("service").map(|service| format!("service={}&", escaped(&service)));
    Some(format!("{realm}{separator}{}scope={}", service.unwrap_or_default(), escaped(&scope)))
}

/// For a query: what these names may hold beside letters and digits is kept, all else is escaped.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b',' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_with_or_without_scheme_and_path() {
        let url = |text: &str| Base::parse(text, "--registry").unwrap().url("etcd", "manifests", "3");
        assert_eq!(url("registry.k8s.io"), "https://registry.k8s.io/v2/etcd/manifests/3");
        assert_eq!(url("http://10.0.0.1:5000/"), "http://10.0.0.1:5000/v2/etcd/manifests/3");
        assert_eq!(url("https://m.example/a/b/"), "https://m.example/v2/a/b/etcd/manifests/3");
        let error = Base::parse("ftp://x", "--registry").unwrap_err();
        insta::assert_snapshot!(error, @"registry: `--registry ftp://x` names no registry; write it as in https://registry.example.org:5000/mirror");
    }

    #[test]
    fn a_challenge_says_where_tokens_are() {
        let url = |challenge: &str| token_url(challenge, "a/b");
        assert_eq!(
            url(r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull""#)
                .unwrap(),
            "https://ghcr.io/token?service=ghcr.io&scope=repository:a/b:pull"
        );
        assert_eq!(
            url(r#"Bearer realm="https://t/x?y=1""#).unwrap(),
            "https://t/x?y=1&scope=repository:a/b:pull"
        );
        assert_eq!(url(r#"Basic realm="x""#), None);
    }
}
