//! Kubernetes itself, from `k8s.io/kubernetes` and its staging modules.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::go::{self, GoBuild};
use crate::cache::Context;
use crate::error::{Error, Result};
use crate::version::Version;

/// Programs built, in `k8s.io/kubernetes/cmd`.
pub(crate) const PROGRAMS: [&str; 7] = [
    "kubeadm",
    "kubectl",
    "kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
];
const MODULE: &str = "k8s.io/kubernetes";
/// Both packages hold the version that a program says it is.
const VERSION_PACKAGES: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    time: String,
}

/// What decides this stage's result.
#[derive(Debug, Serialize)]
pub(crate) struct Inputs<'a> {
    pub(crate) recipe: u32,
    pub(crate) version: &'a str,
    pub(crate) programs: &'a [&'a str],
}

/// Builds all programs of a version into `out`.
pub(crate) fn build(ctx: &Context<'_>, stage: &str, version: &Version, out: &Path) -> Result<()> {
    let module = go::download(ctx, stage, MODULE, &version.to_string())?;
    let read = |path: &str| fs::read_to_string(path).map_err(Error::io(stage, "read", path));
    let info: Info = serde_json::from_str(&read(&module.info)?)
        .map_err(|e| Error::invalid(stage, format!("{} is not a module's info: {e}", module.info)))?;
    // The staging directories of the source tree are modules of their own, with the same minor and patch at v0.
    let staging = staging_modules(&read(&module.go_mod)?);
    if staging.is_empty() {
        return Err(Error::invalid(
            stage,
            format!("{MODULE} {version} has no staging modules in its go.mod"),
        ));
    }
    let staging_version = format!("v0.{}.{}", version.minor, version.patch);
    let imports: String =
        PROGRAMS.iter().map(|program| format!("\t_ \"{MODULE}/cmd/{program}\"\n")).collect();
    let mut ldflags = Vec::new();
    for package in VERSION_PACKAGES {
        for (name, value) in [
            ("gitVersion", version.to_string()),
            ("gitMajor", version.major.to_string()),
            ("gitMinor", version.minor.to_string()),
            ("gitCommit", String::new()),
            ("gitTreeState", "clean".to_owned()),
            ("buildDate", info.time.clone()),
        ] {
            ldflags.push(format!("-X {package}.{name}={value}"));
        }
    }
    GoBuild {
        requires: vec![(MODULE.to_owned(), version.to_string())],
        replaces: staging.into_iter().map(|path| (path, staging_version.clone())).collect(),
        files: vec![(
            "tools.go".to_owned(),
            format!("//go:build tools\n\npackage build\n\nimport (\n{imports})\n"),
        )],
        programs: PROGRAMS.iter().map(|name| ((*name).to_owned(), format!("{MODULE}/cmd/{name}"))).collect(),
        ldflags,
    }
    .run(ctx, stage, out)
}

/// Paths that a go.mod replaces by a directory of its own tree.
fn staging_modules(go_mod: &str) -> Vec<String> {
    go_mod
        .lines()
        .filter_map(|line| {
            let (path, target) = line.trim().trim_start_matches("replace ").split_once(" => ")?;
            target.starts_with("./staging/").then(|| path.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_are_those_replaced_by_the_tree() {
        let go_mod = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                      \tgithub.com/x => github.com/y v1.0.0\n)\nreplace k8s.io/kms => ./staging/src/k8s.io/kms\n";
        assert_eq!(staging_modules(go_mod), ["k8s.io/api", "k8s.io/kms"]);
    }
}
