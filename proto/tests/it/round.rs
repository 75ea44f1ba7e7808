//! A value that travels arrives as it was sent.

use std::fmt::Debug;

use proptest::prelude::*;
use prost::Message;
use proto::{WireError, wire};

use crate::any;

/// Sends a value as `W`, by way of bytes.
fn arrives<T, W>(sent: T) -> Result<(), TestCaseError>
where
    T: Clone + Debug + PartialEq + TryFrom<W>,
    W: Message + Default + TryFrom<T>,
    <W as TryFrom<T>>::Error: Debug,
    <T as TryFrom<W>>::Error: Debug,
{
    let bytes = W::try_from(sent.clone()).unwrap().encode_to_vec();
    let received = T::try_from(W::decode(bytes.as_slice()).unwrap()).unwrap();
    prop_assert_eq!(received, sent);
    Ok(())
}

macro_rules! round_trips {
    ($($name:ident: $value:expr => $wire:ty),+ $(,)?) => {
        proptest! {
            $(
                #[test]
                fn $name(value in $value) {
                    arrives::<_, $wire>(value)?;
                }
            )+
        }
    };
}

round_trips! {
    to_machine: any::to_machine() => wire::ToMachine,
    from_machine: any::from_machine() => wire::FromMachine,
    mutation: any::mutation() => wire::MutateRequest,
    mutation_reply: any::reply(any::done()) => wire::MutateReply,
    status_query: any::status_query() => wire::StatusRequest,
    status_reply: any::reply(any::status()) => wire::StatusReply,
    why_query: any::why_query() => wire::WhyRequest,
    why_reply: any::reply(any::why()) => wire::WhyReply,
    fits_query: any::fits_query() => wire::FitsRequest,
    fits_reply: any::reply(any::fits()) => wire::FitsReply,
    watch: any::watch() => wire::EventsRequest,
    events: any::events() => wire::EventsReply,
    checkpoint: any::checkpoint() => wire::CheckpointRequest,
    checkpoint_chunk: any::chunk() => wire::CheckpointReply,
    restore_part: any::restore_part() => wire::RestoreRequest,
    restore_reply: any::reply(any::restored()) => wire::RestoreReply,
    replicas_query: any::replicas_query() => wire::ReplicasRequest,
    replicas_reply: any::reply(any::replica_list()) => wire::ReplicasReply,
    envelope: any::envelope() => wire::Envelope,
    machine_usage: any::machine_usage() => wire::UsageReply,
    logs_query: any::logs_query() => wire::LogsRequest,
    logs_piece: any::logs_piece() => wire::LogsPiece,
    exec_input: any::exec_input() => wire::ExecInput,
    exec_output: any::exec_output() => wire::ExecOutput,
}

proptest! {
    #[test]
    fn why_a_replica_does_not_serve_is_read_back_from_a_status(unserved in any::unserved()) {
        let status = tonic::Status::from(unserved.clone());
        prop_assert_eq!(proto::reply::unserved_of(&status), Some(unserved));
    }

    /// Whatever arrives is a value or an error, and no panic; and a value can be sent on.
    #[test]
    fn damaged_bytes_are_refused_or_are_another_message(
        sent in any::to_machine(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut bytes = wire::ToMachine::try_from(sent).unwrap().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let Ok(message) = wire::ToMachine::decode(bytes.as_slice()) else { return Ok(()) };
        let received: Result<proto::link::ToMachine, WireError> = message.try_into();
        if let Ok(received) = received {
            arrives::<_, wire::ToMachine>(received)?;
        }
    }
}
