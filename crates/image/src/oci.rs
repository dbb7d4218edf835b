//! OCI images written as one docker-archive: a list of images that share layers, each layer one plain tar.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{EntryType, Header};

use crate::digest;
use crate::error::{Error, Result};

/// One thing in a layer.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A file from here.
    File { from: PathBuf, to: String, mode: u32 },
    /// Everything under a directory.
    Tree { from: PathBuf, to: String },
    /// A directory.
    Dir { to: String, mode: u32 },
    /// A symbolic link.
    Link { to: String, target: String },
    /// A small file.
    Text { to: String, text: String },
}

/// A layer: its name is for the reader, its content decides its digest.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) contents: Vec<Content>,
}

/// An image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) reference: String,
    /// Indices into the archive's layers, lowest first.
    pub(crate) layers: Vec<usize>,
    pub(crate) entrypoint: Vec<String>,
}

/// Writes all images into one archive that `ctr images import` takes.
pub(crate) fn write_archive(stage: &str, out: &Path, layers: &[Layer], images: &[Image]) -> Result<()> {
    let at = |source| Error::io(stage, "write", out)(source);
    let mut archive = tar::Builder::new(BufWriter::new(File::create(out).map_err(at)?));
    let mut digests = Vec::new();
    for layer in layers {
        let mut file = tempfile::NamedTempFile::new_in(out.parent().unwrap_or(Path::new("."))).map_err(at)?;
        write_layer(stage, layer, file.as_file_mut())?;
        let (sha256, size) = digest::of_file(stage, file.path())?;
        let mut header = plain_header(EntryType::Regular, 0o644, size);
        let reader = File::open(file.path()).map_err(at)?;
        archive.append_data(&mut header, layer_path(&sha256), reader).map_err(at)?;
        digests.push(sha256);
    }
    let mut manifest = Vec::new();
    let mut configs = BTreeMap::new();
    for image in images {
        let used: Vec<&String> = image.layers.iter().filter_map(|i| digests.get(*i)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": image.entrypoint,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": used.iter().map(|d| format!("sha256:{d}")).collect::<Vec<_>>()},
        })
        .to_string();
        let config_path = format!("{}.json", digest::of_bytes(config.as_bytes()));
        manifest.push(json!({
            "Config": config_path,
            "RepoTags": [image.reference],
            "Layers": used.iter().map(|d| layer_path(d)).collect::<Vec<_>>(),
        }));
        configs.insert(config_path, config);
    }
    configs.insert("manifest.json".to_owned(), serde_json::Value::from(manifest).to_string());
    for (path, text) in &configs {
        let mut header = plain_header(EntryType::Regular, 0o644, text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes()).map_err(at)?;
    }
    let mut file = archive.into_inner().map_err(at)?;
    file.flush().map_err(at)
}

fn layer_path(sha256: &str) -> String {
    format!("{sha256}/layer.tar")
}

/// Owner root, time zero: the same content gives the same digest.
pub(crate) fn plain_header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn write_layer(stage: &str, layer: &Layer, out: &mut File) -> Result<()> {
    let mut writer = LayerWriter {
        tar: tar::Builder::new(BufWriter::new(out)),
        dirs: BTreeMap::new(),
        stage,
        layer: layer.name.clone(),
    };
    for content in &layer.contents {
        writer.add(content)?;
    }
    let name = writer.layer.clone();
    let mut file = writer.tar.into_inner().map_err(Error::io(stage, "write layer", &name))?;
    file.flush().map_err(Error::io(stage, "write layer", &name))
}

struct LayerWriter<'a> {
    tar: tar::Builder<BufWriter<&'a mut File>>,
    dirs: BTreeMap<String, ()>,
    stage: &'a str,
    layer: String,
}

impl LayerWriter<'_> {
    fn add(&mut self, content: &Content) -> Result<()> {
        match content {
            Content::File { from, to, mode } => {
                self.parents(to)?;
                self.file(from, to, *mode)
            }
            Content::Tree { from, to } => self.tree(from, to),
            Content::Dir { to, mode } => {
                self.parents(to)?;
                self.dir(to, *mode)
            }
            Content::Link { to, target } => {
                self.parents(to)?;
                self.link(to, Path::new(target))
            }
            Content::Text { to, text } => {
                self.parents(to)?;
                let mut header = plain_header(EntryType::Regular, 0o644, text.len() as u64);
                let result = self.tar.append_data(&mut header, to, text.as_bytes());
                self.wrote(to, result)
            }
        }
    }

    fn wrote(&self, to: &str, result: std::io::Result<()>) -> Result<()> {
        result.map_err(Error::io(self.stage, "write layer entry", format!("{}:{to}", self.layer)))
    }

    fn file(&mut self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let file = File::open(from).map_err(Error::io(self.stage, "open", from))?;
        let size = file.metadata().map_err(Error::io(self.stage, "read", from))?.len();
        let mut header = plain_header(EntryType::Regular, mode, size);
        let result = self.tar.append_data(&mut header, to, file);
        self.wrote(to, result)
    }

    fn dir(&mut self, to: &str, mode: u32) -> Result<()> {
        if self.dirs.insert(to.to_owned(), ()).is_some() {
            return Ok(());
        }
        let mut header = plain_header(EntryType::Directory, mode, 0);
        let result = self.tar.append_data(&mut header, format!("{to}/"), std::io::empty());
        self.wrote(to, result)
    }

    fn link(&mut self, to: &str, target: &Path) -> Result<()> {
        let mut header = plain_header(EntryType::Symlink, 0o777, 0);
        let result = self.tar.append_link(&mut header, to, target);
        self.wrote(to, result)
    }

    fn parents(&mut self, to: &str) -> Result<()> {
        let mut at = String::new();
        let Some((parents, _)) = to.rsplit_once('/') else { return Ok(()) };
        for part in parents.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(part);
            let dir = at.clone();
            self.dir(&dir, 0o755)?;
        }
        Ok(())
    }

    fn tree(&mut self, from: &Path, to: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        self.parents(to)?;
        self.dir(to, 0o755)?;
        let mut entries = fs::read_dir(from)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(Error::io(self.stage, "read", from))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = format!("{to}/{}", entry.file_name().to_string_lossy());
            let metadata = fs::symlink_metadata(&path).map_err(Error::io(self.stage, "read", &path))?;
            if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::io(self.stage, "read", &path))?;
                self.link(&name, &target)?;
            } else if metadata.is_dir() {
                self.tree(&path, &name)?;
            } else if metadata.is_file() {
                self.file(&path, &name, metadata.permissions().mode() & 0o7777)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_holds_shared_layers_once_and_names_them_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, "binary").unwrap();
        let out = dir.path().join("images.tar");
        let layers = [
            Layer {
                name: "base".into(),
                contents: vec![Content::Link { to: "bin".into(), target: "usr/bin".into() }],
            },
            Layer {
                name: "program".into(),
                contents: vec![Content::File {
                    from: program,
                    to: "usr/local/bin/program".into(),
                    mode: 0o755,
                }],
            },
        ];
        let image = |reference: &str, layers: Vec<usize>| Image {
            reference: reference.into(),
            layers,
            entrypoint: vec!["/usr/local/bin/program".into()],
        };
        let images = [image("example.org/a:1", vec![0, 1]), image("example.org/b:1", vec![1])];
        write_archive("t", &out, &layers, &images).unwrap();
        let first = fs::read(&out).unwrap();

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(first.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(path, bytes).is_none(), "an entry is there twice");
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
        assert_eq!(manifest[0]["Layers"][1], manifest[1]["Layers"][0]);
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[1]["Config"].as_str().unwrap()]).unwrap();
        let layer = &files[manifest[1]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest::of_bytes(layer)));
        let names: Vec<_> = tar::Archive::new(layer.as_slice())
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/program"]);

        write_archive("t", &out, &layers, &images).unwrap();
        assert_eq!(first, fs::read(&out).unwrap(), "the same content gives the same bytes");
    }
}
