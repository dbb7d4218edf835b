//! Kubernetes as it is released: binaries and CNI plugins from web servers, images from OCI registries.

mod archive;
mod elf;
mod probe;
mod programs;
mod registry;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

pub(crate) use probe::objection;

use crate::cache::{BuildLock, Context};
use crate::error::{Error, Result};
use crate::fetch::{Fetcher, Timing};
use crate::kubeadm;
use crate::manifest::{ContainerImage, Download, KubernetesContents};
use crate::source::{FLANNEL_IMAGE, Kubernetes, REPOSITORY, Release};
use crate::version::Version;

/// Raised when the code below makes something else of the same inputs.
const RECIPE: u32 = 1;
/// What a stage downloaded, kept in its directory.
const DOWNLOADS: &str = "downloads.json";
/// flannel's repository in its registry.
const FLANNEL_REPOSITORY: &str = "flannel-io/flannel";

/// Fetches everything that is not here yet.
pub(crate) fn prepare(
    ctx: &Context<'_>,
    lock: &BuildLock,
    version: &Version,
    flannel: &str,
    release: &Release,
) -> Result<Kubernetes> {
    prepare_within(ctx, lock, version, flannel, release, Timing::DOWNLOAD)
}

fn prepare_within(
    ctx: &Context<'_>,
    lock: &BuildLock,
    version: &Version,
    flannel: &str,
    release: &Release,
    timing: Timing,
) -> Result<Kubernetes> {
    let wanted = version.to_string();
    let fetcher = Fetcher::new(ctx, lock, timing)?;
    let stage = format!("Kubernetes {version} as released");
    let programs = ctx.stage(lock, &stage, &(RECIPE, &release.release_url, &wanted), |dir| {
        let fetched = programs::kubernetes(ctx, &fetcher, &stage, release, version, &dir.join("bin"))?;
        keep(&stage, dir, &fetched)
    })?;
    let cni_version = &release.cni_plugins_version;
    let stage = format!("CNI plugins {cni_version} as released");
    let plugins = ctx.stage(lock, &stage, &(RECIPE, programs::cni_url(release)), |dir| {
        let fetched = programs::cni_plugins(ctx, &fetcher, &stage, release, &dir.join("bin"))?;
        keep(&stage, dir, &fetched)
    })?;

    let stage = format!("OCI images of {version} as released");
    let named = kubeadm::images(ctx, &stage, &programs.join("bin/kubeadm"), version)?;
    let tag = |name: &str| kubeadm::tag(&stage, &named, name);
    let (etcd_tag, coredns_tag, pause_tag) = (tag("etcd")?, tag("coredns/coredns")?, tag("pause")?);
    let flannel_image = format!("{FLANNEL_IMAGE}:{flannel}");
    let inputs = (RECIPE, &release.registry, &release.flannel_registry, &named, flannel);
    let archive = ctx.stage(lock, &stage, &inputs, |dir| {
        let kubernetes = registry::Registry::new(&fetcher, &release.registry, "--registry")?;
        let mut pulled = Vec::new();
        for (name, tag) in &named {
            pulled.push(kubernetes.pull(&stage, &format!("{REPOSITORY}/{name}:{tag}"), name, tag)?);
        }
        let others = registry::Registry::new(&fetcher, &release.flannel_registry, "--flannel-registry")?;
        pulled.push(others.pull(&stage, &flannel_image, FLANNEL_REPOSITORY, flannel)?);
        archive::write(&stage, &dir.join("images.tar"), &pulled)?;
        let fetched: Vec<Download> = pulled
            .iter()
            .map(|image| Download { url: image.url.clone(), digest: image.digest.to_string() })
            .collect();
        keep(&stage, dir, &fetched)
    })?;
    let mut downloads = Vec::new();
    for dir in [&programs, &plugins, &archive] {
        downloads.extend(kept(&stage, dir)?);
    }
    fetcher.clear()?;

    let mut images: Vec<ContainerImage> = named
        .iter()
        .map(|(name, tag)| ContainerImage {
            reference: format!("{REPOSITORY}/{name}:{tag}"),
            version: if name == "etcd" { etcd_version(tag) } else { tag.clone() },
        })
        .collect();
    images.push(ContainerImage { reference: flannel_image.clone(), version: flannel.to_owned() });
    Ok(Kubernetes {
        programs_dir: programs.join("bin"),
        cni_plugins_dir: Some(plugins.join("bin")),
        archives: vec![archive.join("images.tar")],
        contents: KubernetesContents {
            source: "release".to_owned(),
            toolchain: None,
            image_repository: REPOSITORY.to_owned(),
            etcd_default_tag: etcd_tag.clone(),
            etcd_tag,
            coredns_default_tag: coredns_tag.clone(),
            coredns_tag,
            pause_tag,
            flannel_image,
            flannel_version: flannel.to_owned(),
            cni_plugins_version: Some(cni_version.clone()),
            downloads,
        },
        images,
    })
}

/// kubeadm's etcd tags are the version with a build number of the image: 3.7.0-0.
fn etcd_version(tag: &str) -> String {
    format!("v{}", tag.split('-').next().unwrap_or(tag))
}

fn keep(stage: &str, dir: &Path, downloads: &[Download]) -> Result<()> {
    let path = dir.join(DOWNLOADS);
    let text = serde_json::to_vec_pretty(downloads)
        .map_err(|e| Error::invalid(stage, format!("the list of downloads cannot be written: {e}")))?;
    fs::write(&path, text).map_err(Error::io(stage, "write", &path))
}

fn kept(stage: &str, dir: &Path) -> Result<Vec<Download>> {
    let path = dir.join(DOWNLOADS);
    let text = fs::read(&path).map_err(Error::io(stage, "read", &path))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::invalid(stage, format!("{}: {e}; remove {}", path.display(), dir.display())))
}
