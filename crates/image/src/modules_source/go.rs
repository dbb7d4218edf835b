//! Programs built from Go modules, in a module of our own that only pins versions.

use std::fs;
use std::path::Path;

use backon::{BlockingRetryable as _, ExponentialBuilder};
use serde::{Deserialize, Serialize};

use crate::cache::Context;
use crate::error::{Error, Result};
use crate::run::Run;

/// A cold build of all of Kubernetes took 12 minutes on two busy cores; this leaves room for slower machines.
const BUILD_DEADLINE_S: u64 = 2 * 3600;
const QUERY_DEADLINE_S: u64 = 300;

/// A module to generate and what to build in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GoBuild {
    /// Required modules and versions.
    pub(crate) requires: Vec<(String, String)>,
    /// Replaced modules: path and version of the same path.
    pub(crate) replaces: Vec<(String, String)>,
    /// Go source files of the module.
    pub(crate) files: Vec<(String, String)>,
    /// Output name and package.
    pub(crate) programs: Vec<(String, String)>,
    /// Linker flags beside `-s -w`.
    pub(crate) ldflags: Vec<String>,
}

impl GoBuild {
    /// Builds all programs into `out`.
    pub(crate) fn run(&self, ctx: &Context<'_>, stage: &str, out: &Path) -> Result<()> {
        let source = ctx.temp_dir(stage)?;
        let write = |name: &str, text: &str| {
            let path = source.path().join(name);
            fs::write(&path, text).map_err(Error::io(stage, "write", path))
        };
        write("go.mod", &self.go_mod())?;
        for (name, text) in &self.files {
            write(name, text)?;
        }
        fs::create_dir_all(out).map_err(Error::io(stage, "create", out))?;
        // Programs named as their package are built in one go, which uses all cores better.
        let (together, apart): (Vec<_>, Vec<_>) = self
            .programs
            .iter()
            .partition(|(name, package)| package.rsplit('/').next() == Some(name.as_str()));
        let ldflags = format!("-s -w {}", self.ldflags.join(" "));
        let build = |target: &Path, packages: Vec<&String>| {
            go(ctx, stage, BUILD_DEADLINE_S)
                .cwd(source.path())
                .args(["build", "-mod=mod", "-trimpath", "-ldflags", ldflags.trim(), "-o"])
                .arg(target)
                .args(packages)
                .output()
        };
        if !together.is_empty() {
            // The slash tells go that this is a directory.
            build(&out.join(""), together.iter().map(|(_, package)| package).collect())?;
        }
        for (name, package) in apart {
            build(&out.join(name), vec![package])?;
        }
        Ok(())
    }

    fn go_mod(&self) -> String {
        let mut text = "module ashlar.dev/build\n\ngo 1.26.0\n\nrequire (\n".to_owned();
        for (path, version) in &self.requires {
            text += &format!("\t{path} {version}\n");
        }
        text += ")\n";
        if !self.replaces.is_empty() {
            text += "\nreplace (\n";
            for (path, version) in &self.replaces {
                text += &format!("\t{path} => {path} {version}\n");
            }
            text += ")\n";
        }
        text
    }
}

fn go<'a>(ctx: &Context<'a>, stage: &'a str, deadline_s: u64) -> Run<'a> {
    // Static programs that run in any image; the toolchain's other settings are the user's.
    Run::new(stage, "go", deadline_s, ctx.cancel).env("CGO_ENABLED", "0").env("GOWORK", "off")
}

/// The toolchain's version, such as `go1.26.8`; says how to get Go where there is none.
pub(crate) fn version(ctx: &Context<'_>) -> Result<String> {
    const STAGE: &str = "Go toolchain";
    let text = go(ctx, STAGE, 60).args(["env", "GOVERSION"]).output()?;
    Ok(text.trim().to_owned())
}

/// What `go mod download -json` says of a module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Downloaded {
    pub(crate) dir: String,
    pub(crate) go_mod: String,
    pub(crate) info: String,
}

/// Downloads one module.
pub(crate) fn download(ctx: &Context<'_>, stage: &str, path: &str, version: &str) -> Result<Downloaded> {
    let outside = ctx.temp_dir(stage)?;
    let ask = || {
        go(ctx, stage, QUERY_DEADLINE_S)
            .cwd(outside.path())
            .args(["mod", "download", "-json"])
            .arg(format!("{path}@{version}"))
            .output()
    };
    // A proxy that fails for a moment is asked again: there are some 500 modules, and `go` asks once for each.
    let text = ask
        .retry(ExponentialBuilder::default())
        .when(|error| matches!(error, Error::Program { tail, .. } if !tail.contains("not found")))
        .call()?;
    serde_json::from_str(&text).map_err(|e| {
        Error::invalid(stage, format!("`go mod download -json` for {path} answered what is no module ({e})"))
    })
}

/// Released versions of a module, oldest first.
pub(crate) fn versions(ctx: &Context<'_>, stage: &str, path: &str) -> Result<Vec<String>> {
    let outside = ctx.temp_dir(stage)?;
    let text = go(ctx, stage, QUERY_DEADLINE_S)
        .cwd(outside.path())
        .args(["list", "-mod=mod", "-m", "-versions", path])
        .output()?;
    Ok(text.split_whitespace().skip(1).filter(|v| !v.contains('-')).map(str::to_owned).collect())
}

/// The version wanted where it is served, else the nearest patch of the same minor, newer before older.
pub(crate) fn nearest(served: &[String], wanted: &str) -> Option<String> {
    let (wanted_minor, wanted_patch) = split(wanted)?;
    let mut patches: Vec<(u32, &String)> = served
        .iter()
        .filter_map(|v| split(v).filter(|(minor, _)| *minor == wanted_minor).map(|(_, patch)| (patch, v)))
        .collect();
    patches.sort_unstable();
    let newer = patches.iter().find(|(patch, _)| *patch >= wanted_patch);
    newer.or_else(|| patches.last()).map(|(_, version)| (*version).clone())
}

fn split(version: &str) -> Option<(&str, u32)> {
    let (minor, patch) = version.rsplit_once('.')?;
    Some((minor, patch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_patch_is_the_same_or_the_next_newer_or_the_newest_older() {
        let served: Vec<String> =
            ["v1.13.1", "v1.14.3", "v1.14.4", "v1.14.10", "v1.15.0"].map(str::to_owned).to_vec();
        let near = |wanted: &str| nearest(&served, wanted);
        assert_eq!(near("v1.14.4").as_deref(), Some("v1.14.4"));
        assert_eq!(near("v1.14.2").as_deref(), Some("v1.14.3"));
        assert_eq!(near("v1.14.7").as_deref(), Some("v1.14.10"));
        assert_eq!(near("v1.15.2").as_deref(), Some("v1.15.0"));
        assert_eq!(near("v1.12.0"), None);
    }

    #[test]
    fn the_module_pins_what_it_is_given() {
        let build = GoBuild {
            requires: vec![("k8s.io/kubernetes".into(), "v1.37.2".into())],
            replaces: vec![("k8s.io/api".into(), "v0.37.2".into())],
            files: vec![],
            programs: vec![],
            ldflags: vec![],
        };
        insta::assert_snapshot!(build.go_mod(), @r"
        module ashlar.dev/build

        go 1.26.0

        require (
        	k8s.io/kubernetes v1.37.2
        )

        replace (
        	k8s.io/api => k8s.io/api v0.37.2
        )
        ");
    }
}
