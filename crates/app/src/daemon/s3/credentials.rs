//! Credentials in a file as AWS's own programs read it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ashlar_engine::effects::{EffectError, EffectErrorKind};
use rusty_s3::Credentials;
use zeroize::Zeroizing;

/// Reads the profile `default`. For each question anew, so that they can be exchanged under a running daemon.
pub(super) fn read(path: &Path) -> Result<Credentials, EffectError> {
    let wrong = |what: String| {
        EffectError::new(
            EffectErrorKind::Refused,
            format!("etcdSnapshots.s3.credentialsFile {}: {what}", path.display()),
        )
    };
    let mut file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(wrong(format!("everybody may use it (mode {:03o}): chmod 600", mode & 0o777)));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    parse(&text).ok_or_else(|| {
        wrong("it has no [default] with aws_access_key_id and aws_secret_access_key".to_owned())
    })
}

fn parse(text: &str) -> Option<Credentials> {
    let (mut is_default, mut key, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(profile) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_default = profile.trim() == "default";
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_default) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    let (key, secret) = key.zip(secret)?;
    Some(match token {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_aws_does_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path).map(|found| (found.key().to_owned(), found.token().map(str::to_owned)))
        };
        let text = "# ours\n[other]\naws_access_key_id = wrong\n[default]\naws_access_key_id = AKIA\n\
                    aws_secret_access_key=hidden=words\n";
        assert_eq!(write(text, 0o600).unwrap(), ("AKIA".to_owned(), None));
        assert_eq!(write(text, 0o440).unwrap().0, "AKIA", "systemd's own credentials are so");
        let with_token = format!("{text}aws_session_token = t\n");
        assert_eq!(write(&with_token, 0o600).unwrap().1.as_deref(), Some("t"));
        for (text, mode, said) in [
            (text, 0o644, "everybody may use it (mode 644)"),
            (
                "[other]\naws_access_key_id = a\naws_secret_access_key = hidden\n",
                0o600,
                "it has no [default]",
            ),
            ("[default]\naws_access_key_id = a\naws_secret_access_key =\n", 0o600, "it has no [default]"),
        ] {
            let error = write(text, mode).unwrap_err();
            assert!(error.message.contains(said) && !error.message.contains("hidden"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().message.contains("No such file"));
    }
}
