//! gRPC channels to etcd members, over tunnels and mTLS.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::effects::{Dial, EffectError, EffectErrorKind, EtcdTarget};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A member that went away without a word is noticed after this long, and dialled anew.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A channel that dials when it is first used, and again when its connection is lost.
pub(super) fn open(dial: &Arc<dyn Dial>, target: &EtcdTarget) -> Result<Channel, EffectError> {
    let unusable = |what: &str, error: &dyn std::error::Error| {
        EffectError::new(
            EffectErrorKind::Refused,
            format!("cluster {}: {what} for its etcd cannot be used: {error}", target.cluster),
        )
    };
    let tls = client_config(target).map_err(|error| unusable("the certificates", error.as_ref()))?;
    let name = ServerName::try_from(target.server_name.clone())
        .map_err(|error| unusable("the server name", &error))?;
    let tls = TlsConnector::from(Arc::new(tls));
    let (dial, place) = (Arc::clone(dial), target.dial.clone());
    let connector = tower::service_fn(move |_: http::Uri| {
        let (dial, place, tls, name) = (Arc::clone(&dial), place.clone(), tls.clone(), name.clone());
        async move {
            let tunnel = dial.dial(&place).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tunnel).await?))
        }
    });
    // The connector does TLS itself: to tonic this is plain HTTP/2. The name is only what stands in `:authority`.
    let url = format!("http://{}:{}", target.server_name, target.dial.port);
    let endpoint = Endpoint::from_shared(url)
        .map_err(|error| unusable("the address", &error))?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn client_config(target: &EtcdTarget) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(target.ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(target.client_certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(target.client_key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    // gRPC servers in Go refuse a connection that did not agree on HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
