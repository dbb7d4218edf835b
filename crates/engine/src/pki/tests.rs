#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::NamespacedName;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use x509_parser::prelude::*;

use super::*;
use crate::{
    effects::Entropy,
    pki::{Identity, JoinToken, client_identity, end_of_ours, join_token, kubeconfig, ssh_host_key},
};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

struct Ramp(std::sync::atomic::AtomicU8);
impl Entropy for Ramp {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.0.fetch_add(7, std::sync::atomic::Ordering::Relaxed));
    }
}
fn ramp() -> Ramp {
    Ramp(std::sync::atomic::AtomicU8::new(3))
}

fn with_certificate<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    look(&certificate)
}

#[test]
fn cas_have_kubeadms_shape() {
    let pki = create(now()).unwrap();
    assert_eq!(pki.len(), 8);
    for (name, common_name) in
        [("ca.crt", "kubernetes"), ("front-proxy-ca.crt", "front-proxy-ca"), ("etcd-ca.crt", "etcd-ca")]
    {
        with_certificate(text(&pki, name).unwrap(), |certificate| {
            assert_eq!(certificate.subject().to_string(), format!("CN={common_name}"));
            assert_eq!(certificate.issuer(), certificate.subject());
            let constraints = certificate.basic_constraints().unwrap().unwrap().value;
            assert!(constraints.ca && constraints.path_len_constraint == Some(0));
            let usage = certificate.key_usage().unwrap().unwrap().value;
            assert!(usage.key_cert_sign() && usage.digital_signature() && usage.key_encipherment());
            let validity = certificate.validity();
            assert_eq!(validity.not_before.timestamp(), now().as_second() - 300);
            assert_eq!(validity.not_after.timestamp(), now().as_second() + 3650 * 86400);
            certificate.verify_signature(None).unwrap();
        });
    }
    assert!(text(&pki, "sa.pub").unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    for key in ["ca.key", "front-proxy-ca.key", "etcd-ca.key", "sa.key"] {
        assert!(text(&pki, key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
    }
}

#[test]
fn the_ca_hash_is_that_of_the_certificates_public_key() {
    let pki = create(now()).unwrap();
    let expected = with_certificate(&ca_pem(&pki).unwrap(), |certificate| {
        format!("sha256:{}", crate::hex::encode(&Sha256::digest(certificate.public_key().raw)))
    });
    assert_eq!(ca_hash(&pki).unwrap(), expected);
}

#[test]
fn client_certificates_verify_against_the_ca() {
    let pki = create(now()).unwrap();
    let (_, ca_der) =
        parse_x509_pem(ca_pem(&pki).unwrap().as_bytes()).map(|(rest, pem)| (rest.to_vec(), pem)).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca_der.contents).unwrap();
    for (identity, subject) in [
        (Identity::Engine, "O=system:masters, CN=ashlar:engine"),
        (Identity::Administrator, "O=kubeadm:cluster-admins, CN=kubernetes-admin"),
    ] {
        let client = client_identity(&pki, identity, now()).unwrap();
        assert!(!format!("{client:?}").contains("PRIVATE"));
        with_certificate(&client.certificate_pem, |certificate| {
            assert_eq!(certificate.subject().to_string(), subject);
            assert_eq!(certificate.issuer(), ca.subject());
            assert!(certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
            certificate.verify_signature(Some(ca.public_key())).unwrap();
            assert_eq!(certificate.validity().not_after.timestamp(), client.expires.as_second());
        });
        let ca_pem = ca_pem(&pki).unwrap();
        assert_eq!(end_of_ours(&ca_pem, &client.certificate_pem), Some(client.expires));
        let other = super::ca_pem(&create(now()).unwrap()).unwrap();
        assert_eq!(end_of_ours(&other, &client.certificate_pem), None, "another cluster's");
        assert_eq!(end_of_ours(&ca_pem, "none"), None);
    }
}

#[test]
fn tokens_are_kubeadms_and_evenly_drawn() {
    let token = join_token(&ramp());
    let full = token.full();
    let parsed = JoinToken::parse(&full).unwrap();
    assert_eq!((&parsed.id, &*parsed.secret), (&token.id, &*token.secret));
    assert!(!format!("{token:?}").contains(token.secret.as_str()));
    for bad in ["", "abc.def", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde"] {
        assert!(JoinToken::parse(bad).is_none(), "{bad}");
    }
    // A ramp by 7 visits every byte value once in 256 draws, so every character must come out equally often.
    let text = crate::pki::token::random_text(&ramp(), 252);
    for character in "abcdefghijklmnopqrstuvwxyz0123456789".chars() {
        assert_eq!(text.matches(character).count(), 7, "{character}");
    }
}

#[test]
fn host_keys_are_read_by_ssh_keygen() {
    let key = ssh_host_key(&ramp()).unwrap();
    assert!(!format!("{key:?}").contains("PRIVATE"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host.key");
    std::fs::write(&path, key.private.as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let output = std::process::Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), key.public);
}

#[test]
fn a_kubeconfig_holds_what_it_should() {
    let pki = create(now()).unwrap();
    let client = client_identity(&pki, Identity::Administrator, now()).unwrap();
    let name = NamespacedName::new("default", "demo");
    let text = kubeconfig(&name, "https://10.0.0.10:6443", None, &ca_pem(&pki).unwrap(), &client);
    let scrubbed: String = text
        .lines()
        .map(|line| match line.split_once("-data: ") {
            Some((field, data)) => format!(
                "{field}-data: <{}>\n",
                String::from_utf8(BASE64.decode(data).unwrap()).unwrap().lines().next().unwrap()
            ),
            None => format!("{line}\n"),
        })
        .collect();
    insta::assert_snapshot!(scrubbed, @r#"
    apiVersion: v1
    kind: Config
    clusters:
    - name: "demo"
      cluster:
        server: "https://10.0.0.10:6443"
        certificate-authority-data: <-----BEGIN CERTIFICATE----->
    users:
    - name: "demo-admin"
      user:
        client-certificate-data: <-----BEGIN CERTIFICATE----->
        client-key-data: <-----BEGIN PRIVATE KEY----->
    contexts:
    - name: "demo"
      context:
        cluster: "demo"
        user: "demo-admin"
    current-context: "demo"
    "#);
    let proxied = kubeconfig(&name, "https://127.0.0.1:1", Some("10.0.0.10"), "", &client);
    assert!(proxied.contains("    tls-server-name: \"10.0.0.10\"\n    certificate-authority-data: "));
}
