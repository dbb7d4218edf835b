//! `ashlar cluster rotate-kubeconfig`: a new certificate in the old one's place, and until when the old one stays good.

use ashlar_api::{Cluster, Kind};
use ashlar_engine::pki::end_of_ours;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cli::ClusterRotateArgs;
use crate::commands::reach::find_cluster;
use crate::commands::reach::kubeconfig::{day, make, merge, parsed, read_file, user_kubeconfig};
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::record_wish;

/// Rotates, or prints where there is nothing to rotate.
pub(super) fn rotate(settings: &Settings, args: &ClusterRotateArgs) -> Result {
    let reader = Reader::open(settings)?;
    let cluster = find_cluster(settings, &reader, &args.name)?;
    let path = user_kubeconfig()?;
    // Before anything is made: one that cannot be read is not to be found out afterwards.
    let old = if args.print { Map::new() } else { read_file(&path)? };
    record_wish(
        settings,
        "rotate-kubeconfig",
        [&object_ref(Kind::Cluster, &args.name, &settings.namespace)],
    )?;
    let (text, expires) = make(settings, &reader, &cluster, None, args.valid_for)?;
    let new = parsed(&text)?;
    let Some(held) = held(&old, &new) else {
        let where_to = if args.print {
            String::new()
        } else {
            format!(": {} does not have the cluster", path.display())
        };
        settings.printer.note(format!("note: a new certificate, good until {}{where_to}", day(expires)));
        settings.printer.note(format!("note: {}", stays(None)));
        return settings.printer.data(|out| out.write_all(text.as_bytes()));
    };
    let ended = held.map_err(|()| another(&cluster, &path.display().to_string()))?;
    let mut users = new;
    users.retain(|key, _| key == "users");
    merge(&path, users)?;
    settings.printer.note(format!("{}: a new certificate, good until {}", path.display(), day(expires)));
    settings.printer.note(stays(Some(ended)));
    Ok(Exit::Success)
}

/// What of the old certificates is so, whoever holds them.
fn stays(ended: Option<Timestamp>) -> String {
    match ended {
        Some(at) if at <= Timestamp::now() => format!("the one before it ran out at {}", day(at)),
        Some(at) => format!(
            "the one before it cannot be taken back: whoever has a copy is administrator until {}",
            day(at)
        ),
        None => {
            "certificates that were handed out before cannot be taken back: they are good until they run out"
                .to_owned()
        }
    }
}

fn another(cluster: &Cluster, path: &str) -> Failure {
    let name = &cluster.metadata.name;
    Failure::new(format!("in {path} the user of this name has a certificate that cluster {name} never signed: it was left alone"))
        .hint(format!(
            "it may be an older cluster's: `ashlar kubeconfig {name} --merge` replaces the whole entry, `--print` changes no file"
        ))
}

/// When the certificate ends that a file has for the user of a new kubeconfig; none if it does not have that user. An error
/// if the new one's CA did not sign it.
fn held(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Result<Timestamp, ()>> {
    let text = |value: &Value, pointer: &str| {
        let bytes = BASE64.decode(value.pointer(pointer)?.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let user = new.get("users")?.get(0)?;
    let ca = text(new.get("clusters")?.get(0)?, "/cluster/certificate-authority-data")?;
    let there = old.get("users")?.as_array()?.iter().find(|there| there["name"] == user["name"])?;
    let certificate = text(there, "/user/client-certificate-data");
    Some(certificate.and_then(|certificate| end_of_ours(&ca, &certificate)).ok_or(()))
}

#[cfg(test)]
mod tests {
    use ashlar_engine::pki::{self, Identity, client_identity_for, kubeconfig};
    use jiff::SignedDuration;

    use super::*;

    fn config(pki: &ashlar_engine::vault::SecretValues, days: i64) -> (Map<String, Value>, Timestamp) {
        let lifetime = SignedDuration::from_hours(24 * days);
        let identity = client_identity_for(pki, Identity::Administrator, Timestamp::now(), lifetime).unwrap();
        let name = ashlar_api::NamespacedName::new("default", "demo");
        let ca = pki::ca_pem(pki).unwrap();
        let text = kubeconfig(&name, "https://10.0.0.9:6443", None, &ca, &identity);
        (parsed(&text).map_err(|failure| failure.chain).unwrap(), identity.expires)
    }

    #[test]
    fn what_is_held_is_known_by_its_user_and_by_who_signed_it() {
        let (pki, other) = (pki::create(Timestamp::now()).unwrap(), pki::create(Timestamp::now()).unwrap());
        let (new, _) = config(&pki, 30);
        let (old, ends) = config(&pki, 5);
        let ends = Timestamp::from_second(ends.as_second()).unwrap();
        assert_eq!(held(&old, &new), Some(Ok(ends)));
        assert_eq!(held(&config(&other, 5).0, &new), Some(Err(())), "another cluster of the name");
        assert_eq!(held(&Map::new(), &new), None);
        let mut stranger = old;
        stranger["users"][0]["name"] = "somebody".into();
        assert_eq!(held(&stranger, &new), None);
    }

    #[test]
    fn the_old_ones_end_is_said() {
        let now = Timestamp::now();
        let hours = SignedDuration::from_hours;
        assert!(stays(Some(now.checked_add(hours(1)).unwrap())).contains("cannot be taken back"));
        assert!(stays(Some(now.checked_sub(hours(1)).unwrap())).contains("ran out"));
    }
}
