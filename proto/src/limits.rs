//! How large messages and their parts may be.
//!
//! Names and lists that are too long are refused in both directions. Texts for people are cut on the way out,
//! so that an answer can always be sent, and refused on the way in.

use crate::error::{Inside, WireError};

/// The longest message of any service in bytes, for `max_decoding_message_size` of servers and clients. Our
/// own limit: four times what tonic takes by default, and some ten thousand machines in one request.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The longest name in bytes that a spec may give; a master makes longer ones of it (`JOB/INDEX`).
pub const SPEC_NAME_BYTES_MAX: usize = 200;

/// The longest name, address or position in a list, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

const _: () = assert!(SPEC_NAME_BYTES_MAX + "/4294967295".len() <= NAME_BYTES_MAX);
const _: () = assert!(SPEC_NAME_BYTES_MAX + "/monitoring".len() <= NAME_BYTES_MAX);

/// The longest text for people, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;

/// The longest text of a spec or of settings, in bytes.
pub const SPEC_BYTES_MAX: usize = 1 << 20;

/// The most arguments of a command.
pub const COMMAND_COUNT_MAX: usize = 1024;

/// The longest argument of a command, in bytes: as Linux has it (`MAX_ARG_STRLEN`).
pub const ARGUMENT_BYTES_MAX: usize = 128 << 10;

/// The most things on a page of a list.
pub const PAGE_COUNT_MAX: u32 = 2_000;

// A page of tasks always fits a message: each has three names, one text, and less than 256 bytes of numbers.
const _: () = assert!(
    PAGE_COUNT_MAX as usize * (3 * NAME_BYTES_MAX + TEXT_BYTES_MAX + 256) <= MESSAGE_BYTES_MAX
);

/// The most names, reasons, capabilities or the like in one part of a message.
pub const LIST_COUNT_MAX: usize = 10_000;

/// The most machines in one request: those of the cells of Borg's paper.
pub const MACHINE_COUNT_MAX: usize = 20_000;

/// The most indexes of tasks in one request.
pub const INDEX_COUNT_MAX: usize = 1_000_000;

/// The most tasks in what is wanted of a machine, or in its report. Our own limit, fifty times the most
/// that anyone runs on a machine.
pub const MACHINE_TASK_COUNT_MAX: usize = 10_000;

/// The most messages in one batch of a link.
pub const LINK_BATCH_COUNT_MAX: usize = 1_000;

/// The most bytes in one batch of a link that holds more than one message: what tonic takes by default.
pub const LINK_BATCH_BYTES_MAX: usize = 4 << 20;

/// The most events in one reply.
pub const EVENT_COUNT_MAX: usize = 2_000;

const _: () = assert!(
    EVENT_COUNT_MAX * (2 * NAME_BYTES_MAX + TEXT_BYTES_MAX + TEXT_BYTES_MAX / 2)
        <= MESSAGE_BYTES_MAX
);

/// The most consensus messages in one envelope.
pub const ENVELOPE_COUNT_MAX: usize = 1_000;

/// The most bytes in a piece of a file. A part of what tonic takes by default, and large enough that the
/// overhead of a message does not count.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The largest amount of a resource: the scheduler's scores keep no larger one exact.
pub const AMOUNT_MAX: u64 = (1 << 53) - 1;

fn fits(field: &str, length: usize, max: usize, unit: &str) -> Result<(), WireError> {
    if length <= max {
        return Ok(());
    }
    Err(WireError::new(field, format!("has {length} {unit}, more than {max}")))
}

/// A message that can be sent, also as the only one of a batch.
pub(crate) fn sized<M: prost::Message>(field: &str, message: M) -> Result<M, WireError> {
    fits(field, message.encoded_len(), MESSAGE_BYTES_MAX - 16, "bytes").map(|()| message)
}

/// A text of bounded length.
pub(crate) fn text(field: &str, text: String, bytes_max: usize) -> Result<String, WireError> {
    fits(field, text.len(), bytes_max, "bytes").map(|()| text)
}

/// A name, which is not empty.
pub(crate) fn name(field: &str, name: String) -> Result<String, WireError> {
    if name.is_empty() {
        return Err(WireError::missing(field));
    }
    text(field, name, NAME_BYTES_MAX)
}

/// A name, if there is one.
pub(crate) fn name_if(field: &str, it: Option<String>) -> Result<Option<String>, WireError> {
    it.map(|it| name(field, it)).transpose()
}

/// A text for people that was received.
pub(crate) fn words(field: &str, words: String) -> Result<String, WireError> {
    text(field, words, TEXT_BYTES_MAX)
}

/// A text for people that is sent: cut where it is too long.
pub(crate) fn cut(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(TEXT_BYTES_MAX));
    words
}

/// Bytes of a bounded number.
pub(crate) fn bytes(field: &str, data: Vec<u8>, max: usize) -> Result<Vec<u8>, WireError> {
    fits(field, data.len(), max, "bytes").map(|()| data)
}

/// A list of bounded length, item by item.
pub(crate) fn list<A, B>(
    field: &str,
    items: Vec<A>,
    count_max: usize,
    convert: impl Fn(A) -> Result<B, WireError>,
) -> Result<Vec<B>, WireError> {
    fits(field, items.len(), count_max, "items")?;
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| convert(item).inside(format_args!("{field}[{i}]")))
        .collect()
}

/// A list of plain values: what is wrong with one is wrong with it as a whole.
pub(crate) fn plain_list<A, B>(
    field: &str,
    items: Vec<A>,
    count_max: usize,
    convert: impl Fn(&str, A) -> Result<B, WireError>,
) -> Result<Vec<B>, WireError> {
    fits(field, items.len(), count_max, "items")?;
    let items = items.into_iter().enumerate();
    items.map(|(i, item)| convert(&format!("{field}[{i}]"), item)).collect()
}

/// A number that fits a smaller type, or a range.
pub(crate) fn at_most<T: TryFrom<u64>>(field: &str, number: u64, max: u64) -> Result<T, WireError> {
    let too_large = || WireError::new(field, format!("{number} is above {max}"));
    if number > max {
        return Err(too_large());
    }
    T::try_from(number).map_err(|_| too_large())
}
