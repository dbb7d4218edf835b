//! What must stay secret, in the forms in which it could leak.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::context::Context;

/// One secret in all the forms in which it could leak.
pub(crate) fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
    ]
}

/// The secret part of a PEM key: its private scalar stands in the middle of the DER, so a run of bytes from there is
/// searched for as well, in every form: a key in another wrapping has the same middle.
pub(crate) fn forms_of_pem(pem: &str) -> Vec<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut found = vec![body.clone().into_bytes()];
    found.extend(
        pem.lines()
            .filter(|line| line.len() >= 48 && !line.starts_with("-----"))
            .map(|l| l.as_bytes().to_vec()),
    );
    if let Ok(der) = STANDARD.decode(&body) {
        found.extend(forms(&der));
        // EC keys: the octet string of 32 bytes (0x04 0x20) is the scalar.
        if let Some(at) = der.windows(2).position(|pair| pair == [0x04, 0x20])
            && let Some(scalar) = der.get(at + 2..at + 34)
        {
            found.extend(forms(scalar));
        }
    }
    found
}

/// The same of a key of OpenSSH's (Ed25519): all of it, and its seed. Its first line is that of every such key.
pub(crate) fn forms_of_openssh(pem: &str) -> Result<Vec<Vec<u8>>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(&body).context("the key of OpenSSH's is not in base64")?;
    // The private half: a length of 64, the seed, and the public key again.
    let at = bytes.windows(4).position(|window| window == [0, 0, 0, 0x40]);
    let seed =
        at.and_then(|at| bytes.get(at + 4..at + 36)).context("the key is no Ed25519 key of OpenSSH's")?;
    Ok([forms(seed), forms(&bytes)].concat())
}

/// Keys of the users of a kubeconfig, as PEM.
fn kubeconfig_keys(text: &str) -> Result<Vec<String>> {
    let config: Value = serde_saphyr::from_str(text).context("the kubeconfig is no YAML")?;
    let users = config["users"].as_array().into_iter().flatten();
    let encoded = users.filter_map(|user| user.pointer("/user/client-key-data")?.as_str());
    encoded.map(|encoded| Ok(String::from_utf8(STANDARD.decode(encoded)?)?)).collect()
}

/// Names of secrets, with the forms of each.
pub(crate) type Needles = Vec<(String, Vec<Vec<u8>>)>;

/// All secrets that there are in this run, but for join tokens.
pub(crate) fn gather(context: &mut Context) -> Result<Needles> {
    let mut needles = of_nodes(context)?;
    needles.extend(of_kubeconfig(context)?);
    needles.extend(of_user()?);
    needles.push(of_bmc(context)?);
    Ok(needles)
}

/// The cluster's own keys, and the host keys of its nodes.
fn of_nodes(context: &mut Context) -> Result<Needles> {
    let name = context.name.clone();
    let (control_plane, worker) = (format!("{name}-ctrl-1"), format!("{name}-wkr-1"));
    let pki = ["ca.key", "front-proxy-ca.key", "etcd/ca.key", "sa.key", "apiserver.key"];
    let pki = pki.map(|file| (&control_plane, format!("/etc/kubernetes/pki/{file}")));
    let ssh = [&control_plane, &worker].map(|node| (node, "/etc/ssh/ssh_host_ed25519_key".to_owned()));
    let mut needles = Needles::new();
    for (node, path) in pki.into_iter().chain(ssh) {
        // Not through `output`: what is printed here is secret.
        let output = context.command(&["ssh", node, "--", "cat", &path]).output()?;
        let pem = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            pem.contains("PRIVATE KEY"),
            "{path} of {node} could not be read: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let forms = if path.contains("/ssh/") { forms_of_openssh(&pem)? } else { forms_of_pem(&pem) };
        needles.push((format!("{path} of {node}"), forms));
    }
    Ok(needles)
}

/// The user's key in a kubeconfig, before and after `rotate-kubeconfig`.
fn of_kubeconfig(context: &mut Context) -> Result<Needles> {
    let name = context.name.clone();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("kubeconfig");
    let mut needles = Needles::new();
    for arguments in [&["kubeconfig", &name, "--merge"][..], &["cluster", "rotate-kubeconfig", &name]] {
        let mut command = context.command(arguments);
        command.env("KUBECONFIG", &file);
        context.ok(command)?;
        let keys = kubeconfig_keys(&fs::read_to_string(&file)?)?;
        ensure!(keys.len() == 1, "{}: {} keys in the kubeconfig", arguments.join(" "), keys.len());
        needles.push((format!("the user's key by `{}`", arguments.join(" ")), forms_of_pem(&keys[0])));
    }
    ensure!(needles[0].1 != needles[1].1, "rotate-kubeconfig left the user's key as it was");
    Ok(needles)
}

/// The key that seals secrets, and the one that logs in to nodes: in files of the user's alone.
fn of_user() -> Result<Needles> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    let directory = base.context("neither HOME nor XDG_CONFIG_HOME is set")?.join("ashlar");
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let login = String::from_utf8(read("id_ed25519")?)?;
    let mut needles = vec![("the key that logs in to nodes".to_owned(), forms_of_openssh(&login)?)];
    // Somebody may have another provider.
    if std::env::var_os("ASHLAR_KEY").is_none() {
        needles.push(("the key that seals secrets".to_owned(), forms(&read("key")?)));
    }
    Ok(needles)
}

/// The password of a BMC, which the lab's host gets for a moment; it is asked whether the host has power. None answers there.
fn of_bmc(context: &mut Context) -> Result<(String, Vec<Vec<u8>>)> {
    let directory = tempfile::tempdir()?;
    let password = random_word()?;
    let path = directory.path().join("bmc-password");
    write_private(&path, &password)?;
    let host = context.json(&["get", "host", "h1"])?;
    let before = serde_json::json!({
        "apiVersion": host["apiVersion"],
        "kind": "Host",
        "metadata": {"name": "h1"},
        "spec": host["spec"],
    });
    let mut with_bmc = before.clone();
    with_bmc["spec"]["fencing"] = serde_json::json!({
        "ipmi": {"address": "127.0.0.1", "port": 9, "username": "ashlar", "passwordFile": path},
    });
    declare(context, directory.path(), &with_bmc)?;
    // That nobody answers is a bad mark, and no harm.
    let checked = context.output(context.command(&["host", "check", "h1"]))?;
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    declare(context, directory.path(), &before)?;
    ensure!(told.contains("power, for fencing"), "`host check` did not ask the BMC:\n{told}");
    Ok(("the password of a BMC".to_owned(), forms(password.as_bytes())))
}

fn declare(context: &mut Context, directory: &Path, object: &serde_json::Value) -> Result<()> {
    let path = directory.join("host.yaml");
    fs::write(&path, object.to_string())?;
    context.ok(context.command(&["apply", "--store-only", "-f", &path.display().to_string()])).map(drop)
}

/// 18 hexadecimal digits: a password of IPMI's has 20 at most.
pub(crate) fn random_word() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0u8; 9];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(needles: &[Vec<u8>], leak: &[u8]) -> bool {
        needles.iter().any(|needle| leak.windows(needle.len()).any(|window| window == needle.as_slice()))
    }

    #[test]
    fn a_key_of_openssh_is_found_by_its_seed_and_not_by_what_all_have() {
        let seed: Vec<u8> = (100..132).collect();
        let public = [9u8; 32];
        let text = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let of_public = [text(b"ssh-ed25519"), text(&public)].concat();
        let private = [
            &[1, 2, 3, 4, 1, 2, 3, 4][..],
            &of_public,
            &text(&[&seed[..], &public].concat()),
            &text(b"comment"),
            &[1, 2, 3],
        ]
        .concat();
        let head =
            [&b"openssh-key-v1\0"[..], &text(b"none"), &text(b"none"), &text(b""), &[0, 0, 0, 1]].concat();
        let whole = [&head[..], &text(&of_public), &text(&private)].concat();
        let pem = |whole: &[u8]| {
            let body = STANDARD.encode(whole);
            let lines: Vec<&str> =
                body.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
                lines.join("\n")
            )
        };
        let needles = forms_of_openssh(&pem(&whole)).unwrap();
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        for leak in [&seed[..], hex.as_bytes(), &whole, STANDARD.encode(&whole).as_bytes()] {
            assert!(shows(&needles, &[b"before ", leak, b" after"].concat()));
        }
        assert!(!shows(&needles, &of_public) && !shows(&needles, &pem(&head).into_bytes()));
        assert!(forms_of_openssh("-----BEGIN\nAAAA\n").is_err());
    }

    #[test]
    fn a_users_keys_are_read_out_of_a_kubeconfig() {
        let key = "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n";
        let encoded = STANDARD.encode(key);
        let text = format!(
            "users:\n- name: a\n  user:\n    client-certificate-data: AAAA\n    client-key-data: {encoded}\n- name: b\n  user:\n    client-key-data: >-\n      {encoded}\n"
        );
        assert_eq!(kubeconfig_keys(&text).unwrap(), [key, key]);
        assert!(kubeconfig_keys("users: []\n").unwrap().is_empty());
    }

    #[test]
    fn a_password_fits_a_bmc_and_is_not_the_same_twice() {
        let (one, other) = (random_word().unwrap(), random_word().unwrap());
        assert!(one.len() <= 20 && one != other);
        // Shorter ones would be found by chance, and are not searched for.
        assert!(forms(one.as_bytes()).iter().all(|form| form.len() >= 12));
    }

    #[test]
    fn what_is_private_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_private(&path, "word").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_private(&path, "again").is_err());
    }
}
