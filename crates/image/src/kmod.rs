//! Kernel modules for a small initial RAM file system: the wanted ones and what they depend on, in load order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::run::Run;

/// One module, decompressed.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Reads `wanted` and everything they need from `modules_dir` (`…/usr/lib/modules/<release>`), dependencies
/// first. Modules that are built into the kernel are left out.
pub(crate) fn load_order(
    stage: &str,
    modules_dir: &Path,
    wanted: &[&str],
    cancel: &AtomicBool,
) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    walk(stage, &modules_dir.join("kernel"), &mut files)?;
    let path = modules_dir.join("modules.builtin");
    let builtin: BTreeSet<String> = fs::read_to_string(&path)
        .map_err(Error::io(stage, "read", &path))?
        .lines()
        .filter_map(|line| module_name(Path::new(line)))
        .collect();
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in wanted {
        visit(stage, &normal(name), &files, &builtin, &mut seen, &mut order, cancel)?;
    }
    Ok(order)
}

fn visit(
    stage: &str,
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &BTreeSet<String>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<Module>,
    cancel: &AtomicBool,
) -> Result<()> {
    if builtin.contains(name) || !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let path = files.get(name).ok_or_else(|| {
        Error::invalid(stage, format!("the kernel has no module `{name}`, neither as a file nor built in"))
    })?;
    let bytes = read_module(stage, path, cancel)?;
    for dependency in dependencies(&bytes) {
        visit(stage, &dependency, files, builtin, seen, order, cancel)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// Unpacks every compressed module in place. A guest without hardware virtualization spends ten seconds of its boot
/// on unpacking the fifty that udev loads; on the disk it is 90 MiB.
pub(crate) fn unpack_all(stage: &str, modules_dir: &Path, cancel: &AtomicBool) -> Result<()> {
    let mut files = BTreeMap::new();
    walk(stage, &modules_dir.join("kernel"), &mut files)?;
    let compressed: Vec<PathBuf> =
        files.into_values().filter(|path| path.extension().is_some_and(|e| e == "xz")).collect();
    // Bounded, because a command line is.
    for some in compressed.chunks(200) {
        Run::new(stage, "xz", 300, cancel).args(["-d", "--threads=0"]).args(some).output()?;
    }
    Ok(())
}

fn walk(stage: &str, dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(stage, "read", dir))? {
        let path = entry.map_err(Error::io(stage, "read", dir))?.path();
        if path.is_dir() {
            walk(stage, &path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| normal(stem))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn read_module(stage: &str, path: &Path, cancel: &AtomicBool) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::io(stage, "read", path)),
    };
    let mut out = tempfile::tempfile().map_err(Error::io(stage, "create a temporary file for", path))?;
    let copy = out.try_clone().map_err(Error::io(stage, "read", path))?;
    Run::new(stage, unpack, 60, cancel).arg("-dc").arg(path).stdout_to(copy).output()?;
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut out).map_err(Error::io(stage, "read", path))?;
    std::io::Read::read_to_end(&mut out, &mut bytes).map_err(Error::io(stage, "read", path))?;
    Ok(bytes)
}

/// The `depends=` entry of `.modinfo`, found as `modinfo` does: a NUL-terminated string in the file.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_modinfo() {
        assert_eq!(
            dependencies(b"x\0license=GPL\0depends=net_failover,virtio-ring\0name=a\0"),
            ["net_failover", "virtio_ring"]
        );
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }

    #[test]
    fn dependencies_are_loaded_first_and_built_ins_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(dir.path().join("modules.builtin"), "kernel/drivers/virtio/virtio.ko\n").unwrap();
        fs::write(kernel.join("virtio_net.ko"), b"\0depends=net_failover,virtio\0").unwrap();
        fs::write(kernel.join("net_failover.ko"), b"\0depends=failover\0").unwrap();
        fs::write(kernel.join("failover.ko"), b"\0depends=\0").unwrap();
        let go_on = AtomicBool::new(false);
        let order = load_order("t", dir.path(), &["virtio-net", "failover"], &go_on).unwrap();
        let names: Vec<_> = order.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
        let error = load_order("t", dir.path(), &["nvme"], &go_on).unwrap_err().to_string();
        assert!(error.contains("no module `nvme`"), "{error}");
    }
}
