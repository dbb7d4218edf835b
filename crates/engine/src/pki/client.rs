//! Client certificates for a cluster's API server and its etcd.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
};
use zeroize::Zeroizing;

use super::{
    PkiError,
    ca::{ca_key, ca_params, certificate_time, etcd_ca_key},
};
use crate::vault::SecretValues;

/// Client certificates are made anew all the time, for nodes whose clocks may be far behind by then. No node's clock is
/// behind the CA's beginning, and that counts too.
const CLIENT_BACKDATE: SignedDuration = SignedDuration::from_hours(24);

/// Who a client certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The engine itself: group `system:masters`, which no RBAC rule can take away. It acts before kubeadm has made
    /// the binding of `kubeadm:cluster-admins` (the first join token is published while `kubeadm init` still runs),
    /// and must be able to repair a cluster whose RBAC is broken. Lives a day, in memory only.
    Engine,
    /// The engine at etcd, signed by etcd's own CA. etcd asks for no more than that. Lives a day, in memory only.
    EngineAtEtcd,
    /// A person: as kubeadm's admin.conf, group `kubeadm:cluster-admins`, which a ClusterRoleBinding makes admin, so
    /// that it can be taken away. Lives 30 days if nobody asks for another time, and a year at most.
    Administrator,
}

impl Identity {
    fn common_name(self) -> &'static str {
        match self {
            Identity::Engine | Identity::EngineAtEtcd => "ashlar:engine",
            Identity::Administrator => "kubernetes-admin",
        }
    }

    fn organization(self) -> &'static str {
        match self {
            Identity::Engine | Identity::EngineAtEtcd => "system:masters",
            Identity::Administrator => "kubeadm:cluster-admins",
        }
    }

    /// How long its certificates live.
    pub fn lifetime(self) -> SignedDuration {
        match self {
            Identity::Engine | Identity::EngineAtEtcd => SignedDuration::from_hours(24),
            Identity::Administrator => SignedDuration::from_hours(30 * 24),
        }
    }
}

/// A client certificate and its key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// PEM.
    pub certificate_pem: String,
    /// PEM (PKCS#8).
    pub key_pem: Zeroizing<String>,
    /// When it ends.
    pub expires: Timestamp,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIdentity").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// When a certificate runs out that the cluster's CA signed; none if it is another's, or no certificate.
pub fn end_of_ours(ca_pem: &str, certificate_pem: &str) -> Option<Timestamp> {
    use x509_parser::{certificate::X509Certificate, pem::parse_x509_pem, prelude::FromDer as _};
    let (_, ca) = parse_x509_pem(ca_pem.as_bytes()).ok()?;
    let (_, ca) = X509Certificate::from_der(&ca.contents).ok()?;
    let (_, certificate) = parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&certificate.contents).ok()?;
    certificate.verify_signature(Some(ca.public_key())).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// Makes a client certificate for its usual time, signed by the cluster's CA, or by its etcd's.
///
/// # Errors
/// The CA's key is missing or cannot be read.
pub fn client_identity(
    pki: &SecretValues,
    identity: Identity,
    now: Timestamp,
) -> Result<ClientIdentity, PkiError> {
    client_identity_for(pki, identity, now, identity.lifetime())
}

/// Makes one for as long as is said.
///
/// # Errors
/// The CA's key is missing or cannot be read.
pub fn client_identity_for(
    pki: &SecretValues,
    identity: Identity,
    now: Timestamp,
    lifetime: SignedDuration,
) -> Result<ClientIdentity, PkiError> {
    let failed = |source| PkiError::Certificate {
        what: format!("the client certificate {}", identity.common_name()),
        source,
    };
    let issuer = match identity {
        Identity::Engine | Identity::Administrator => Issuer::new(ca_params("kubernetes"), ca_key(pki)?),
        Identity::EngineAtEtcd => Issuer::new(ca_params("etcd-ca"), etcd_ca_key(pki)?),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, identity.organization());
    params.distinguished_name.push(DnType::CommonName, identity.common_name());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = certificate_time(now, -CLIENT_BACKDATE)?;
    params.not_after = certificate_time(now, lifetime)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(ClientIdentity {
        certificate_pem: certificate.pem(),
        key_pem: Zeroizing::new(key.serialize_pem()),
        expires: now.checked_add(lifetime).map_err(|_| PkiError::Clock(now))?,
    })
}
