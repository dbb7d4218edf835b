//! What ARCHITECTURE.md promises about the code, held by tests: which crate may use which, what the pure crates
//! must not contain, how long files are, and what no file says.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod dependencies;
mod files;
mod purity;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files below a directory of the workspace, build output left out; paths are relative to the root.
fn files_below(directory: &str) -> Vec<PathBuf> {
    let root = root();
    let mut files = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if name != "target" && name != ".git" {
                    open.push(path);
                }
            } else {
                files.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn text_of(path: &Path) -> String {
    let bytes =
        std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}
