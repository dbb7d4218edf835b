//! The few messages of etcd's API that are used, as in `api/etcdserverpb/rpc.proto` of etcd 3.6 and 3.7 (field numbers
//! never change there). Derived by hand: compiling the .proto files would need `protoc` wherever Ashlar is built.

/// `ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
}

/// `Member`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) peer_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    pub(super) is_learner: bool,
}

/// `MemberListRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberListRequest {
    #[prost(bool, tag = "1")]
    pub(super) linearizable: bool,
}

/// `MemberListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberListResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

/// `MemberRemoveRequest` and `MemberPromoteRequest`: both hold the id alone.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberId {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
}

/// `StatusRequest`, and answers that are of no interest.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// `StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(int64, tag = "3")]
    pub(super) db_size: i64,
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
    #[prost(string, repeated, tag = "8")]
    pub(super) errors: Vec<String>,
    #[prost(int64, tag = "9")]
    pub(super) db_size_in_use: i64,
    #[prost(bool, tag = "10")]
    pub(super) is_learner: bool,
}

/// `SnapshotResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotResponse {
    #[prost(bytes = "vec", tag = "3")]
    pub(super) blob: Vec<u8>,
}

/// `MoveLeaderRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    pub(super) target_id: u64,
}
