//! Objects from files, directories and stdin.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ashlar_api::manifest::{self, ManifestObject};
use ashlar_api::validate::{Violation, validate_apply};
use ashlar_api::{DEFAULT_NAMESPACE, Object, expand::ObjectMap};

use crate::failure::{Context, Exit, Failure, Result};

/// Longest input that is read: the manifest reader has limits of its own, and this keeps a wrong path (a disk image)
/// from being read into memory first.
const MAX_BYTES: u64 = 64 << 20;

/// Reads all objects of the paths: files, directories, `-` for stdin. All that is wrong is one failure.
pub(crate) fn read_objects(
    paths: &[PathBuf],
    recursive: bool,
    namespace: &str,
) -> Result<Vec<ManifestObject>> {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for (name, bytes) in read_all(paths, recursive)? {
        match manifest::read_bytes(&bytes, &name) {
            Ok(found) => objects.extend(found),
            Err(errors) => problems.extend(errors.iter().map(ToString::to_string)),
        }
    }
    for index in 1..objects.len() {
        let object = &objects[index];
        let name = object.object.object_ref();
        if let Some(first) = objects[..index].iter().find(|other| other.object.object_ref() == name) {
            problems.push(format!(
                "{}: {name} is written twice, first in {}",
                object.source_name, first.source_name
            ));
        }
    }
    if !problems.is_empty() {
        return Err(bad_input(problems));
    }
    if objects.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!("there are no objects in {}", names.join(", "))));
    }
    for object in &mut objects {
        in_namespace(&mut object.object, namespace);
    }
    Ok(objects)
}

/// `--namespace` says where objects go that name no namespace.
fn in_namespace(object: &mut Object, namespace: &str) {
    let metadata = object.metadata_mut();
    if metadata.namespace == DEFAULT_NAMESPACE {
        namespace.clone_into(&mut metadata.namespace);
    }
}

/// Judges objects against the store, with the places in the files.
pub(crate) fn check(objects: &[ManifestObject], existing: &ObjectMap) -> Result<()> {
    let plain: Vec<Object> = objects.iter().map(|object| object.object.clone()).collect();
    let violations = validate_apply(&plain, existing);
    if violations.is_empty() { Ok(()) } else { Err(refused(&violations, objects)) }
}

/// The failure for violations, each with its place in the files where it has one.
pub(crate) fn refused(violations: &[Violation], objects: &[ManifestObject]) -> Failure {
    let located = violations.iter().map(|violation| match manifest::locate(violation, objects) {
        Some(error) => error.to_string(),
        None => violation.to_string(),
    });
    bad_input(located.collect())
}

fn bad_input(problems: Vec<String>) -> Failure {
    let mut chain = problems;
    chain.dedup();
    let message = match chain.len() {
        1 => chain.remove(0),
        count => format!("{count} problems; nothing was changed\n{}", chain.join("\n")),
    };
    Failure { exit: Exit::Failure, chain: vec![message], hints: Vec::new() }
}

fn read_all(paths: &[PathBuf], recursive: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            out.push(("stdin".to_owned(), read_bounded(io::stdin().lock(), Path::new("stdin"))?));
            continue;
        }
        let what = || format!("cannot read {}", path.display());
        let meta = fs::metadata(path).context(what())?;
        if meta.is_dir() {
            let files = files_in(path, recursive)?;
            if files.is_empty() {
                return Err(Failure::new(format!(
                    "there is no .yaml, .yml or .json file in {}",
                    path.display()
                )));
            }
            for file in files {
                out.push((file.display().to_string(), read_file(&file)?));
            }
        } else {
            out.push((path.display().to_string(), read_file(path)?));
        }
    }
    Ok(out)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_bounded(fs::File::open(path).context(format!("cannot read {}", path.display()))?, path)
}

fn read_bounded(from: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes).context(format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(format!(
            "{} is larger than {} MiB: is it the right file?",
            path.display(),
            MAX_BYTES >> 20
        )));
    }
    Ok(bytes)
}

/// Files of a directory, by name.
fn files_in(dir: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let what = || format!("cannot read directory {}", dir.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).context(what())? {
        entries.push(entry.context(what())?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let is_manifest = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if path.is_dir() {
            if recursive {
                files.extend(files_in(&path, true)?);
            }
        } else if is_manifest {
            files.push(path);
        }
    }
    Ok(files)
}
