//! The three CAs of a cluster, and its service-account key.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::PkiError;
use crate::vault::SecretValues;

/// Names of the values in a cluster's PKI secret.
#[expect(missing_docs, reason = "kubeadm's own file names, under /etc/kubernetes/pki")]
pub mod names {
    pub const CA_CERTIFICATE: &str = "ca.crt";
    pub const CA_KEY: &str = "ca.key";
    pub const FRONT_PROXY_CA_CERTIFICATE: &str = "front-proxy-ca.crt";
    pub const FRONT_PROXY_CA_KEY: &str = "front-proxy-ca.key";
    pub const ETCD_CA_CERTIFICATE: &str = "etcd-ca.crt";
    pub const ETCD_CA_KEY: &str = "etcd-ca.key";
    pub const SERVICE_ACCOUNT_PUBLIC: &str = "sa.pub";
    pub const SERVICE_ACCOUNT_KEY: &str = "sa.key";
}

/// kubeadm's lifetime of a CA.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Certificates begin a little in the past: a guest's clock may run behind ours.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Makes a cluster's CAs (common names as kubeadm gives them) and its service-account key pair.
///
/// # Errors
/// The operating system gives no randomness, or the clock is absurd.
pub fn create(now: Timestamp) -> Result<SecretValues, PkiError> {
    let mut values = SecretValues::new();
    for (common_name, certificate_name, key_name) in [
        ("kubernetes", names::CA_CERTIFICATE, names::CA_KEY),
        ("front-proxy-ca", names::FRONT_PROXY_CA_CERTIFICATE, names::FRONT_PROXY_CA_KEY),
        ("etcd-ca", names::ETCD_CA_CERTIFICATE, names::ETCD_CA_KEY),
    ] {
        let failed = |source| PkiError::Certificate { what: format!("the CA {common_name}"), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = ca_params(common_name);
        params.not_before = certificate_time(now, -BACKDATE)?;
        params.not_after = certificate_time(now, CA_LIFETIME)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        values.insert(certificate_name.to_owned(), Zeroizing::new(certificate.pem().into_bytes()));
        values.insert(key_name.to_owned(), Zeroizing::new(key.serialize_pem().into_bytes()));
    }
    let key = KeyPair::generate()
        .map_err(|source| PkiError::Certificate { what: "the service-account key".to_owned(), source })?;
    values
        .insert(names::SERVICE_ACCOUNT_PUBLIC.to_owned(), Zeroizing::new(key.public_key_pem().into_bytes()));
    values.insert(names::SERVICE_ACCOUNT_KEY.to_owned(), Zeroizing::new(key.serialize_pem().into_bytes()));
    Ok(values)
}

/// PEM of the cluster's CA certificate.
///
/// # Errors
/// It is missing.
pub fn ca_pem(pki: &SecretValues) -> Result<String, PkiError> {
    Ok(text(pki, names::CA_CERTIFICATE)?.to_owned())
}

/// PEM of the CA certificate of the cluster's etcd.
///
/// # Errors
/// It is missing.
pub fn etcd_ca_pem(pki: &SecretValues) -> Result<String, PkiError> {
    Ok(text(pki, names::ETCD_CA_CERTIFICATE)?.to_owned())
}

/// `sha256:` and the hex digest of the CA's public key (SubjectPublicKeyInfo), by which joining nodes pin it.
///
/// # Errors
/// The CA's key is missing or cannot be read.
pub fn ca_hash(pki: &SecretValues) -> Result<String, PkiError> {
    let digest = Sha256::digest(ca_key(pki)?.subject_public_key_info());
    Ok(format!("sha256:{}", crate::hex::encode(&digest)))
}

pub(super) fn ca_key(pki: &SecretValues) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(text(pki, names::CA_KEY)?)
        .map_err(|source| PkiError::Certificate { what: "the cluster's CA key".to_owned(), source })
}

pub(super) fn etcd_ca_key(pki: &SecretValues) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(text(pki, names::ETCD_CA_KEY)?)
        .map_err(|source| PkiError::Certificate { what: "the key of etcd's CA".to_owned(), source })
}

/// Parameters of a CA; also what an issuer is made of later, which needs the name and the key's id only.
pub(super) fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params
}

pub(super) fn certificate_time(now: Timestamp, offset: SignedDuration) -> Result<OffsetDateTime, PkiError> {
    now.checked_add(offset)
        .ok()
        .and_then(|time| OffsetDateTime::from_unix_timestamp(time.as_second()).ok())
        .ok_or(PkiError::Clock(now))
}

fn text<'a>(pki: &'a SecretValues, name: &'static str) -> Result<&'a str, PkiError> {
    pki.get(name).and_then(|value| std::str::from_utf8(value).ok()).ok_or(PkiError::Missing(name))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
