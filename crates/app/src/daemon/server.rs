//! What the daemon answers: probes and figures to everybody who can connect, requests on the unix socket only.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::Scope;
use bytes::Bytes;
use futures::Stream;
use futures::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, mpsc};

use super::health::Verdict;
use super::metrics::CONTENT_TYPE;
use super::protocol::{Line, PATH, Request as Work};
use super::run::Shared;
use crate::failure::{Context as _, Result};

/// A request is a few fields, and of a host its description.
const REQUEST_BYTES: usize = 1 << 20;
/// Whoever connects must say what it wants within this time.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Lines that wait to be read.
const LINES: usize = 256;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Opens the unix socket, which only this user can connect to. The engine lock is held: what lies there is of a daemon
/// that has ended.
pub(super) fn open_socket(path: &Path) -> Result<UnixListener> {
    let doing = || format!("cannot listen on {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(doing()),
        _ => {}
    }
    let listener = UnixListener::bind(path)
        .context(doing())
        .hint("--socket PATH names another place; a socket's path has room for 107 bytes")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context(doing())?;
    Ok(listener)
}

/// Answers on the unix socket.
pub(super) async fn serve_socket(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&shared), true))),
            Err(error) => refused(&error).await,
        }
    }
}

/// Opens the address for probes and figures.
pub(super) async fn open_address(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.context(format!("cannot listen on {address}"))
}

/// Answers probes and figures.
pub(super) async fn serve_address(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&shared), false))),
            Err(error) => refused(&error).await,
        }
    }
}

async fn refused(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    may_work: bool,
) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared, may_work).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>, may_work: bool) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => probe(shared.listener.health.lives()),
        (&Method::GET, "/readyz") => probe(shared.listener.health.is_ready()),
        (&Method::GET, "/metrics") => match shared.listener.metrics.text(shared.calls()) {
            Ok(text) => response(StatusCode::OK, CONTENT_TYPE, text),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
        (&Method::POST, PATH) if may_work => {
            let body = Limited::new(request.into_body(), REQUEST_BYTES).collect().await;
            let work = body.map_err(|error| error.to_string()).and_then(|body| {
                serde_json::from_slice::<Work>(&body.to_bytes()).map_err(|error| error.to_string())
            });
            match work {
                Ok(work) => lines(Arc::clone(shared), work),
                Err(error) => text(StatusCode::BAD_REQUEST, error),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics"),
    }
}

fn probe(verdict: Verdict) -> Response<Body> {
    match verdict {
        Ok(said) => text(StatusCode::OK, format!("ok: {said}")),
        Err(said) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ok: {said}")),
    }
}

fn text(status: StatusCode, said: impl std::fmt::Display) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", format!("{said}\n"))
}

fn response(status: StatusCode, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    }
    response
}

/// Works, and answers with what happens, line by line.
fn lines(shared: Arc<Shared>, work: Work) -> Response<Body> {
    let (sender, lines) = mpsc::channel(LINES);
    tokio::spawn(async move {
        shared.listener.metrics.waiting(1);
        tokio::select! {
            () = carry_out(&shared, work, &sender) => {}
            // Whoever asked is gone: the wish goes with it. What was declared stays, and is worked on.
            () = sender.closed() => {}
        }
        shared.listener.metrics.waiting(-1);
    });
    Response::new(StreamBody::new(frames(lines)).boxed_unsync())
}

fn frames(lines: mpsc::Receiver<Line>) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        Some((Ok(Frame::data(Bytes::from(bytes))), lines))
    })
}

async fn carry_out(shared: &Shared, work: Work, sender: &mpsc::Sender<Line>) {
    let scope = match &work {
        Work::Wish(wish) => wish.scope.clone(),
        Work::AddHost(_) | Work::RemoveHost(_) => Scope::StoreOnly,
    };
    let mut told = shared.listener.tellings.listen();
    let mut outcome = std::pin::pin!(shared.work(work));
    let last = loop {
        tokio::select! {
            last = &mut outcome => break last,
            telling = told.recv() => match telling {
                Ok(telling) if scope != Scope::StoreOnly && telling.concerns(&scope) => {
                    // A closed channel ends all of this from outside.
                    let _ = sender.send(Line::Told(telling.told)).await;
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {}
            },
        }
    };
    // What was told before the end belongs before it.
    while let Ok(telling) = told.try_recv() {
        if scope != Scope::StoreOnly && telling.concerns(&scope) {
            let _ = sender.send(Line::Told(telling.told)).await;
        }
    }
    if let Some(last) = last {
        let _ = sender.send(last).await;
    }
}
