//! Requests to whichever member answers, over mTLS. They run on a runtime of the store's own, so that callers need none.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::EtcdOptions;
use crate::StoreError;

/// Longest time for one request to one member. A member without a leader answers after 5 s or so that it has none.
const REQUEST_DEADLINE: Duration = Duration::from_secs(6);
/// A question that has no answer after so long is put to another member, too. A follower whose leader has just died, or a member
/// that was cut off, would else cost a leader the time in which another takes over (5 s).
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A member that went away without a word is noticed after so long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A page of objects, or the events of many transactions.
const MESSAGE_BYTES: usize = 64 << 20;

/// The members.
pub(super) struct Connection {
    members: Vec<(String, Channel)>,
    /// Which of them is asked first: the one that answered last.
    current: AtomicUsize,
}

/// What goes wrong with a request: what etcd said, and which member.
pub(super) struct Refusal {
    pub(super) status: Status,
    member: String,
}

impl Refusal {
    pub(super) fn is_compacted(&self) -> bool {
        self.status.code() == Code::OutOfRange && self.status.message().contains("compacted")
    }

    pub(super) fn is_future(&self) -> bool {
        self.status.code() == Code::OutOfRange && self.status.message().contains("future")
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, member } = refusal;
        // What tonic adds to it (codes, the debug form of its own errors) tells people nothing.
        let said = match status.message() {
            "" | "transport error" => chain(&status),
            message => message.to_owned(),
        };
        let next = if said.contains("database space exceeded") {
            "; it is full, and takes no writes: compact and defragment it, then `etcdctl alarm disarm`, or raise --quota-backend-bytes"
        } else if said.contains("request is too large") {
            "; raise etcd's --max-request-bytes"
        } else if said.contains("invalid peer certificate") {
            "; is the CA that of these members?"
        } else if said.contains("Connection refused") || said.starts_with("no answer") {
            "; does it run, and can it be reached from here?"
        } else {
            ""
        };
        StoreError::unavailable(format!("etcd at {member}: {said}{next}"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Connection {
    /// Must be called inside the runtime.
    pub(super) fn open(options: &EtcdOptions) -> Result<Self, StoreError> {
        if options.endpoints.is_empty() {
            return Err(StoreError::unavailable("no member of etcd is named"));
        }
        let tls = client_config(options).map_err(|error| {
            StoreError::unavailable(format!("the certificates for etcd cannot be used: {error}"))
        })?;
        let tls = TlsConnector::from(Arc::new(tls));
        let members = options.endpoints.iter().map(|url| Ok((url.clone(), open(url, &tls)?)));
        Ok(Connection { members: members.collect::<Result<_, StoreError>>()?, current: AtomicUsize::new(0) })
    }

    fn member(&self) -> (usize, &str, Grpc<Channel>) {
        self.member_at(self.current.load(Ordering::Relaxed))
    }

    fn member_at(&self, at: usize) -> (usize, &str, Grpc<Channel>) {
        let at = at % self.members.len();
        let (name, channel) = &self.members[at];
        let grpc = Grpc::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        (at, name, grpc)
    }

    /// The next request goes to another member, unless somebody else moved on already.
    fn move_on(&self, from: usize) {
        let next = (from + 1) % self.members.len();
        // Whoever lost the race finds it moved.
        let _ = self.current.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks one member, and others where it is late or cannot answer, until one does. Only for questions that change nothing.
    pub(super) async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Refusal>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        use futures::StreamExt as _;
        let first = self.current.load(Ordering::Relaxed);
        // The first one is asked once more at the end: by then it may have a leader.
        let mut others = first..first + self.members.len() + 1;
        let mut asked = futures::stream::FuturesUnordered::new();
        asked.extend(others.next().map(|at| self.order_to(at, REQUEST_DEADLINE, path, question.clone())));
        loop {
            let answered = match others.len() {
                0 => asked.next().await,
                _ => tokio::time::timeout(PATIENCE, asked.next()).await.unwrap_or(None),
            };
            match answered {
                Some((at, Ok(answer))) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Some((_, Err(refusal))) if !is_elsewhere_better(&refusal.status) => return Err(refusal),
                Some((_, Err(refusal))) if others.is_empty() && asked.is_empty() => return Err(refusal),
                _ => asked.extend(
                    others.next().map(|at| self.order_to(at, REQUEST_DEADLINE, path, question.clone())),
                ),
            }
        }
    }

    /// Asks one member after the other until one answers, with so much time for each.
    pub(super) async fn ask_within<Q, A>(
        &self,
        limit: Duration,
        path: &'static str,
        question: Q,
    ) -> Result<A, Refusal>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut last = self.order_within(limit, path, question.clone()).await;
        for _ in 0..self.members.len() {
            match &last {
                Err(refusal) if is_elsewhere_better(&refusal.status) => {
                    last = self.order_within(limit, path, question.clone()).await;
                }
                _ => break,
            }
        }
        last
    }

    /// Asks one member once: what fails on the way may have been done.
    pub(super) async fn order<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Refusal>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.order_within(REQUEST_DEADLINE, path, question).await
    }

    /// The same, with so much time.
    pub(super) async fn order_within<Q, A>(
        &self,
        limit: Duration,
        path: &'static str,
        question: Q,
    ) -> Result<A, Refusal>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (at, answer) = self.order_to(self.member().0, limit, path, question).await;
        if answer.as_ref().is_err_and(|refusal| is_elsewhere_better(&refusal.status)) {
            self.move_on(at);
        }
        answer
    }

    /// Asks the given member; says which that is.
    async fn order_to<Q, A>(
        &self,
        at: usize,
        limit: Duration,
        path: &'static str,
        question: Q,
    ) -> (usize, Result<A, Refusal>)
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (at, name, mut grpc) = self.member_at(at);
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(Request::new(question), PathAndQuery::from_static(path), codec).await
        };
        let answer = within(limit, call).await;
        (at, answer.map_err(|status| Refusal { status, member: name.to_owned() }))
    }

    /// Of a method that streams both ways, one question and its answer.
    pub(super) async fn exchange<Q, A>(
        &self,
        limit: Duration,
        path: &'static str,
        question: Q,
    ) -> Result<A, Refusal>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (at, member) = (self.member().0, self.member().1.to_owned());
        let exchange = async {
            let mut answers: Answers<A> = self.stream(path, question).await?;
            match answers.stream.message().await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => Err(self.lost(&answers, Status::unavailable("the stream ended"))),
                Err(status) => Err(self.lost(&answers, status)),
            }
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                self.move_on(at);
                Err(Refusal { status: late(limit), member })
            }
        }
    }

    /// Opens a stream of answers; it ends when its member has no leader.
    pub(super) async fn stream<Q, A>(&self, path: &'static str, question: Q) -> Result<Answers<A>, Refusal>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        use futures::StreamExt as _;
        let (at, name, mut grpc) = self.member();
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            // Closing our half would end the stream.
            let questions = futures::stream::iter([question]).chain(futures::stream::pending());
            let mut request = Request::new(questions);
            request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
            let codec = ProstCodec::<Q, A>::default();
            grpc.streaming(request, PathAndQuery::from_static(path), codec).await
        };
        let member = name.to_owned();
        match within(REQUEST_DEADLINE, call).await {
            Ok(stream) => Ok(Answers { stream, at, member }),
            Err(status) => {
                self.move_on(at);
                Err(Refusal { status, member })
            }
        }
    }

    /// A stream ended badly: the next goes to another member.
    pub(super) fn lost<A>(&self, answers: &Answers<A>, status: Status) -> Refusal {
        self.move_on(answers.at);
        Refusal { status, member: answers.member.clone() }
    }
}

/// A stream from one member.
pub(super) struct Answers<A> {
    pub(super) stream: Streaming<A>,
    at: usize,
    member: String,
}

/// What a member answered; its silence is a status too.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs_f32()))
}

fn is_elsewhere_better(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

fn open(url: &str, tls: &TlsConnector) -> Result<Channel, StoreError> {
    let wrong = || {
        StoreError::unavailable(format!("`{url}` is no address of a member of etcd: write https://HOST:PORT"))
    };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (host, port) = match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("https"), Some(host), port) => (host.to_owned(), port.unwrap_or(2379)),
        _ => return Err(wrong()),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
    let tls = tls.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (bare, name, tls) = (bare.clone(), name.clone(), tls.clone());
        async move {
            let connect = async {
                let stream = TcpStream::connect((bare.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                tls.connect(name, stream).await
            };
            match tokio::time::timeout(CONNECT_DEADLINE, connect).await {
                Ok(stream) => Ok(TokioIo::new(stream?)),
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
            }
        }
    });
    // The connector does TLS itself: to tonic this is plain HTTP/2.
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|_| wrong())?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn client_config(options: &EtcdOptions) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(options.ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(options.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(options.key_pem.as_bytes())
        .map_err(|error| format!("there is no key where it should be: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    // gRPC servers in Go refuse a connection that did not agree on HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The runtime that requests run on.
pub(super) struct Own {
    runtime: Option<Runtime>,
}

impl Own {
    pub(super) fn start() -> Result<Self, StoreError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("store-etcd").enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Unavailable {
            reason: "no thread could be started".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        Ok(Own { runtime: Some(runtime) })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime, StoreError> {
        self.runtime.as_ref().ok_or_else(|| StoreError::unavailable("the store is closed"))
    }

    /// Runs it there. What is dropped here goes on there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let running = self.runtime()?.spawn(work);
        running.await.map_err(|_| StoreError::unavailable("the store is closed"))?
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May be dropped inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}
