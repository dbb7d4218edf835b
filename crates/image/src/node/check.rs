//! A small OCI image that is in every node, so that a cluster can be looked at from a pod without any registry.

use std::path::{Path, PathBuf};

use crate::cache::{BuildLock, Context};
use crate::error::Result;
use crate::oci::{self, Content, Image, Layer};

/// Its reference. The program is Debian's static busybox.
pub const CHECK_IMAGE: &str = "ashlar.dev/busybox:stable";
const APPLETS: &[&str] = &[
    "sh",
    "cat",
    "echo",
    "env",
    "grep",
    "head",
    "hostname",
    "httpd",
    "ip",
    "ls",
    "nc",
    "netstat",
    "nslookup",
    "ping",
    "ps",
    "sleep",
    "tail",
    "top",
    "traceroute",
    "true",
    "vi",
    "wget",
];

/// Writes the image's archive.
pub(super) fn archive(ctx: &Context<'_>, lock: &BuildLock, packages: &Path) -> Result<PathBuf> {
    const STAGE: &str = "check image";
    let inputs = (1, APPLETS, packages.parent().and_then(Path::file_name).map(|name| name.to_string_lossy()));
    let kept = ctx.stage(lock, STAGE, &inputs, |dir| {
        let mut contents = vec![
            Content::Text { to: "etc/passwd".to_owned(), text: "root:x:0:0:root:/root:/bin/sh\n".to_owned() },
            Content::Dir { to: "tmp".to_owned(), mode: 0o1777 },
            Content::File {
                from: packages.join("usr/bin/busybox"),
                to: "bin/busybox".to_owned(),
                mode: 0o755,
            },
        ];
        contents.extend(
            APPLETS
                .iter()
                .map(|applet| Content::Link { to: format!("bin/{applet}"), target: "busybox".to_owned() }),
        );
        let layers = [Layer { name: "busybox".to_owned(), contents }];
        let images = [Image {
            reference: CHECK_IMAGE.to_owned(),
            layers: vec![0],
            entrypoint: vec!["/bin/sh".to_owned()],
        }];
        oci::write_archive(STAGE, &dir.join("images.tar"), &layers, &images)
    })?;
    Ok(kept.join("images.tar"))
}
