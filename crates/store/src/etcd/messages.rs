//! The messages of etcd's KV, Watch and Lease services that are used, as in `api/etcdserverpb/rpc.proto` and
//! `api/mvccpb/kv.proto` (field numbers never change there). Derived by hand: compiling the .proto files would need
//! `protoc` wherever Ashlar is built. `ashlar-kubeapi` has those of the Cluster and Maintenance services; but for the
//! header the two share nothing.

use prost::{Message, Oneof};

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),* $(,)? })+) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub(super) struct $name { $($(#[$attribute])* pub(super) $field: $kind),* }
    )+ };
}

messages! {
    /// `ResponseHeader`.
    Header {
        #[prost(int64, tag = "3")]
        revision: i64,
    }
    /// `mvccpb.KeyValue`.
    KeyValue {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(int64, tag = "2")]
        create_revision: i64,
        #[prost(int64, tag = "3")]
        mod_revision: i64,
        #[prost(bytes = "vec", tag = "5")]
        value: Vec<u8>,
        #[prost(int64, tag = "6")]
        lease: i64,
    }
    /// `RangeRequest`. The order by key is the default.
    RangeRequest {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        range_end: Vec<u8>,
        #[prost(int64, tag = "3")]
        limit: i64,
        #[prost(int64, tag = "4")]
        revision: i64,
        #[prost(bool, tag = "8")]
        keys_only: bool,
        #[prost(bool, tag = "9")]
        count_only: bool,
    }
    /// `RangeResponse`.
    RangeResponse {
        #[prost(message, optional, tag = "1")]
        header: Option<Header>,
        #[prost(message, repeated, tag = "2")]
        kvs: Vec<KeyValue>,
        #[prost(bool, tag = "3")]
        more: bool,
    }
    /// `PutRequest`.
    PutRequest {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
        #[prost(int64, tag = "3")]
        lease: i64,
    }
    /// `DeleteRangeRequest`, of one key.
    DeleteRangeRequest {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
    }
    /// Answers to single writes of a transaction: of no interest.
    Nothing {}
    /// `RequestOp`.
    RequestOp {
        #[prost(oneof = "Request", tags = "1, 2, 3")]
        request: Option<Request>,
    }
    /// `ResponseOp`.
    ResponseOp {
        #[prost(oneof = "Response", tags = "1, 2, 3")]
        response: Option<Response>,
    }
    /// `Compare`.
    Compare {
        /// EQUAL is 0.
        #[prost(int32, tag = "1")]
        result: i32,
        #[prost(int32, tag = "2")]
        target: i32,
        #[prost(bytes = "vec", tag = "3")]
        key: Vec<u8>,
        #[prost(oneof = "Target", tags = "4, 5, 6")]
        target_union: Option<Target>,
    }
    /// `TxnRequest`.
    TxnRequest {
        #[prost(message, repeated, tag = "1")]
        compare: Vec<Compare>,
        #[prost(message, repeated, tag = "2")]
        success: Vec<RequestOp>,
        #[prost(message, repeated, tag = "3")]
        failure: Vec<RequestOp>,
    }
    /// `TxnResponse`.
    TxnResponse {
        #[prost(message, optional, tag = "1")]
        header: Option<Header>,
        #[prost(bool, tag = "2")]
        succeeded: bool,
        #[prost(message, repeated, tag = "3")]
        responses: Vec<ResponseOp>,
    }
    /// `CompactionRequest`.
    CompactionRequest {
        #[prost(int64, tag = "1")]
        revision: i64,
    }
    /// `LeaseGrantRequest`; etcd chooses the id.
    LeaseGrantRequest {
        #[prost(int64, tag = "1")]
        ttl_s: i64,
    }
    /// `LeaseGrantResponse`, `LeaseKeepAliveResponse`: a lease that is gone has no time to live.
    LeaseResponse {
        #[prost(int64, tag = "2")]
        id: i64,
        #[prost(int64, tag = "3")]
        ttl_s: i64,
    }
    /// `LeaseKeepAliveRequest`, `LeaseRevokeRequest`.
    LeaseRequest {
        #[prost(int64, tag = "1")]
        id: i64,
    }
    /// `WatchCreateRequest`.
    WatchCreateRequest {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        range_end: Vec<u8>,
        #[prost(int64, tag = "3")]
        start_revision: i64,
        #[prost(bool, tag = "4")]
        progress_notify: bool,
    }
    /// `WatchRequest`, of which only the creation is used.
    WatchRequest {
        #[prost(message, optional, tag = "1")]
        create: Option<WatchCreateRequest>,
    }
    /// `mvccpb.Event`.
    Event {
        /// PUT is 0, DELETE is 1.
        #[prost(int32, tag = "1")]
        kind: i32,
        #[prost(message, optional, tag = "2")]
        kv: Option<KeyValue>,
    }
    /// `WatchResponse`.
    WatchResponse {
        #[prost(message, optional, tag = "1")]
        header: Option<Header>,
        #[prost(bool, tag = "3")]
        created: bool,
        #[prost(bool, tag = "4")]
        canceled: bool,
        #[prost(int64, tag = "5")]
        compact_revision: i64,
        #[prost(string, tag = "6")]
        cancel_reason: String,
        #[prost(message, repeated, tag = "11")]
        events: Vec<Event>,
    }
}

/// Kinds of requests in a transaction.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Request {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

/// Kinds of answers in a transaction.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Response {
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    Put(Nothing),
    #[prost(message, tag = "3")]
    Delete(Nothing),
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum Target {
    #[prost(int64, tag = "4")]
    Version(i64),
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

/// `CompareTarget`.
pub(super) const VERSION: i32 = 0;
/// `CompareTarget`.
pub(super) const CREATE: i32 = 1;
/// `CompareTarget`.
pub(super) const MOD: i32 = 2;
/// `EventType`.
pub(super) const DELETE: i32 = 1;
