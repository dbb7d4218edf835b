//! The identity of an installation: a UUID in its state directory, the owner in every mark on a host.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use uuid::Uuid;

use crate::failure::{Context, Failure, Result};

pub(crate) const FILE: &str = "installation";

/// Reads it, or makes it at first use.
pub(crate) fn installation(state_dir: &Path) -> Result<Uuid> {
    let path = state_dir.join(FILE);
    if let Some(found) = read(&path)? {
        return Ok(found);
    }
    let doing = || format!("cannot write {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).context(doing())?;
    // Written elsewhere and linked into place: a crash leaves a whole file or none, and of two processes that start
    // at once one wins.
    let fresh = state_dir.join(format!("{FILE}.new-{}", std::process::id()));
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .context(doing())?;
    writeln!(file, "{}", Uuid::new_v4()).and_then(|()| file.sync_all()).context(doing())?;
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh).context(doing())?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).context(doing()),
        _ => read(&path)?
            .ok_or_else(|| Failure::new(format!("{} went away while it was made", path.display()))),
    }
}

fn read(path: &Path) -> Result<Option<Uuid>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    text.trim().parse().map(Some).map_err(|_| {
        Failure::new(format!("{} holds no UUID", path.display()))
            .hint("it names the owner of every VM of this installation: restore it from a copy")
    })
}
