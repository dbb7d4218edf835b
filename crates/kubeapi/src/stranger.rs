//! Telling an API server that is not the cluster's from one that does not answer.

use std::error::Error;

use rustls::CertificateError;

/// Whether what answered showed a certificate that is not one of the cluster's API server: of another authority, or for
/// another address. One that ran out, or is not valid yet, is its own: somebody's clock is wrong, or nobody renewed it.
pub(crate) fn answered(error: &kube::Error) -> bool {
    match tls_of(error) {
        Some(rustls::Error::InvalidCertificate(why)) => !is_a_matter_of_time(why),
        _ => false,
    }
}

/// What TLS said, however it is wrapped: errors of I/O hold others that are not their sources.
fn tls_of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(|io| tls_of(io.get_ref()?));
    held.or_else(|| tls_of(error.source()?))
}

fn is_a_matter_of_time(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use ashlar_api::NamespacedName;
    use ashlar_engine::effects::{
        Dial, DialTarget, EffectError, EffectErrorKind, KubeApi as _, KubeTarget, Stream,
    };
    use async_trait::async_trait;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use crate::Clients;

    const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 1);

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        // kubeadm calls all of them so.
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A server behind every dial, with a certificate of that authority.
    struct Server(Arc<rustls::ServerConfig>);

    fn server(authority: &Authority, address: Ipv4Addr, year: i32) -> Server {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("a server");
        Server(Arc::new(config))
    }

    #[async_trait]
    impl Dial for Server {
        async fn dial(&self, _: &DialTarget) -> Result<Box<dyn Stream>, EffectError> {
            let (here, there) = tokio::io::duplex(1 << 16);
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.0));
            tokio::spawn(async move { acceptor.accept(there).await.map(drop) });
            Ok(Box::new(here))
        }
    }

    /// Nothing that speaks TLS.
    struct Mute;

    #[async_trait]
    impl Dial for Mute {
        async fn dial(&self, _: &DialTarget) -> Result<Box<dyn Stream>, EffectError> {
            Ok(Box::new(tokio::io::duplex(64).0))
        }
    }

    async fn ask(dial: impl Dial + 'static, trusted: &Authority) -> EffectError {
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::default().self_signed(&key).expect("signed").pem();
        let target = KubeTarget {
            cluster: NamespacedName::new("default", "demo"),
            server_name: ENDPOINT.to_string(),
            dial: DialTarget {
                via: Vec::new(),
                network: "lab".to_owned(),
                namespace: None,
                address: ENDPOINT,
                others: Vec::new(),
                port: 6443,
            },
            ca_pem: trusted.pem.clone(),
            client_certificate_pem: own,
            client_key_pem: key.serialize_pem().into(),
        };
        Clients::new(Arc::new(dial)).observe(&target, &[], &[]).await.expect_err("nobody answers well")
    }

    #[tokio::test]
    async fn another_authoritys_certificate_is_a_strangers_and_one_that_ran_out_is_not() {
        let (ours, theirs) = (authority(), authority());
        let error = ask(server(&theirs, ENDPOINT, 2099), &ours).await;
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        let error = ask(server(&ours, Ipv4Addr::new(10, 88, 1, 2), 2099), &ours).await;
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        // What it is not: its own, too old; nothing that speaks TLS; a connection that ends.
        let error = ask(server(&ours, ENDPOINT, 2021), &ours).await;
        assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
        let error = ask(Mute, &ours).await;
        assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
        let error = ask(server(&ours, ENDPOINT, 2099), &ours).await;
        assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
    }
}
