//! Pulled images as one archive in OCI's image layout, which `ctr images import` takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::EntryType;

use crate::error::{Error, Result};
use crate::fetch::Checksum;
use crate::oci::plain_header;

/// containerd reads the full name of an image here.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// A verified file.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) checksum: Checksum,
    pub(super) path: PathBuf,
}

/// One image for one platform.
#[derive(Debug)]
pub(super) struct Pulled {
    /// Name on the node.
    pub(super) reference: String,
    /// Where its manifest came from.
    pub(super) url: String,
    pub(super) digest: Checksum,
    pub(super) media_type: String,
    pub(super) manifest: Vec<u8>,
    /// Configuration and layers.
    pub(super) blobs: Vec<Blob>,
}

/// Writes all images into one archive. What they share is in it once.
pub(super) fn write(stage: &str, out: &Path, images: &[Pulled]) -> Result<()> {
    let at = |source| Error::io(stage, "write", out)(source);
    let mut archive = tar::Builder::new(BufWriter::new(File::create(out).map_err(at)?));
    let mut texts =
        BTreeMap::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
    let mut files = BTreeMap::new();
    let mut manifests = Vec::new();
    for image in images {
        manifests.push(json!({
            "mediaType": image.media_type,
            "digest": image.digest.to_string(),
            "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
            "annotations": {NAME_ANNOTATION: image.reference},
        }));
        texts.insert(blob_path(&image.digest), image.manifest.clone());
        for blob in &image.blobs {
            files.insert(blob_path(&blob.checksum), &blob.path);
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    texts.insert("index.json".to_owned(), index.to_string().into_bytes());
    for (path, text) in &texts {
        let mut header = plain_header(EntryType::Regular, 0o644, text.len() as u64);
        archive.append_data(&mut header, path, text.as_slice()).map_err(at)?;
    }
    for (path, from) in files {
        let file = File::open(from).map_err(Error::io(stage, "open", from))?;
        let size = file.metadata().map_err(Error::io(stage, "read", from))?.len();
        let mut header = plain_header(EntryType::Regular, 0o644, size);
        archive.append_data(&mut header, path, file).map_err(at)?;
    }
    archive.into_inner().and_then(|mut file| file.flush()).map_err(at)
}

fn blob_path(checksum: &Checksum) -> String {
    format!("blobs/{}/{}", checksum.algorithm.name(), checksum.hex)
}
