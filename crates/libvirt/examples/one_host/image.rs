//! An image that no Kubernetes is in: a kernel that halts at once, and an empty root disk.

use std::path::Path;
use std::process::Command;

use ashlar_api::{Kind, Object};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Version that the image says it has.
pub(crate) const VERSION: &str = "v1.37.2";

/// Multiboot, loaded to 1 MiB and entered behind its header: `cli`, then `hlt` for ever.
fn kernel() -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES_ARE_HERE: u32 = 1 << 16;
    const BASE: u32 = 0x10_0000;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES_ARE_HERE);
    let header = [MAGIC, ADDRESSES_ARE_HERE, checksum, BASE, BASE, 0, 0, BASE + 32];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend([0xfa, 0xf4, 0xeb, 0xfd]);
    // QEMU looks for other kinds of kernels in the first 8 KiB.
    bytes.resize(8192, 0);
    bytes
}

/// Makes the files in the directory, and the Image of them.
pub(crate) fn make(directory: &Path) -> Object {
    std::fs::write(directory.join("vmlinuz"), kernel()).unwrap();
    std::fs::write(directory.join("initrd.img"), [0x5a; 512]).unwrap();
    let disk = directory.join("disk.qcow2");
    let status =
        Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("64M").status();
    assert!(status.unwrap().success(), "qemu-img create");
    let file = |name: &str| -> Value {
        let content = std::fs::read(directory.join(name)).unwrap();
        let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"file": name, "sha256": sha256, "sizeBytes": content.len()})
    };
    let spec = json!({
        "digest": format!("sha256:{}", "5".repeat(64)),
        "architecture": "amd64",
        "os": "none",
        "kubernetesVersion": VERSION,
        "tags": {"etcd": "3.7.0-0", "coredns": "v1.14.6", "pause": "3.10.2", "flannel": "v0.28.10"},
        "directory": directory,
        "disk": file("disk.qcow2"),
        "kernel": file("vmlinuz"),
        "initrd": file("initrd.img"),
        "commandLine": "console=ttyS0",
        "virtualSize": "64Mi",
    });
    object(Kind::Image, "", "halting", spec)
}

/// An object as people write it.
pub(crate) fn object(kind: Kind, namespace: &str, name: &str, spec: Value) -> Object {
    let metadata = if namespace.is_empty() {
        json!({"name": name})
    } else {
        json!({"name": name, "namespace": namespace})
    };
    let value =
        json!({"apiVersion": "ashlar.dev/v1alpha1", "kind": kind.name(), "metadata": metadata, "spec": spec});
    Object::from_value(kind, value).unwrap()
}
