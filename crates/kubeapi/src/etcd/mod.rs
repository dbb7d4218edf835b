//! etcd, reached through [`Dial`](ashlar_engine::effects::Dial): mTLS to port 2379 of a node, one member at a time.

mod channel;
mod messages;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{Dial, DialTarget, EffectError, EffectErrorKind, EtcdApi, EtcdTarget};
use ashlar_plan::{EtcdMember, EtcdStatus};
use async_trait::async_trait;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::client::chain;
use messages::{
    Empty, MemberId, MemberListRequest, MemberListResponse, MoveLeaderRequest, SnapshotResponse,
    StatusResponse,
};

/// Longest time for one request. A TLS handshake under software emulation takes seconds on a busy machine; a change of
/// membership is answered when a majority has it on disk.
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);

/// Longest time for a defragmentation: etcd writes its database anew, and answers when that is done.
const DEFRAGMENT_DEADLINE: Duration = Duration::from_secs(300);

/// The clusters' etcd members, one channel for each.
pub struct EtcdClients {
    dial: Arc<dyn Dial>,
    channels: Mutex<BTreeMap<(NamespacedName, String), (Identity, Channel)>>,
}

/// What a kept channel was made for: any change makes a new one.
#[derive(PartialEq, Eq)]
struct Identity {
    dial: DialTarget,
    ca_pem: String,
    certificate_pem: String,
}

impl EtcdClients {
    /// No connection is opened before the first request.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        EtcdClients { dial, channels: Mutex::new(BTreeMap::new()) }
    }

    fn channel(&self, target: &EtcdTarget) -> Result<Channel, EffectError> {
        let identity = Identity {
            dial: target.dial.clone(),
            ca_pem: target.ca_pem.clone(),
            certificate_pem: target.client_certificate_pem.clone(),
        };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target.cluster.clone(), target.node.clone());
        if let Some((kept, channel)) = channels.get(&key)
            && *kept == identity
        {
            return Ok(channel.clone());
        }
        let channel = channel::open(&self.dial, target)?;
        channels.insert(key, (identity, channel.clone()));
        Ok(channel)
    }

    fn forget(&self, target: &EtcdTarget) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(&(target.cluster.clone(), target.node.clone()));
    }

    /// One request with its deadline.
    async fn request<Q, A>(
        &self,
        target: &EtcdTarget,
        call: (&str, &'static str),
        question: Q,
    ) -> Result<A, EffectError>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.request_within(target, call, question, REQUEST_DEADLINE).await
    }

    async fn request_within<Q, A>(
        &self,
        target: &EtcdTarget,
        (what, path): (&str, &'static str),
        question: Q,
        limit: Duration,
    ) -> Result<A, EffectError>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel(target)?);
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            let path = PathAndQuery::from_static(path);
            let answer = grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await?;
            Ok(answer.into_inner())
        };
        self.within(target, what, limit, call).await
    }

    async fn in_time<A>(
        &self,
        target: &EtcdTarget,
        what: &str,
        call: impl Future<Output = Result<A, Status>>,
    ) -> Result<A, EffectError> {
        self.within(target, what, REQUEST_DEADLINE, call).await
    }

    async fn within<A>(
        &self,
        target: &EtcdTarget,
        what: &str,
        limit: Duration,
        call: impl Future<Output = Result<A, Status>>,
    ) -> Result<A, EffectError> {
        let failed = |kind, why: String| {
            let message =
                format!("cluster {}: could not {what} at the etcd of {}: {why}", target.cluster, target.node);
            Err(EffectError::new(kind, message))
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => {
                let kind = kind_of(&status);
                if kind == EffectErrorKind::Unreachable {
                    // A channel whose host went away must not be waited for: the next call dials anew.
                    self.forget(target);
                }
                failed(kind, why(&status))
            }
            Err(_) => {
                self.forget(target);
                let DialTarget { address, port, .. } = &target.dial;
                failed(
                    EffectErrorKind::Unreachable,
                    format!("no answer from {address}:{port} within {} s", limit.as_secs()),
                )
            }
        }
    }
}

#[async_trait]
impl EtcdApi for EtcdClients {
    async fn members(&self, target: &EtcdTarget) -> Result<Vec<EtcdMember>, EffectError> {
        let call = ("list the members", "/etcdserverpb.Cluster/MemberList");
        let answer: MemberListResponse =
            self.request(target, call, MemberListRequest { linearizable: true }).await?;
        let member = |member: messages::Member| EtcdMember {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
        };
        Ok(answer.members.into_iter().map(member).collect())
    }

    async fn status(&self, target: &EtcdTarget) -> Result<EtcdStatus, EffectError> {
        let call = ("ask for the status", "/etcdserverpb.Maintenance/Status");
        let answer: StatusResponse = self.request(target, call, Empty {}).await?;
        Ok(EtcdStatus {
            member_id: answer.header.map(|header| header.member_id).unwrap_or_default(),
            // raft's `None` is 0.
            leader: Some(answer.leader).filter(|leader| *leader != 0),
            is_learner: answer.is_learner,
            errors: answer.errors,
            version: answer.version,
            db_size_bytes: u64::try_from(answer.db_size).unwrap_or_default(),
            db_used_bytes: u64::try_from(answer.db_size_in_use).unwrap_or_default(),
        })
    }

    async fn promote_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        let call = ("promote a learner", "/etcdserverpb.Cluster/MemberPromote");
        self.request::<_, Empty>(target, call, MemberId { id: member }).await.map(drop)
    }

    async fn remove_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        let call = ("remove a member", "/etcdserverpb.Cluster/MemberRemove");
        self.request::<_, Empty>(target, call, MemberId { id: member }).await.map(drop)
    }

    async fn move_leader(&self, target: &EtcdTarget, to: u64) -> Result<(), EffectError> {
        let call = ("move the leadership", "/etcdserverpb.Maintenance/MoveLeader");
        self.request::<_, Empty>(target, call, MoveLeaderRequest { target_id: to }).await.map(drop)
    }

    async fn snapshot(
        &self,
        target: &EtcdTarget,
        into: &mut (dyn std::io::Write + Send),
    ) -> Result<(), EffectError> {
        let what = "copy the database";
        let mut grpc = Grpc::new(self.channel(target)?);
        let begin = async {
            grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
            let codec = ProstCodec::<Empty, SnapshotResponse>::default();
            Ok(grpc.server_streaming(Request::new(Empty {}), path, codec).await?.into_inner())
        };
        let mut pieces = self.in_time(target, what, begin).await?;
        loop {
            // The deadline is that of each piece: a database may be gigabytes.
            match self.in_time(target, what, pieces.message()).await? {
                None => return Ok(()),
                Some(piece) => into.write_all(&piece.blob).map_err(|error| {
                    EffectError::new(
                        EffectErrorKind::Exhausted,
                        format!("the copy cannot be written: {error}"),
                    )
                })?,
            }
        }
    }

    async fn defragment(&self, target: &EtcdTarget) -> Result<(), EffectError> {
        let call = ("defragment the database", "/etcdserverpb.Maintenance/Defragment");
        self.request_within::<_, Empty>(target, call, Empty {}, DEFRAGMENT_DEADLINE).await.map(drop)
    }
}

/// What etcd's errors mean (`api/v3rpc/rpctypes/error.go`).
fn kind_of(status: &Status) -> EffectErrorKind {
    match status.code() {
        Code::NotFound => EffectErrorKind::NotFound,
        // Not the leader any more; a learner that is behind; members that have not started; a change under way.
        Code::FailedPrecondition | Code::Aborted | Code::ResourceExhausted => EffectErrorKind::Busy,
        // `unhealthy cluster` and `no leader` are Unavailable too.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            EffectErrorKind::Unreachable
        }
        _ => EffectErrorKind::Refused,
    }
}

/// The status' own words, or its causes where it has none.
fn why(status: &Status) -> String {
    if std::error::Error::source(status).is_some() { chain(status) } else { status.message().to_owned() }
}
