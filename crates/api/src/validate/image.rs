//! Images.

use super::{Report, syntax};
use crate::{ImageFile, ImageSpec, names::quoted};

const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

pub(super) fn check(report: &mut Report<'_>, spec: &ImageSpec) {
    match spec.digest.strip_prefix("sha256:") {
        Some(hex) => report.check("spec.digest", syntax::sha256_problem(hex)),
        None => report.add("spec.digest", format!("{} is not of the form sha256:…", quoted(&spec.digest))),
    }
    if !ARCHITECTURES.contains(&spec.architecture.as_str()) {
        let message = format!("{} is not one of {}", quoted(&spec.architecture), ARCHITECTURES.join(", "));
        report.add("spec.architecture", message);
    }
    if !spec.kubernetes_version.is_empty() {
        report.check("spec.kubernetesVersion", syntax::version_problem(&spec.kubernetes_version));
    }
    if !spec.directory.starts_with('/') {
        report.add("spec.directory", format!("{} is not an absolute path", quoted(&spec.directory)));
    }
    let files =
        [("disk", spec.disk.as_ref()), ("kernel", Some(&spec.kernel)), ("initrd", Some(&spec.initrd))];
    for (name, file) in files {
        if let Some(file) = file {
            check_file(report, &format!("spec.{name}"), file);
        }
    }
    if spec.disk.is_some() && spec.virtual_size.0 == 0 {
        report.add("spec.virtualSize", "is missing: the disk's size as the guest sees it");
    }
}

fn check_file(report: &mut Report<'_>, path: &str, file: &ImageFile) {
    if file.file.is_empty() || file.file.contains(['/', '\0']) || matches!(file.file.as_str(), "." | "..") {
        let message = format!("{} is not the name of a file in the image's directory", quoted(&file.file));
        report.add(format!("{path}.file"), message);
    }
    report.check(&format!("{path}.sha256"), syntax::sha256_problem(&file.sha256));
    if file.size_bytes == 0 {
        report.add(format!("{path}.sizeBytes"), "is 0: an empty file is no part of an image");
    }
}
