//! Kubernetes from Go modules, for places that reach a module registry and nothing else.

mod components;
mod go;
mod kubernetes;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{BuildLock, Context, remove_tree};
use crate::debian::Debian;
use crate::error::{Error, Result};
use crate::kubeadm;
use crate::manifest::{ContainerImage, KubernetesContents};
use crate::oci::{self, Content, Image, Layer};
use crate::source::{FLANNEL_IMAGE, Kubernetes, REPOSITORY};
use crate::version::Version;

/// Raised when a recipe below changes what it makes from the same versions.
const RECIPE: u32 = 1;
/// What kube-proxy and flannel run.
const NETFILTER_PACKAGES: &[&str] = &["nftables", "iptables", "conntrack"];

/// Versions beside Kubernetes's own, as they are served.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Versions {
    etcd: String,
    etcd_default_tag: String,
    coredns: String,
    coredns_default_tag: String,
    pause_tag: String,
}

/// Why nothing can be built from modules here, and what to do; none if it can be tried.
pub(crate) fn objection(ctx: &Context<'_>) -> Result<Option<String>> {
    match go::version(ctx) {
        Ok(_) => Ok(None),
        Err(error @ Error::Cancelled { .. }) => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// Builds everything that is not built yet.
pub(crate) fn prepare(
    ctx: &Context<'_>,
    lock: &BuildLock,
    version: &Version,
    flannel: &str,
    debian: &Debian,
) -> Result<Kubernetes> {
    let wanted = version.to_string();
    let go_version = go::version(ctx)?;
    let stage = format!("Kubernetes {version} from modules");
    let inputs = kubernetes::Inputs { recipe: RECIPE, version: &wanted, programs: &kubernetes::PROGRAMS };
    let kubernetes_dir = ctx
        .stage(lock, &stage, &inputs, |dir| kubernetes::build(ctx, &stage, version, &dir.join("bin")))?
        .join("bin");
    let versions = component_versions(ctx, lock, &kubernetes_dir, version)?;
    let build = |name: &str, version: &str, make: &dyn Fn(&str, &Path) -> Result<()>| {
        let stage = format!("{name} {version} from modules");
        ctx.stage(lock, &stage, &(RECIPE, name, version), |dir| make(&stage, dir))
    };
    let etcd = build("etcd", &versions.etcd, &|s, dir| components::etcd(ctx, s, &versions.etcd, dir))?;
    let coredns =
        build("CoreDNS", &versions.coredns, &|s, dir| components::coredns(ctx, s, &versions.coredns, dir))?;
    let flanneld = build("flannel", flannel, &|s, dir| components::flannel(ctx, s, flannel, dir))?;
    let pause = build("pause", &versions.pause_tag, &|s, dir| components::pause(ctx, s, dir))?;
    let netfilter = ctx.stage(lock, "netfilter programs", &(RECIPE, debian, NETFILTER_PACKAGES), |dir| {
        debian.extract(ctx, "netfilter programs", NETFILTER_PACKAGES, &dir.join("root"))?;
        // Character sets are a third of it, and nothing here converts any.
        let gconv = dir.join("root/usr/lib/x86_64-linux-gnu/gconv");
        if gconv.is_dir() { remove_tree("netfilter programs", &gconv) } else { Ok(()) }
    })?;

    let etcd_tag = tag_of_etcd(&versions);
    let component = |name: &str, tag: &str, version: &str| ContainerImage {
        reference: format!("{REPOSITORY}/{name}:{tag}"),
        version: version.to_owned(),
    };
    let flannel_image = format!("{FLANNEL_IMAGE}:{flannel}");
    let images = vec![
        component("kube-apiserver", &wanted, &wanted),
        component("kube-controller-manager", &wanted, &wanted),
        component("kube-scheduler", &wanted, &wanted),
        component("kube-proxy", &wanted, &wanted),
        component("etcd", &etcd_tag, &versions.etcd),
        component("coredns/coredns", &versions.coredns, &versions.coredns),
        component("pause", &versions.pause_tag, &versions.pause_tag),
        ContainerImage { reference: flannel_image.clone(), version: flannel.to_owned() },
    ];
    let dirs = Dirs {
        kubernetes: &kubernetes_dir,
        etcd: &etcd,
        coredns: &coredns,
        flanneld: &flanneld,
        pause: &pause,
        netfilter: &netfilter,
    };
    let stage = format!("OCI images of {version}");
    let archive = ctx.stage(lock, &stage, &(RECIPE, &images, dirs.names()), |dir| {
        write_images(&stage, &dir.join("images.tar"), &dirs, &images)
    })?;
    Ok(Kubernetes {
        programs_dir: kubernetes_dir.clone(),
        cni_plugins_dir: None,
        archives: vec![archive.join("images.tar")],
        contents: KubernetesContents {
            source: "modules".to_owned(),
            toolchain: Some(go_version),
            image_repository: REPOSITORY.to_owned(),
            etcd_tag,
            etcd_default_tag: versions.etcd_default_tag,
            coredns_tag: versions.coredns,
            coredns_default_tag: versions.coredns_default_tag,
            pause_tag: versions.pause_tag,
            flannel_image,
            flannel_version: flannel.to_owned(),
            cni_plugins_version: None,
            downloads: Vec::new(),
        },
        images,
    })
}

/// An image says what it is: kubeadm's tag only where that very version is inside.
fn tag_of_etcd(versions: &Versions) -> String {
    let plain = versions.etcd.trim_start_matches('v');
    if versions.etcd_default_tag.split('-').next() == Some(plain) {
        versions.etcd_default_tag.clone()
    } else {
        format!("{plain}-0")
    }
}

fn component_versions(
    ctx: &Context<'_>,
    lock: &BuildLock,
    programs: &Path,
    version: &Version,
) -> Result<Versions> {
    let stage = format!("component versions for {version}");
    let path = ctx
        .stage(lock, &stage, &(RECIPE, version.to_string()), |dir| {
            let images = kubeadm::images(ctx, &stage, &programs.join("kubeadm"), version)?;
            let tag = |name: &str| kubeadm::tag(&stage, &images, name);
            let etcd_default_tag = tag("etcd")?;
            let coredns_default_tag = tag("coredns/coredns")?;
            // kubeadm's etcd tags are the version with a build number of the image: 3.7.0-0.
            let etcd_wanted = format!("v{}", etcd_default_tag.split('-').next().unwrap_or_default());
            let versions = Versions {
                etcd: served(ctx, &stage, components::ETCD, &etcd_wanted)?,
                coredns: served(ctx, &stage, components::COREDNS, &coredns_default_tag)?,
                etcd_default_tag,
                coredns_default_tag,
                pause_tag: tag("pause")?,
            };
            let path = dir.join("versions.json");
            let text = serde_json::to_vec_pretty(&versions)
                .map_err(|e| Error::invalid(&stage, format!("versions cannot be written: {e}")))?;
            fs::write(&path, text).map_err(Error::io(&stage, "write", &path))
        })?
        .join("versions.json");
    let text = fs::read(&path).map_err(Error::io(&stage, "read", &path))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::invalid(&stage, format!("{}: {e}; remove that directory", path.display())))
}

fn served(ctx: &Context<'_>, stage: &str, module: &str, wanted: &str) -> Result<String> {
    let all = go::versions(ctx, stage, module)?;
    let found = go::nearest(&all, wanted).ok_or_else(|| {
        Error::invalid(
            stage,
            format!("the module registry serves no version near {module} {wanted}; it has {}", all.join(" ")),
        )
    })?;
    if found != wanted {
        ctx.reporter
            .note(&format!("{module}: {wanted} is not served, {found} is taken and its image tagged so"));
    }
    Ok(found)
}

struct Dirs<'a> {
    kubernetes: &'a Path,
    etcd: &'a Path,
    coredns: &'a Path,
    flanneld: &'a Path,
    pause: &'a Path,
    netfilter: &'a Path,
}

impl Dirs<'_> {
    /// Stage directories are named by digest, so their names stand for what is in them.
    fn names(&self) -> Vec<String> {
        [
            self.kubernetes.parent().unwrap_or(self.kubernetes),
            self.etcd,
            self.coredns,
            self.flanneld,
            self.pause,
            self.netfilter,
        ]
        .iter()
        .filter_map(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()))
        .collect()
    }
}

fn write_images(stage: &str, out: &Path, dirs: &Dirs<'_>, images: &[ContainerImage]) -> Result<()> {
    let mut layers = vec![netfilter_layer(&dirs.netfilter.join("root"))];
    let mut built = Vec::new();
    for image in images {
        let name = image.reference.rsplit_once(':').map_or(image.reference.as_str(), |(name, _)| name);
        let name = name.strip_prefix(REPOSITORY).map_or(name, |n| n.trim_start_matches('/'));
        let (files, entrypoint, netfilter): (Vec<(PathBuf, &str)>, &str, bool) = match name {
            "etcd" => (
                ["etcd", "etcdctl", "etcdutl"].iter().map(|p| (dirs.etcd.join(p), "usr/local/bin")).collect(),
                "/usr/local/bin/etcd",
                false,
            ),
            "coredns/coredns" => (vec![(dirs.coredns.join("coredns"), "")], "/coredns", false),
            "pause" => (vec![(dirs.pause.join("pause"), "")], "/pause", false),
            "kube-proxy" => {
                (vec![(dirs.kubernetes.join(name), "usr/local/bin")], "/usr/local/bin/kube-proxy", true)
            }
            FLANNEL_IMAGE => (vec![(dirs.flanneld.join("flanneld"), "opt/bin")], "/opt/bin/flanneld", true),
            _ => (vec![(dirs.kubernetes.join(name), "usr/local/bin")], "", false),
        };
        let mut contents = if netfilter { Vec::new() } else { base_files() };
        for (from, dir) in files {
            let file = from.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
            let to = if dir.is_empty() { file } else { format!("{dir}/{file}") };
            contents.push(Content::File { from, to, mode: 0o755 });
        }
        layers.push(Layer { name: name.to_owned(), contents });
        let own = layers.len() - 1;
        let default = format!("/usr/local/bin/{name}");
        let entrypoint = if entrypoint.is_empty() { default } else { entrypoint.to_owned() };
        built.push(Image {
            reference: image.reference.clone(),
            layers: if netfilter { vec![0, own] } else { vec![own] },
            entrypoint: vec![entrypoint],
        });
    }
    oci::write_archive(stage, out, &layers, &built)
}

fn base_files() -> Vec<Content> {
    let text = |to: &str, text: &str| Content::Text { to: to.to_owned(), text: text.to_owned() };
    vec![
        text(
            "etc/passwd",
            "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
        ),
        text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        text("etc/nsswitch.conf", "hosts: files dns\n"),
        Content::Dir { to: "tmp".to_owned(), mode: 0o1777 },
    ]
}

/// nft, iptables and conntrack with their libraries. Extracted packages have no links at the root, and without
/// `/lib64` a dynamic program fails with "no such file" although it is there: the loader is what is missing.
fn netfilter_layer(root: &Path) -> Layer {
    let link = |to: &str, target: &str| Content::Link { to: to.to_owned(), target: target.to_owned() };
    let mut contents = base_files();
    for dir in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc/alternatives"] {
        let from = root.join(dir);
        if from.is_dir() {
            contents.push(Content::Tree { from, to: dir.to_owned() });
        }
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        contents.push(link(dir, &format!("usr/{dir}")));
    }
    // What the package's maintainer scripts would have linked.
    for tool in
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"]
    {
        contents.push(link(&format!("usr/sbin/{tool}"), "xtables-nft-multi"));
    }
    Layer { name: "netfilter".to_owned(), contents }
}
