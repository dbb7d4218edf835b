//! `ashlar kubeconfig`: an administrator's client certificate, signed with the cluster's CA.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ashlar_api::{Cluster, Kind, Object};
use ashlar_engine::pki::{Identity, ca_pem, client_identity_for, kubeconfig as write_kubeconfig};
use ashlar_plan::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::find_cluster;
use crate::cli::KubeconfigArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::output::yaml;
use crate::settings::{Settings, home_dir};
use crate::wiring::{open_vault, record_wish};

/// Prints or merges.
pub(crate) fn kubeconfig(settings: &Settings, args: &KubeconfigArgs) -> Result {
    let reader = Reader::open(settings)?;
    let cluster = find_cluster(settings, &reader, &args.cluster)?;
    record_wish(settings, "hand out a kubeconfig of", [&cluster.object_ref()])?;
    let (text, expires) = make(settings, &reader, &cluster, args.server.as_deref(), args.valid_for)?;
    if !args.merge {
        settings.printer.note(format!("note: its certificate is good until {}", day(expires)));
        return settings.printer.data(|out| out.write_all(text.as_bytes()));
    }
    let path = user_kubeconfig()?;
    merge(&path, parsed(&text)?)?;
    settings.printer.note(format!(
        "merged into {}; the current context is {}, its certificate is good until {}",
        path.display(),
        args.cluster,
        day(expires)
    ));
    Ok(Exit::Success)
}

/// A moment for people, without seconds' fractions.
pub(crate) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A kubeconfig for the administrator, and when it ends. Where the server is another one (a proxy), the certificate's name
/// is kept.
pub(crate) fn make(
    settings: &Settings,
    reader: &Reader,
    cluster: &Cluster,
    server: Option<&str>,
    lifetime: SignedDuration,
) -> Result<(Zeroizing<String>, Timestamp)> {
    let name = cluster.key();
    let endpoint = cluster.record.endpoint.as_ref().ok_or_else(|| {
        Failure::new(format!("cluster {name} has no endpoint yet")).hint("`ashlar apply` works on it")
    })?;
    let secret = names::pki_secret(&name);
    let stored = reader.find(&object_ref(Kind::Secret, &secret.name, &secret.namespace))?;
    let Some(Object::Secret(secret)) = stored.map(crate::objects::typed).transpose()? else {
        return Err(
            Failure::new(format!("cluster {name} has no certificates yet")).hint("`ashlar apply` makes them")
        );
    };
    let values = open_vault(settings)?.open_secret(&secret)?;
    let identity = client_identity_for(&values, Identity::Administrator, Timestamp::now(), lifetime)?;
    let own = format!("https://{}:{}", endpoint.address, endpoint.port);
    let server_name = server.map(|_| endpoint.address.to_string());
    let server = server.unwrap_or(&own);
    let text = write_kubeconfig(&name, server, server_name.as_deref(), &ca_pem(&values)?, &identity);
    Ok((text, identity.expires))
}

/// The file that kubectl would change: the first of `$KUBECONFIG`, or `~/.kube/config`.
pub(crate) fn user_kubeconfig() -> Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = home_dir().ok_or_else(|| Failure::new("neither $KUBECONFIG nor $HOME is set"))?;
    Ok(home.join(".kube/config"))
}

/// A kubeconfig that was just made.
pub(crate) fn parsed(text: &str) -> Result<Map<String, Value>> {
    serde_saphyr::from_str(text)
        .map_err(|error| Failure::internal(format!("an unreadable kubeconfig: {error}")))
}

/// What stands in a kubeconfig file; nothing if there is none.
pub(crate) fn read_file(path: &Path) -> Result<Map<String, Value>> {
    let what = || format!("cannot read the kubeconfig {}", path.display());
    let old = match fs::read_to_string(path) {
        Ok(old) => Zeroizing::new(old),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Zeroizing::new(String::new()),
        Err(error) => return Err(error).context(what()),
    };
    if old.trim().is_empty() {
        return Ok(Map::new());
    }
    // Further lines of the error would show lines of the file, and there are keys in it.
    let told = |error: serde_saphyr::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    serde_saphyr::from_str(&old).map_err(|error| Failure::new(told(error)).because_of(what()))
}

/// Replaces the entries of these names and leaves all others alone.
pub(crate) fn merge(path: &Path, new: Map<String, Value>) -> Result<()> {
    let what = || format!("cannot merge into {}", path.display());
    let mut merged = read_file(path)?;
    for (key, value) in new {
        match (merged.get_mut(&key), value) {
            (Some(Value::Array(old)), Value::Array(new)) => {
                old.retain(|entry| !new.iter().any(|other| other["name"] == entry["name"]));
                old.extend(new);
            }
            (_, value) => drop(merged.insert(key, value)),
        }
    }
    let text = Zeroizing::new(yaml(&Value::Object(merged))?);
    replace(path, text.as_bytes()).context(what())
}

/// Writes a file that only its owner may read, as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A link keeps pointing where it does.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let fresh = target.with_extension(format!("ashlar-{}", std::process::id()));
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(0o600)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, &target));
    if written.is_err() {
        // The error that matters is the one above.
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_entries_stay_and_own_ones_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: other\nclusters:\n- name: other\n  cluster: {server: https://a}\n\
             - name: demo\n  cluster: {server: https://old}\nusers: []\n",
        )
        .unwrap();
        let new = "apiVersion: v1\nkind: Config\ncurrent-context: demo\nclusters:\n- name: demo\n  cluster: {server: https://new}\n\
                   users:\n- name: demo-admin\n  user: {}\n";
        merge(&path, parsed(new).map_err(|failure| failure.chain).unwrap())
            .map_err(|failure| failure.chain)
            .unwrap();
        let merged: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(merged["current-context"], "demo");
        let clusters = merged["clusters"].as_array().unwrap();
        assert_eq!(clusters.len(), 2);
        assert_eq!(clusters[0]["name"], "other");
        assert_eq!(clusters[1]["cluster"]["server"], "https://new");
        assert_eq!(merged["users"][0]["name"], "demo-admin");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
