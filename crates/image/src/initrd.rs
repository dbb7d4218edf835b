//! Initial RAM file systems in the kernel's `newc` format, uncompressed: at a few MiB, unpacking would cost a
//! guest without hardware virtualization more than reading.

use std::io::Write;
use std::path::Path;

use cpio::NewcBuilder;
use cpio::newc::ModeFileType;

use crate::error::{Error, Result};
use crate::kmod::Module;

/// Collects entries; parents come before children, in the order of the calls.
#[derive(Debug)]
pub(crate) struct Initrd {
    bytes: Vec<u8>,
    next_inode: u32,
}

impl Initrd {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), next_inode: 1 }
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> std::io::Result<()> {
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let header = NewcBuilder::new(name).ino(self.next_inode).mode(mode).set_mode_file_type(kind).nlink(1);
        self.next_inode += 1;
        let mut writer = header.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    pub(crate) fn dir(&mut self, name: &str) -> std::io::Result<()> {
        self.entry(name, ModeFileType::Directory, 0o755, &[])
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        self.entry(name, ModeFileType::Regular, mode, content)
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> std::io::Result<()> {
        self.entry(name, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    /// The modules as `/modules/NN-name.ko`, so that a shell's `*` is the load order.
    pub(crate) fn modules(&mut self, modules: &[Module]) -> std::io::Result<()> {
        self.dir("modules")?;
        for (i, module) in modules.iter().enumerate() {
            self.file(&format!("modules/{i:02}-{}.ko", module.name), 0o644, &module.bytes)?;
        }
        Ok(())
    }

    pub(crate) fn write(mut self, stage: &str, path: &Path) -> Result<()> {
        cpio::newc::trailer(&mut self.bytes).map_err(Error::io(stage, "finish", path))?;
        std::fs::write(path, &self.bytes).map_err(Error::io(stage, "write", path))
    }
}

/// Builds an initrd of busybox, `init` and the modules.
pub(crate) fn busybox(
    stage: &str,
    path: &Path,
    busybox: &Path,
    init: &str,
    modules: &[Module],
) -> Result<()> {
    let program = std::fs::read(busybox).map_err(Error::io(stage, "read", busybox))?;
    let mut initrd = Initrd::new();
    let fill = |initrd: &mut Initrd| -> std::io::Result<()> {
        for dir in ["bin", "dev", "proc", "sys", "run", "etc", "www", "mnt", "root"] {
            initrd.dir(dir)?;
        }
        initrd.file("bin/busybox", 0o755, &program)?;
        initrd.symlink("bin/sh", "busybox")?;
        initrd.file("init", 0o755, init.as_bytes())?;
        initrd.modules(modules)
    };
    fill(&mut initrd).map_err(Error::io(stage, "fill", path))?;
    initrd.write(stage, path)
}
