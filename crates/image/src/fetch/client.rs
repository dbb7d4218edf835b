//! HTTP. Requests run on a thread of their own, so that Ctrl-C is noticed while a server is silent.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};

/// How often a wait looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of whoever writes them down.
const CHUNKS_AHEAD: usize = 8;

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// To be found and connected to.
    pub(crate) connect: Duration,
    /// Between one piece of an answer and the next.
    pub(crate) silence: Duration,
    /// In all.
    pub(crate) total: Option<Duration>,
    /// Before each further attempt after a server failed or a transfer broke.
    pub(crate) pauses: &'static [Duration],
}

impl Timing {
    /// For downloads of any length.
    pub(crate) const DOWNLOAD: Self = Self {
        connect: Duration::from_secs(15),
        silence: Duration::from_secs(60),
        total: None,
        pauses: &[Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10)],
    };
    /// For a look whether somebody is there.
    pub(crate) const PROBE: Self = Self {
        connect: Duration::from_secs(4),
        silence: Duration::from_secs(4),
        total: Some(Duration::from_secs(5)),
        pauses: &[],
    };
}

/// Why there is no answer, or only half of one.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing came.
    NoAnswer(String),
    /// An answer began and broke off.
    Broken(String),
    /// The caller wants it no more.
    Cancelled,
}

/// An HTTP client that honours the proxy variables and trusts what the system trusts.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    timing: Timing,
}

/// An answer whose body is still on its way.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Receiver<Result<Vec<u8>, String>>,
}

impl Client {
    pub(crate) fn new(timing: Timing) -> Self {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            // The system's certificates: a site's mirror often has one of the site's own authority.
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        // The proxy comes from the environment by itself.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .user_agent(concat!("ashlar/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(timing.connect))
            .timeout_connect(Some(timing.connect))
            .timeout_recv_response(Some(timing.silence))
            .timeout_per_read(Some(timing.silence))
            .timeout_global(timing.total)
            .build();
        Self { agent: config.into(), timing }
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Asks, and returns once status and headers are there.
    pub(crate) fn get(
        &self,
        cancel: &AtomicBool,
        url: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Answer, Trouble> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let timing = self.timing;
        let (head, heads) = mpsc::sync_channel(1);
        let (chunks, body) = mpsc::sync_channel(CHUNKS_AHEAD);
        std::thread::spawn(move || {
            let response = match request.call() {
                Ok(response) => response,
                Err(error) => {
                    let _ = head.send(Err(describe(&error, &timing)));
                    return;
                }
            };
            let (parts, body) = response.into_parts();
            if head.send(Ok((parts.status.as_u16(), parts.headers))).is_err() {
                return;
            }
            let mut reader = body.into_reader();
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let piece = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(length) => {
                        chunk.truncate(length);
                        Ok(chunk)
                    }
                    Err(error) => Err(describe_io(&error, &timing)),
                };
                let is_last = piece.is_err();
                // Nobody listens any more: the download was given up.
                if chunks.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        let (status, headers) = match wait(cancel, &heads)? {
            Some(Ok(head)) => head,
            Some(Err(cause)) => return Err(Trouble::NoAnswer(cause)),
            None => return Err(Trouble::NoAnswer("the request ended without an answer".to_owned())),
        };
        Ok(Answer { status, headers, body })
    }
}

impl Answer {
    /// The next piece of the body; none at its end.
    pub(crate) fn chunk(&self, cancel: &AtomicBool) -> Result<Option<Vec<u8>>, Trouble> {
        wait(cancel, &self.body)?.transpose().map_err(Trouble::Broken)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What comes next; none when the other end is gone.
fn wait<T>(cancel: &AtomicBool, from: &Receiver<T>) -> Result<Option<T>, Trouble> {
    loop {
        match from.recv_timeout(LOOK) {
            Ok(item) => return Ok(Some(item)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => {
                return Err(Trouble::Cancelled);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn describe(error: &ureq::Error, timing: &Timing) -> String {
    match error {
        ureq::Error::HostNotFound => "the name of its server does not resolve".to_owned(),
        ureq::Error::Timeout(ureq::Timeout::Resolve) => {
            format!("the name of its server did not resolve within {} s", timing.connect.as_secs())
        }
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            format!("no connection within {} s", timing.connect.as_secs())
        }
        ureq::Error::Timeout(ureq::Timeout::Global) => {
            format!("no answer within {} s", timing.total.unwrap_or_default().as_secs())
        }
        ureq::Error::Timeout(_) => format!("no answer for {} s", timing.silence.as_secs()),
        ureq::Error::Io(error) => describe_io(error, timing),
        other => other.to_string(),
    }
}

fn describe_io(error: &std::io::Error, timing: &Timing) -> String {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        return describe(inner, timing);
    }
    // The resolver's own words differ with the C library and its configuration.
    if error.to_string().starts_with("failed to lookup address") {
        return "the name of its server does not resolve".to_owned();
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        std::io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "the connection ended early".to_owned(),
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
            format!("no answer for {} s", timing.silence.as_secs())
        }
        _ => error.to_string(),
    }
}
