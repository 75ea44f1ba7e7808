//! What clients, masters, borglets and replicas say to each other.
//!
//! [`wire`] is generated from the `.proto` files in `proto/wire`: four gRPC services and their messages. The
//! other modules turn these messages into types of [`cell`], and back, with `TryFrom`. What is missing, out
//! of range or too large ends in a [`WireError`] that names the field, so that nothing malformed gets past
//! this crate. It opens no sockets and knows neither raft nor storage. The rules by which messages may change are in
//! `proto/wire/cell.proto`; `tests/it/stored.rs` holds each message to its stored bytes.

pub mod event;
pub mod explain;
pub mod limits;
pub mod link;
pub mod mutate;
pub mod node;
pub mod operate;
pub mod peer;
pub mod reply;
pub mod status;

mod error;
mod parts;

pub use error::WireError;

/// The messages and services as they are generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]
pub mod wire {
    tonic::include_proto!("cellmanager.v1");
    /// The descriptors of all messages, as a `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
}
