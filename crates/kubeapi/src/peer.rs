//! The certificate that an API server showed when a connection to it was made.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ashlar_plan::ApiCertificate;
use hyper_rustls::MaybeHttpsStream;
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What the last connection of a client saw; nothing before there was one.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<Mutex<Option<ApiCertificate>>>);

impl Peer {
    pub(crate) fn seen(&self) -> Option<ApiCertificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn see(&self, certificate: Option<ApiCertificate>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

/// A connector that looks at the certificates of what it connects to. They were verified by then.
#[derive(Clone)]
pub(crate) struct Watching<C> {
    pub(crate) connector: C,
    pub(crate) peer: Peer,
}

impl<C, T> tower::Service<http::Uri> for Watching<C>
where
    C: tower::Service<http::Uri, Response = MaybeHttpsStream<T>>,
    C::Future: Send + 'static,
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    type Response = MaybeHttpsStream<T>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let (connecting, peer) = (self.connector.call(uri), self.peer.clone());
        Box::pin(async move {
            let stream = connecting.await?;
            if let MaybeHttpsStream::Https(tls) = &stream {
                let shown = tls.inner().get_ref().1.peer_certificates();
                peer.see(shown.and_then(|shown| read(shown.first()?)));
            }
            Ok(stream)
        })
    }
}

/// Names and end of a certificate; none if it cannot be read, which keeps nobody from talking to who showed it.
fn read(der: &[u8]) -> Option<ApiCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let dns_names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let ends_at = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    Some(ApiCertificate { dns_names: dns_names.collect(), ends_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_end_are_read() {
        let names = ["kubernetes".to_owned(), "demo-ctrl-1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.not_after = rcgen::date_time_ymd(2027, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let seen = read(certificate.der()).unwrap();
        assert_eq!(seen.dns_names, names.into());
        assert_eq!(seen.ends_at.to_string(), "2027-03-04T00:00:00Z");
        assert_eq!(read(b"none"), None);
    }
}
