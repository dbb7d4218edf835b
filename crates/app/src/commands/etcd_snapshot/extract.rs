//! Getting a copy out.

use std::fs::{self, DirBuilder, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::{KeptCopy, Keys, Part, Shelf, TEXT_BYTES, find, read, read_clear, size};
use crate::cli::EtcdSnapshotExtractArgs;
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::settings::Settings;
use crate::wiring::INSTALLATION_FILE;

/// etcd's snapshot, as `etcdutl` takes it.
const DATABASE: &str = "etcd.db";

/// Decrypts a copy into a new directory; nothing is left of it unless all of it was good.
pub(super) fn extract(settings: &Settings, args: &EtcdSnapshotExtractArgs) -> Result {
    let (shelf, copy) = find(settings, &args.place, &args.copy)?;
    let to = &args.to;
    let made = DirBuilder::new().mode(0o700).create(to);
    made.context(format!("cannot make {}", to.display()))
        .hint("--to names a directory that is not there yet")?;
    let written = if copy.parts.is_sealed() {
        sealed(settings, &shelf, &copy, to, args.secrets)
    } else {
        clear(&shelf, &copy, to)
    };
    match written {
        Ok(told) => {
            settings.printer.note(format!("{}: {told}", to.display()));
            let restore = to.join(DATABASE);
            settings.printer.note(format!(
                "`etcdutl snapshot restore {} --data-dir DIR` makes a member's data directory of it",
                restore.display()
            ));
            Ok(Exit::Success)
        }
        Err(failure) => {
            // It was made here, and holds nothing but what is not good.
            let removed = fs::remove_dir_all(to);
            removed.context(format!("cannot remove {} again", to.display()))?;
            Err(failure.because_of(format!("{} was not extracted", copy.name)))
        }
    }
}

fn sealed(
    settings: &Settings,
    shelf: &Shelf,
    copy: &KeptCopy,
    to: &Path,
    with_secrets: bool,
) -> Result<String> {
    let keys = Keys::new(settings);
    let mut database = BufWriter::new(create(&to.join(DATABASE))?);
    let proved = read(shelf, copy, &keys, &mut database)?;
    let database = database.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    database.sync_all()?;
    let contents = &proved.contents;
    write(&to.join("objects.json"), json_text(&json!(contents.objects))?.as_bytes())?;
    let about = json!({
        "copy": contents.copy,
        "ashlarVersion": contents.ashlar_version,
        "databaseBytes": contents.database_bytes,
        "databaseSha256": contents.database_sha256,
    });
    write(&to.join("copy.json"), json_text(&about)?.as_bytes())?;
    write(&to.join(ashlar_engine::vault::STATE_FILE), json_text(&json!(contents.vault))?.as_bytes())?;
    write(&to.join(INSTALLATION_FILE), format!("{}\n", contents.copy.installation).as_bytes())?;
    if with_secrets {
        let secrets = to.join("secrets");
        directory(&secrets)?;
        for (name, values) in &proved.secrets {
            let of = secrets.join(file_name(&name.name)?);
            directory(&of)?;
            for (value, bytes) in values {
                write(&of.join(file_name(value)?), bytes)?;
            }
        }
    }
    Ok(proved.told())
}

/// As copies were before they were sealed.
fn clear(shelf: &Shelf, copy: &KeptCopy, to: &Path) -> Result<String> {
    let mut database = BufWriter::new(create(&to.join(DATABASE))?);
    let bytes = read_clear(shelf, copy, &mut database)?;
    database.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    let mut text = Vec::new();
    shelf.open(copy, Part::Manifest)?.take(TEXT_BYTES).read_to_end(&mut text)?;
    let beside: Value = serde_json::from_slice(&text).context("its objects cannot be understood")?;
    let objects = beside.get("objects").cloned().unwrap_or_default();
    write(&to.join("objects.json"), json_text(&objects)?.as_bytes())?;
    Ok(format!("whole, {}; it was taken in the clear, without all that a restore needs", size(bytes)))
}

fn json_text(value: &Value) -> Result<String> {
    Ok(format!("{value:#}\n"))
}

/// A name that came from elsewhere, as a file here.
fn file_name(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    match path.components().collect::<Vec<_>>().as_slice() {
        [Component::Normal(only)] if *only == name => Ok(path),
        _ => Err(Failure::new(format!("`{name}` is no name for a file"))),
    }
}

fn directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).context(format!("cannot make {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    let open = File::options().write(true).create_new(true).mode(0o600).open(path);
    open.context(format!("cannot write {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context(format!("cannot write {}", path.display()))
}
