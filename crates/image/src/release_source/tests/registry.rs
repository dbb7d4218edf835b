//! Debian's registry, and images pushed into it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub(crate) struct Registry {
    child: Child,
    port: u16,
    storage: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Registry {
    /// Starts it in the network namespace of the caller.
    pub(crate) fn start(dir: &Path, port: u16) -> Self {
        let storage = dir.join("storage");
        let config = dir.join("config.yml");
        let text = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is missing: `ashlar setup --tests` installs it");
        let registry = Self { child, port, storage };
        let began = Instant::now();
        while ureq::get(format!("{}/v2/", registry.url())).call().is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Pushes an image with an index over one manifest for each architecture.
    pub(crate) fn push(&self, name: &str, tag: &str, architectures: &[&str], layers: &[Vec<u8>]) {
        let mut manifests = Vec::new();
        for architecture in architectures {
            let manifest = self.manifest(name, architecture, layers);
            let digest = format!("sha256:{}", digest::of_bytes(manifest.as_bytes()));
            self.put_manifest(name, &digest, MANIFEST, &manifest);
            manifests.push(json!({
                "mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
        self.put_manifest(name, tag, INDEX, &index);
    }

    /// Pushes an image without an index.
    pub(crate) fn push_single(&self, name: &str, tag: &str, architecture: &str, layers: &[Vec<u8>]) {
        let manifest = self.manifest(name, architecture, layers);
        self.put_manifest(name, tag, MANIFEST, &manifest);
    }

    fn manifest(&self, name: &str, architecture: &str, layers: &[Vec<u8>]) -> String {
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", digest::of_bytes(layer))).collect();
        let program = name.rsplit('/').next().unwrap();
        let entrypoint = match program {
            "coredns" | "pause" => format!("/{program}"),
            "flannel" => "/opt/bin/flanneld".to_owned(),
            _ => format!("/usr/local/bin/{program}"),
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Entrypoint": [entrypoint]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.blob(name, "application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        let config = self.blob(name, CONFIG, config.as_bytes());
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string()
    }

    fn blob(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", digest::of_bytes(bytes));
        let begun = ureq::post(format!("{}/v2/{name}/blobs/uploads/", self.url())).send_empty().unwrap();
        let location = begun.headers()["location"].to_str().unwrap();
        ureq::put(format!("{location}&digest={digest}"))
            .content_type("application/octet-stream")
            .send(bytes)
            .unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn put_manifest(&self, name: &str, reference: &str, media_type: &str, text: &str) {
        ureq::put(format!("{}/v2/{name}/manifests/{reference}", self.url()))
            .content_type(media_type)
            .send(text)
            .unwrap();
    }

    /// Changes one byte of a stored blob, as a failing disk would.
    pub(crate) fn damage(&self, bytes: &[u8]) {
        let hex = digest::of_bytes(bytes);
        let path = self.storage.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}
