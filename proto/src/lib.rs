//! What clients, masters, borglets and replicas say to each other.
//!
//! [`wire`] is generated from the `.proto` files in `proto/wire`.

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
