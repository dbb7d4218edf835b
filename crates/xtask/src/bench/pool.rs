//! The pool of a lab as benches declare it: enrolled hosts, a network, classes, and the node image of the cache.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::lab::Lab;
use super::program::Program;

/// Sizes of the machines, the same on both sides: what `ashlar demo up` takes.
pub(super) const VCPUS: u32 = 2;
pub(super) const CTRL_MEMORY_MIB: u32 = 3072;
pub(super) const WKR_MEMORY_MIB: u32 = 2048;
pub(super) const ROOT_MIB: u32 = 10240;
pub(super) const ETCD_MIB: u32 = 2048;

/// The manifest of the image to use.
pub(super) fn node_image(ashlar: &Program, wanted: Option<&str>) -> Result<Value> {
    let Value::Array(images) = ashlar.json(&["image", "list"])? else {
        bail!("`ashlar image list` is no list")
    };
    let text = |image: &Value, field: &str| image[field].as_str().unwrap_or_default().to_owned();
    let fitting = images.into_iter().filter(|image| text(image, "purpose") == "node");
    match wanted {
        Some(name) => fitting.into_iter().find(|image| text(image, "name") == name),
        None => fitting.max_by_key(|image| text(image, "created")),
    }
    .context("there is no such node image in the cache; `ashlar image build` makes one")
}

/// Enrols the lab's hosts: `h1` and so on.
pub(super) fn enrol(lab: &Lab) -> Result<()> {
    lab.ok(&["host", "add-lab"]).map(drop)
}

/// Declares the network `lab` and the classes `ctrl` and `wkr`.
pub(super) fn declare(lab: &Lab, directory: &Path) -> Result<()> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "ashlar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let network = json!({
        "attachment": {"bridge": lab.text("/nodes/bridge")?},
        "cidrs": [lab.text("/nodes/cidr")?],
        "gateway": lab.text("/nodes/gateway")?,
        "mtu": lab.value("/nodes/mtu")?,
        "ranges": lab.value("/nodes/ranges")?,
    });
    let class = |memory_mib: u32| {
        json!({"vcpus": VCPUS, "memory": format!("{memory_mib}Mi"), "rootDisk": format!("{ROOT_MIB}Mi"),
            "etcdDisk": format!("{ETCD_MIB}Mi")})
    };
    let objects = [
        object("Network", "lab", network),
        object("MachineClass", "ctrl", class(CTRL_MEMORY_MIB)),
        object("MachineClass", "wkr", class(WKR_MEMORY_MIB)),
    ];
    for (index, object) in objects.iter().enumerate() {
        let file = directory.join(format!("{index}.json"));
        fs::write(&file, object.to_string())?;
        lab.ok(&["apply", "-f", &file.to_string_lossy(), "--store-only"])?;
    }
    Ok(())
}
