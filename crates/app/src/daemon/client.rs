//! A command's side: what it asks the daemon for, and what it shows of the answer.
//!
//! A daemon on this machine is asked over its socket. Where that one stands by, or leads on another machine, the request
//! is put into the store in etcd for whoever leads, and the answer found there: what happens on the way is then not told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_engine::Wish;
use ashlar_engine::enrol::{Enrolled, NewHost};
use ashlar_store::EtcdStore;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::protocol::{Done, ErrorReport, Line, PATH, Request};
use crate::failure::{Context as _, Failure, Result};
use crate::progress::Told;

/// A daemon that has died is replaced within some seconds, if another one stands by.
const NO_LEADER: Duration = Duration::from_secs(15);
/// How often a command looks whether anybody leads.
const LEADER_INTERVAL: Duration = Duration::from_secs(1);

/// A daemon, by its socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Where it is asked, if it is on this machine.
    socket: Option<PathBuf>,
    /// Where whoever leads is asked, if there may be several.
    mailbox: Option<EtcdStore>,
    /// Who it is, for messages.
    pub(crate) name: String,
}

/// How the daemon's work ended.
enum Outcome {
    Done(Done),
    Enrolled(Box<Enrolled>),
    Removed,
}

impl Client {
    pub(crate) fn new(socket: &Path, pid: u32) -> Self {
        let name = format!("the daemon (process {pid})");
        Client { socket: Some(socket.to_owned()), mailbox: None, name }
    }

    /// Of a daemon on another machine.
    pub(crate) fn by_mail(name: String, mailbox: EtcdStore) -> Self {
        Client { socket: None, mailbox: Some(mailbox), name }
    }

    /// It may stand by: then whoever leads is asked.
    pub(crate) fn or_by_mail(self, mailbox: Option<EtcdStore>) -> Self {
        Client { mailbox, ..self }
    }

    /// Waits until a wish came about; what happens meanwhile goes to `tell`.
    pub(crate) async fn wish(
        &self,
        wish: Wish,
        tell: impl FnMut(&Told),
    ) -> Result<Result<Done, ErrorReport>> {
        self.work(Request::Wish(wish), tell).await?.map_or_else(
            |report| Ok(Err(report)),
            |outcome| match outcome {
                Outcome::Done(done) => Ok(Ok(done)),
                _ => Err(self.misunderstood()),
            },
        )
    }

    /// Has a host enrolled.
    pub(crate) async fn add_host(&self, new: &NewHost, tell: impl FnMut(&Told)) -> Result<Enrolled> {
        match self.work(Request::AddHost(Box::new(new.clone())), tell).await?? {
            Outcome::Enrolled(enrolled) => Ok(*enrolled),
            _ => Err(self.misunderstood()),
        }
    }

    /// Has a host given up.
    pub(crate) async fn remove_host(&self, name: &str, tell: impl FnMut(&Told)) -> Result<()> {
        match self.work(Request::RemoveHost(name.to_owned()), tell).await?? {
            Outcome::Removed => Ok(()),
            _ => Err(self.misunderstood()),
        }
    }

    async fn work(&self, request: Request, tell: impl FnMut(&Told)) -> Result<Result<Outcome, ErrorReport>> {
        if let Some(socket) = &self.socket
            && let Some(outcome) = self.over_socket(socket, &request, tell).await?
        {
            return Ok(outcome);
        }
        let mailbox = self.mailbox.as_ref().ok_or_else(|| self.ended())?;
        let posted = mailbox.post(serde_json::to_string(&request)?).await?;
        let answer = tokio::select! {
            answer = posted.answer() => answer?,
            () = no_leader(mailbox) => {
                posted.withdraw().await.ok();
                return Err(self.ended());
            }
        };
        // Otherwise it ends by itself.
        posted.withdraw().await.ok();
        match serde_json::from_str(&answer).map_err(|_| self.misunderstood())? {
            Line::Done(done) => Ok(Ok(Outcome::Done(done))),
            Line::Enrolled(enrolled) => Ok(Ok(Outcome::Enrolled(enrolled))),
            Line::Removed => Ok(Ok(Outcome::Removed)),
            Line::Failed(report) => Ok(Err(report)),
            Line::Told(_) | Line::StandingBy => Err(self.misunderstood()),
        }
    }

    /// None if it stands by.
    async fn over_socket(
        &self,
        socket: &Path,
        request: &Request,
        mut tell: impl FnMut(&Told),
    ) -> Result<Option<Result<Outcome, ErrorReport>>> {
        let doing = || format!("{} cannot be reached at {}", self.name, socket.display());
        let stream = match UnixStream::connect(socket).await {
            Err(_) if self.mailbox.is_some() => return Ok(None),
            stream => stream.context(doing())?,
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context(doing())?;
        // It ends with the sender; its failures show in the answer.
        let connection = tokio::spawn(connection);
        let body = Full::new(Bytes::from(serde_json::to_vec(request)?));
        let request = hyper::Request::post(PATH).header("host", "ashlar").body(body)?;
        let answer = sender.send_request(request).await.context(doing())?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(Failure::new(format!("{} answered {}", self.name, answer.status()))
                .hint("is it another version of Ashlar? restart it after an update"));
        }
        let mut body = answer.into_body();
        let mut text = Vec::new();
        let outcome = loop {
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(|_| self.misunderstood())? {
                    Line::Told(told) => tell(&told),
                    Line::Done(done) => break Ok(Outcome::Done(done)),
                    Line::Enrolled(enrolled) => break Ok(Outcome::Enrolled(enrolled)),
                    Line::Removed => break Ok(Outcome::Removed),
                    Line::Failed(report) => break Err(report),
                    Line::StandingBy => return Ok(None),
                }
                continue;
            }
            match body.frame().await {
                Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                // Another daemon takes its place, and the request.
                Some(Err(_)) | None if self.mailbox.is_some() => return Ok(None),
                Some(Err(_)) | None => return Err(self.ended()),
            }
        };
        connection.abort();
        Ok(Some(outcome))
    }

    fn ended(&self) -> Failure {
        Failure::new(format!("{} ended before this was done", self.name))
            .hint("what was declared is recorded: it is done when the daemon is started again")
            .hint("the same command again waits for it, or does it where no daemon runs")
    }

    fn misunderstood(&self) -> Failure {
        Failure::new(format!("{} gave an answer that this Ashlar does not understand", self.name))
            .hint("is it another version of Ashlar? restart it after an update")
    }
}

/// Comes back when nobody has led for so long that nobody will by itself.
async fn no_leader(store: &EtcdStore) {
    let mut since = None;
    loop {
        match store.leader().await {
            Ok(None) if since.get_or_insert_with(Instant::now).elapsed() >= NO_LEADER => return,
            Ok(None) => {}
            _ => since = None,
        }
        tokio::time::sleep(LEADER_INTERVAL).await;
    }
}
