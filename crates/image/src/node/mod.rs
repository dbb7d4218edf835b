//! The node image: Debian, Kubernetes, and every OCI image that a cluster needs.

mod check;
mod rootfs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

pub use check::CHECK_IMAGE;
use serde::{Deserialize, Serialize};

use crate::cache::{BuildLock, BuiltImage, Context, image_name};
use crate::debian::{self, Debian, Kernel};
use crate::error::{Error, Result};
use crate::manifest::{ContainerImage, DISK, INITRD, KERNEL, Manifest, Purpose};
use crate::source::{HOST_PROGRAMS, Kubernetes, Release, Source};
use crate::version::Version;
use crate::{busybox, digest, disk, initrd, kmod, modules_source, publish, release_source};

/// Label of the root file system.
const ROOT_LABEL: &str = "ashlar-root";
const INIT: &str = include_str!("../../assets/node-init.sh");
/// What finds and mounts the root disk. Everything else is loaded by udev from the root file system.
const INITRD_MODULES: &[&str] = &["virtio_scsi", "virtio_blk", "sd_mod", "ext4"];

/// What decides a node image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// `v1.37.2`.
    pub kubernetes_version: String,
    /// Where Kubernetes comes from.
    pub source: Source,
    /// Where Debian comes from.
    pub debian: Debian,
    /// Version of flannel.
    pub flannel_version: String,
    /// Smallest size of a root disk, in GiB; a larger one is filled at first boot.
    pub disk_size_gib: u32,
    /// Where released Kubernetes is published. It decides an image only if that is its source.
    #[serde(skip)]
    pub release: Release,
}

impl BuildRequest {
    /// The defaults for a Kubernetes version.
    pub fn new(kubernetes_version: impl Into<String>) -> Self {
        Self {
            kubernetes_version: kubernetes_version.into(),
            source: Source::Auto,
            debian: Debian::default(),
            flannel_version: "v0.28.10".to_owned(),
            disk_size_gib: 8,
            release: Release::default(),
        }
    }
}

/// Raised when the code below makes something else of the same inputs.
const RECIPE: u32 = 5;

#[derive(Serialize)]
struct Inputs<'a> {
    recipe: u32,
    request: &'a BuildRequest,
    packages: &'a [&'a str],
    excluded: &'a [&'a str],
    files: &'a [(&'a str, u32, &'a str)],
    finish: &'a str,
    init: &'a str,
    modules: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'a Release>,
}

/// Builds the node image of a Kubernetes version, or returns the one that is there. Needs root, because files of a
/// Linux system belong to its users.
///
/// # Errors
/// See [`Error`]; a failed build leaves nothing but finished stages.
pub fn build_node_image(ctx: &Context<'_>, request: &BuildRequest) -> Result<BuiltImage> {
    let version: Version = request.kubernetes_version.parse()?;
    let mut request = request.clone();
    request.kubernetes_version = version.to_string();
    if request.source == Source::Auto {
        match choose(ctx, &request, &version)? {
            Choice::There(image) => return Ok(*image),
            Choice::From(source) => request.source = source,
        }
    }
    let (name, inputs_digest) = identity(&request);
    if let Some(image) = publish::existing(ctx, &name)? {
        return Ok(image);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::invalid(
            "node image",
            "building a node image needs root; run the command with sudo",
        ));
    }
    let lock = ctx.lock()?;
    if let Some(image) = publish::existing(ctx, &name)? {
        return Ok(image);
    }
    let flannel = &request.flannel_version;
    let kubernetes = match request.source {
        Source::Release => release_source::prepare(ctx, &lock, &version, flannel, &request.release)?,
        _ => modules_source::prepare(ctx, &lock, &version, flannel, &request.debian)?,
    };
    assemble(ctx, &lock, &request, name, inputs_digest, kubernetes)
}

/// What `auto` comes to.
enum Choice {
    There(Box<BuiltImage>),
    From(Source),
}

/// An image that is there, whatever it was made from; else the first source that answers.
fn choose(ctx: &Context<'_>, request: &BuildRequest, version: &Version) -> Result<Choice> {
    for source in [Source::Release, Source::Modules] {
        let (name, _) = identity(&BuildRequest { source, ..request.clone() });
        if let Some(image) = publish::existing(ctx, &name)? {
            return Ok(Choice::There(Box::new(image)));
        }
    }
    let Some(objection) = release_source::objection(ctx, &request.release, version)? else {
        ctx.reporter
            .note(&format!("source: release ({} and the registries answer)", request.release.release_url));
        return Ok(Choice::From(Source::Release));
    };
    match modules_source::objection(ctx)? {
        None => {
            ctx.reporter.note(&format!("source: modules, built here (release: {objection})"));
            Ok(Choice::From(Source::Modules))
        }
        Some(modules) => Err(Error::NoSource { version: version.to_string(), release: objection, modules }),
    }
}

/// Name and inputs digest of the image that a request comes to.
fn identity(request: &BuildRequest) -> (String, String) {
    let digest = inputs_digest(request);
    (image_name(&format!("node-{}", request.kubernetes_version), &digest), digest)
}

fn inputs_digest(request: &BuildRequest) -> String {
    digest::of_inputs(&Inputs {
        recipe: RECIPE,
        request,
        packages: rootfs::PACKAGES,
        excluded: rootfs::EXCLUDED,
        files: rootfs::FILES,
        finish: rootfs::FINISH,
        init: INIT,
        modules: INITRD_MODULES,
        release: (request.source == Source::Release).then_some(&request.release),
    })
}

fn assemble(
    ctx: &Context<'_>,
    lock: &BuildLock,
    request: &BuildRequest,
    name: String,
    inputs_digest: String,
    mut kubernetes: Kubernetes,
) -> Result<BuiltImage> {
    let debian = &request.debian;
    let kernel_dir = busybox::packages(ctx, lock, debian)?;
    kubernetes.archives.push(check::archive(ctx, lock, &kernel_dir)?);
    kubernetes
        .images
        .push(ContainerImage { reference: CHECK_IMAGE.to_owned(), version: "stable".to_owned() });
    const BASE: &str = "Debian packages";
    let base = ctx.stage(lock, BASE, &(debian, rootfs::PACKAGES, rootfs::EXCLUDED), |dir| {
        rootfs::install(ctx, BASE, debian, &dir.join("root"))
    })?;
    let work = ctx.temp_dir("root file system")?;
    let root = work.path().join("root");
    let kernel = Kernel::find("root file system", &kernel_dir)?;
    ctx.step("root file system", || {
        const STAGE: &str = "root file system";
        rootfs::copy_tree(ctx, STAGE, &base.join("root"), &root)?;
        let modules = root.join("usr/lib/modules");
        fs::create_dir_all(&modules).map_err(Error::io(STAGE, "create", &modules))?;
        rootfs::copy_tree(ctx, STAGE, &kernel.modules_dir, &modules)?;
        let config = root.join(format!("boot/config-{}", kernel.release));
        fs::copy(&kernel.config, &config).map_err(Error::io(STAGE, "copy", &kernel.config))?;
        let pause =
            format!("{}/pause:{}", kubernetes.contents.image_repository, kubernetes.contents.pause_tag);
        rootfs::write_files(STAGE, &root, &pause)?;
        rootfs::add_programs(STAGE, &root, &kubernetes.programs_dir, &HOST_PROGRAMS)
    })?;
    ctx.step("import OCI images", || {
        const STAGE: &str = "import OCI images";
        let present = rootfs::finish(ctx, STAGE, &root, &kernel.release, &kubernetes.archives)?;
        let present: BTreeSet<&str> = present.iter().map(String::as_str).collect();
        match kubernetes.images.iter().find(|image| !present.contains(image.reference.as_str())) {
            None => Ok(()),
            Some(image) => Err(Error::invalid(
                STAGE,
                format!("{} did not arrive in the node's containerd", image.reference),
            )),
        }
    })?;
    if let Some(plugins) = &kubernetes.cni_plugins_dir {
        rootfs::add_cni_plugins("CNI plugins", &root, plugins)?;
    }
    let out = ctx.temp_dir("disk")?;
    let virtual_size_bytes = u64::from(request.disk_size_gib) << 30;
    ctx.step("kernel and initrd", || kernel_files(ctx, &kernel, &kernel_dir, out.path()))?;
    ctx.step("disk", || {
        disk::ext4_qcow2(ctx, "disk", &out.path().join(DISK), ROOT_LABEL, virtual_size_bytes, &root)
    })?;
    let manifest = Manifest {
        name,
        purpose: Purpose::Node,
        inputs_digest,
        kubernetes_version: Some(request.kubernetes_version.clone()),
        os: debian::pretty_name("node image", &root)?,
        arch: "x86_64".to_owned(),
        kubernetes: Some(kubernetes.contents),
        container_images: kubernetes.images,
        packages: debian::packages("node image", &root)?,
        files: BTreeMap::new(),
        virtual_size_bytes,
        kernel_command_line: format!("root=LABEL={ROOT_LABEL} ro console=ttyS0 net.ifnames=0 quiet panic=30"),
        created: String::new(),
    };
    ctx.step("publish", || publish::publish(ctx, lock, out, manifest))
}

fn kernel_files(ctx: &Context<'_>, kernel: &Kernel, kernel_dir: &Path, out: &Path) -> Result<()> {
    const STAGE: &str = "kernel and initrd";
    let target = out.join(KERNEL);
    fs::copy(&kernel.image, &target).map_err(Error::io(STAGE, "copy", &kernel.image))?;
    let modules = kmod::load_order(STAGE, &kernel.modules_dir, INITRD_MODULES, ctx.cancel)?;
    initrd::busybox(STAGE, &out.join(INITRD), &kernel_dir.join("usr/bin/busybox"), INIT, &modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_an_image_is_in_its_name_and_nothing_else() {
        let request = BuildRequest::new("v1.37.2");
        assert_eq!(inputs_digest(&request), inputs_digest(&request.clone()));
        let mut other = request.clone();
        other.disk_size_gib += 1;
        assert_ne!(inputs_digest(&request), inputs_digest(&other));
    }

    #[test]
    fn where_releases_are_published_decides_only_images_made_of_them() {
        let other = Release { release_url: "https://mirror.example".to_owned(), ..Release::default() };
        for (source, differs) in [(Source::Modules, false), (Source::Release, true)] {
            let request = BuildRequest { source, ..BuildRequest::new("v1.37.2") };
            let elsewhere = BuildRequest { release: other.clone(), ..request.clone() };
            assert_eq!(inputs_digest(&request) != inputs_digest(&elsewhere), differs, "{source}");
        }
    }

    #[test]
    fn every_file_under_assets_is_part_of_the_image() {
        fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/rootfs");
        let mut found = BTreeSet::new();
        walk(&root, &root, &mut found);
        let named: BTreeSet<String> = rootfs::FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        assert_eq!(found, named);
    }
}
