//! What comes from Debian: packages extracted or installed by `mmdebstrap`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Context;
use crate::error::{Error, Result};
use crate::run::Run;

/// Where Debian comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debian {
    /// Release name.
    pub suite: String,
    /// Archive address.
    pub mirror: String,
}

impl Default for Debian {
    fn default() -> Self {
        Self { suite: "trixie".to_owned(), mirror: "http://deb.debian.org/debian".to_owned() }
    }
}

/// A mirror that fails once is asked again.
pub(crate) const APT_RETRIES: &str = "--aptopt=Acquire::Retries \"5\"";

impl Debian {
    /// Downloads and unpacks packages without installing them; for a kernel and a static program.
    pub(crate) fn extract(
        &self,
        ctx: &Context<'_>,
        stage: &str,
        packages: &[&str],
        into: &Path,
    ) -> Result<()> {
        Run::new(stage, "mmdebstrap", 600, ctx.cancel)
            .args(["--quiet", "--variant=extract", "--mode=root", "--format=directory", APT_RETRIES])
            .arg(format!("--include={}", packages.join(",")))
            .args([&self.suite, into.to_string_lossy().as_ref(), &self.mirror])
            .output()?;
        Ok(())
    }
}

/// A kernel inside an unpacked file system.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) modules_dir: PathBuf,
    pub(crate) release: String,
    /// Its configuration, which kubeadm reads.
    pub(crate) config: PathBuf,
}

impl Kernel {
    /// The one kernel under `root`.
    pub(crate) fn find(stage: &str, root: &Path) -> Result<Self> {
        let dir = root.join("usr/lib/modules");
        let mut releases = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io(stage, "read", &dir))? {
            releases.push(entry.map_err(Error::io(stage, "read", &dir))?.file_name());
        }
        let [release] = releases.as_slice() else {
            return Err(Error::invalid(
                stage,
                format!("expected one kernel under {}, found {}", dir.display(), releases.len()),
            ));
        };
        let release = release.to_string_lossy();
        let image = root.join(format!("boot/vmlinuz-{release}"));
        let config = root.join(format!("boot/config-{release}"));
        Ok(Self { image, config, modules_dir: dir.join(release.as_ref()), release: release.into_owned() })
    }
}

/// What an unpacked system calls itself.
pub(crate) fn pretty_name(stage: &str, root: &Path) -> Result<String> {
    let path = root.join("usr/lib/os-release");
    let text = fs::read_to_string(&path).map_err(Error::io(stage, "read", &path))?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Ok(name.unwrap_or("Linux").trim_matches('"').to_owned())
}

/// Package versions from an unpacked file system's dpkg database.
pub(crate) fn packages(stage: &str, root: &Path) -> Result<BTreeMap<String, String>> {
    let path = root.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&path).map_err(Error::io(stage, "read", &path))?;
    Ok(parse_status(&text))
}

fn parse_status(text: &str) -> BTreeMap<String, String> {
    let field = |stanza: &str, key: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
    };
    text.split("\n\n")
        .filter(|stanza| field(stanza, "Status:").is_some_and(|status| status.ends_with(" installed")))
        .filter_map(|stanza| Some((field(stanza, "Package:")?, field(stanza, "Version:")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: runc\nStatus: install ok installed\nVersion: 1.1.15\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(parse_status(status), BTreeMap::from([("runc".to_owned(), "1.1.15".to_owned())]));
    }
}
