//! kubeadm, kubelet, kubectl and the CNI plugins, as their projects publish them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::elf;
use crate::cache::Context;
use crate::error::{Error, Result};
use crate::fetch::{Fetcher, Place, Wanted};
use crate::manifest::Download;
use crate::run::Run;
use crate::source::{HOST_PROGRAMS, Release};
use crate::{kubeadm, version::Version};

/// What a node's network and every other CNI needs of the plugins.
const NEEDED_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// Address of a program of Kubernetes.
pub(super) fn url(release: &Release, version: &Version, name: &str) -> String {
    format!("{}/{version}/bin/linux/amd64/{name}", release.release_url.trim_end_matches('/'))
}

/// Fetches the programs of a version into `out`.
pub(super) fn kubernetes(
    ctx: &Context<'_>,
    fetcher: &Fetcher<'_>,
    stage: &str,
    release: &Release,
    version: &Version,
    out: &Path,
) -> Result<Vec<Download>> {
    let if_missing = format!(
        "is {version} a released version? name another with `--kubernetes`, or a server that has it with \
         `--release-url URL`"
    );
    let place = Place { stage, option: "--release-url", if_missing: &if_missing };
    fs::create_dir_all(out).map_err(Error::io(stage, "create", out))?;
    let mut downloads = Vec::new();
    for name in HOST_PROGRAMS {
        let url = url(release, version, name);
        let checksum = fetcher.checksum(&place, &url)?;
        let wanted = Wanted { url: &url, checksum: &checksum, size_bytes: None };
        let file = fetcher.file(&place, &wanted, None)?;
        if let Some(objection) = elf::objection(stage, &file)? {
            return Err(place.elsewhere(&url, &objection));
        }
        let program = out.join(name);
        fs::rename(&file, &program).map_err(Error::io(stage, "move into place", &program))?;
        make_executable(stage, &program)?;
        downloads.push(Download { url, digest: checksum.to_string() });
    }
    // A server may have one version's files under another's name, each with its right checksum.
    let says = kubeadm::version(ctx, stage, &out.join("kubeadm"))?;
    if says != version.to_string() {
        let url = url_of_kubeadm(release, version);
        return Err(place.elsewhere(&url, &format!("this kubeadm says that it is {says}, not {version}")));
    }
    Ok(downloads)
}

fn url_of_kubeadm(release: &Release, version: &Version) -> String {
    url(release, version, "kubeadm")
}

/// Address of the CNI plugins.
pub(super) fn cni_url(release: &Release) -> String {
    let version = &release.cni_plugins_version;
    format!(
        "{}/{version}/cni-plugins-linux-amd64-{version}.tgz",
        release.cni_plugins_url.trim_end_matches('/')
    )
}

/// Fetches the CNI plugins and unpacks them into `out`.
pub(super) fn cni_plugins(
    ctx: &Context<'_>,
    fetcher: &Fetcher<'_>,
    stage: &str,
    release: &Release,
    out: &Path,
) -> Result<Vec<Download>> {
    let place = Place {
        stage,
        option: "--cni-plugins-url",
        if_missing: "name a server that has this version with `--cni-plugins-url URL`",
    };
    let url = cni_url(release);
    let checksum = fetcher.checksum(&place, &url)?;
    let file = fetcher.file(&place, &Wanted { url: &url, checksum: &checksum, size_bytes: None }, None)?;
    fs::create_dir_all(out).map_err(Error::io(stage, "create", out))?;
    Run::new(stage, "tar", 300, ctx.cancel)
        .args(["--extract", "--gzip", "--no-same-owner", "--file"])
        .arg(&file)
        .arg("--directory")
        .arg(out)
        .output()?;
    for name in NEEDED_PLUGINS {
        let path = out.join(name);
        if !path.is_file() {
            return Err(place.elsewhere(&url, &format!("there is no plugin `{name}` in it")));
        }
        if let Some(objection) = elf::objection(stage, &path)? {
            return Err(place.elsewhere(&url, &format!("{name}: {objection}")));
        }
        make_executable(stage, &path)?;
    }
    Ok(vec![Download { url, digest: checksum.to_string() }])
}

fn make_executable(stage: &str, path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io(
        stage,
        "set the mode of",
        path,
    ))
}
