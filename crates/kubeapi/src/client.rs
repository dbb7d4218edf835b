//! Clients per cluster, deadlines, and what their errors mean.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{Dial, EffectError, EffectErrorKind, KubeTarget};
use ashlar_plan::ApiCertificate;
use base64::Engine as _;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::AuthInfo;
use kube::{Client, Config};

use crate::connector::DialConnector;
use crate::peer::{Peer, Watching};

/// Longest time for one request. Under software emulation a TLS handshake alone takes seconds on a busy machine;
/// on real hosts answers come within milliseconds and the deadline is never met.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The clusters' API servers, one client for each.
pub struct Clients {
    dial: Arc<dyn Dial>,
    clients: Mutex<BTreeMap<NamespacedName, Kept>>,
}

struct Kept {
    identity: Identity,
    client: Client,
    peer: Peer,
}

/// What a kept client was made for: any change makes a new one.
#[derive(PartialEq, Eq)]
struct Identity {
    dial: ashlar_engine::effects::DialTarget,
    ca_pem: String,
    certificate_pem: String,
}

impl Clients {
    /// No connection is opened before the first request.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Clients { dial, clients: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn forget(&self, cluster: &NamespacedName) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    /// The certificate that the cluster's API server showed.
    pub(crate) fn peer(&self, cluster: &NamespacedName) -> Option<ApiCertificate> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(cluster)?.peer.seen()
    }

    pub(crate) fn client(&self, target: &KubeTarget) -> Result<Client, EffectError> {
        let identity = Identity {
            dial: target.dial.clone(),
            ca_pem: target.ca_pem.clone(),
            certificate_pem: target.client_certificate_pem.clone(),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = clients.get(&target.cluster)
            && kept.identity == identity
        {
            return Ok(kept.client.clone());
        }
        let peer = Peer::default();
        let client = connect(&self.dial, target, peer.clone())
            .map_err(|error| refused(target, &format!("make a client: {error}")))?;
        clients.insert(target.cluster.clone(), Kept { identity, client: client.clone(), peer });
        Ok(client)
    }

    /// A client that is not kept, for one server of several.
    pub(crate) fn client_for_once(&self, target: &KubeTarget) -> Result<Client, EffectError> {
        connect(&self.dial, target, Peer::default())
            .map_err(|error| refused(target, &format!("make a client: {error}")))
    }

    /// A request that only looks: it also says where something answers that is not the cluster's API. Others do not, since
    /// they are tried again as after any failure.
    pub(crate) async fn asked<T>(
        &self,
        target: &KubeTarget,
        what: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, EffectError> {
        let is_stranger = AtomicBool::new(false);
        let request = async {
            let answer = request.await;
            let strange = answer.as_ref().err().is_some_and(crate::stranger::answered);
            is_stranger.store(strange, Ordering::Relaxed);
            answer
        };
        let answer = self.bounded(target, what, request).await;
        answer.map_err(|error| {
            let kind =
                if is_stranger.load(Ordering::Relaxed) { EffectErrorKind::NotOurs } else { error.kind };
            EffectError { kind, ..error }
        })
    }

    /// Runs one request with the deadline, and says which cluster and what.
    pub(crate) async fn bounded<T>(
        &self,
        target: &KubeTarget,
        what: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, EffectError> {
        match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(answer) => answer.map_err(|error| classify(target, what, &error)),
            Err(_) => Err(EffectError::new(
                EffectErrorKind::Unreachable,
                format!(
                    "cluster {}: could not {what}: no answer from {}:{} within {} s",
                    target.cluster,
                    target.dial.address,
                    target.dial.port,
                    REQUEST_DEADLINE.as_secs()
                ),
            )),
        }
    }
}

fn connect(
    dial: &Arc<dyn Dial>,
    target: &KubeTarget,
    peer: Peer,
) -> Result<Client, Box<dyn std::error::Error>> {
    // The engine may be the first user of TLS in the process; a provider that is already there is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base64 = base64::engine::general_purpose::STANDARD;
    let url = format!("https://{}:{}", target.dial.address, target.dial.port).parse()?;
    let mut config = Config::new(url);
    config.root_cert = Some(der_of(&target.ca_pem)?);
    config.tls_server_name = Some(target.server_name.clone());
    config.default_retry = false;
    config.auth_info = AuthInfo {
        client_certificate_data: Some(base64.encode(&target.client_certificate_pem)),
        client_key_data: Some(base64.encode(target.client_key_pem.as_bytes()).into()),
        ..AuthInfo::default()
    };
    let connector = DialConnector { dial: dial.clone(), target: target.dial.clone() };
    let https = config.rustls_https_connector_with_connector(connector)?;
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build::<_, Body>(Watching { connector: https, peer });
    let service = tower::ServiceBuilder::new().layer(config.base_uri_layer()).service(http);
    Ok(ClientBuilder::new(service, "default").build())
}

fn der_of(pem: &str) -> Result<Vec<Vec<u8>>, rustls::pki_types::pem::Error> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect()
}

pub(crate) fn refused(target: &KubeTarget, what: &str) -> EffectError {
    EffectError::new(EffectErrorKind::Refused, format!("cluster {}: could not {what}", target.cluster))
}

/// Deleting what is gone already is what was wanted.
pub(crate) fn absent_is_fine(result: Result<(), EffectError>) -> Result<(), EffectError> {
    match result {
        Err(error) if error.kind == EffectErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn classify(target: &KubeTarget, what: &str, error: &kube::Error) -> EffectError {
    let kind = match error {
        kube::Error::Api(status) => match status.code {
            404 => EffectErrorKind::NotFound,
            409 => EffectErrorKind::Busy,
            429 | 500..=599 => EffectErrorKind::Busy,
            _ => EffectErrorKind::Refused,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::Auth(_) => {
            EffectErrorKind::Refused
        }
        _ => EffectErrorKind::Unreachable,
    };
    EffectError::new(
        kind,
        format!("cluster {}: could not {what}: {}{}", target.cluster, chain(error), causes(error)),
    )
}

/// What the server adds to its message: of an eviction that is refused, which budget and why.
fn causes(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return String::new() };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let told: Vec<&str> =
        causes.map(|cause| cause.message.as_str()).filter(|message| !message.is_empty()).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) }
}

/// The error with its causes; causes that repeat what stands already are left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
