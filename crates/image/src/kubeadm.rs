//! What kubeadm itself says: the one authority on the images of its version.

use std::path::Path;

use crate::cache::Context;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::source::REPOSITORY;
use crate::version::Version;

/// What kubeadm itself says its images are: `(name, tag)`, such as `("coredns/coredns", "v1.14.6")`.
pub(crate) fn images(
    ctx: &Context<'_>,
    stage: &str,
    kubeadm: &Path,
    version: &Version,
) -> Result<Vec<(String, String)>> {
    let text = Run::new(stage, kubeadm, 120, ctx.cancel)
        .args(["config", "images", "list", "--kubernetes-version"])
        .arg(version.to_string())
        .output()?;
    parse_images(&text)
        .ok_or_else(|| Error::invalid(stage, format!("kubeadm's list of images is not understood:\n{text}")))
}

fn parse_images(text: &str) -> Option<Vec<(String, String)>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (name, tag) = line.trim().strip_prefix(REPOSITORY)?.strip_prefix('/')?.rsplit_once(':')?;
            Some((name.to_owned(), tag.to_owned()))
        })
        .collect()
}

/// The tag that kubeadm's list names for an image.
pub(crate) fn tag(stage: &str, images: &[(String, String)], name: &str) -> Result<String> {
    images.iter().find(|(image, _)| image == name).map(|(_, tag)| tag.clone()).ok_or_else(|| {
        Error::invalid(stage, format!("kubeadm's list of images names no `{name}`: {images:?}"))
    })
}

/// The version that a kubeadm says it is.
pub(crate) fn version(ctx: &Context<'_>, stage: &str, kubeadm: &Path) -> Result<String> {
    let text = Run::new(stage, kubeadm, 120, ctx.cancel).args(["version", "-o", "short"]).output()?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_list_is_read() {
        let images =
            parse_images("registry.k8s.io/coredns/coredns:v1.14.6\nregistry.k8s.io/etcd:3.7.0-0\n").unwrap();
        assert_eq!(images[0], ("coredns/coredns".to_owned(), "v1.14.6".to_owned()));
        assert_eq!(parse_images("a warning\n"), None);
    }
}
