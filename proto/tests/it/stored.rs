//! The wire stays as it is: the bytes of every message, as they were stored when it was new, are what is sent
//! today, and say today what they said then.
//!
//! A line of `tests/wire.hex` is never changed, or masters and borglets of two versions cannot talk. A new
//! example is added to `examples.rs`, and its line, which the test prints, to the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, ReflectMessage, Value,
};
use proto::wire;

use crate::examples;

const STORED: &str = include_str!("../wire.hex");

/// Examples that hold the text of a spec or of settings. How that is written is not the wire's: a newer
/// version may add a field to it, and still reads what was stored.
const TEXTS: [&str; 10] = [
    "submit",
    "submit-alloc-set",
    "update",
    "add-machines",
    "configure",
    "status-cell",
    "status-cell-leads",
    "status-spec",
    "ask-fits",
    "wanted-container",
];

fn stored() -> BTreeMap<&'static str, Vec<u8>> {
    let lines = STORED.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let (name, hex) = line.split_once(": ").expect("NAME: HEX");
        let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let bytes = digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap());
        (name, bytes.collect())
    };
    lines.map(read).collect()
}

fn line(name: &str, bytes: &[u8]) -> String {
    bytes.iter().fold(format!("{name}: "), |mut line, byte| {
        write!(line, "{byte:02x}").expect("a string takes it");
        line
    })
}

#[test]
fn every_example_is_sent_and_read_as_it_is_stored() {
    let mut stored = stored();
    let mut new = String::new();
    for example in examples::all() {
        match stored.remove(example.name) {
            None => new += &(line(example.name, &example.bytes) + "\n"),
            Some(bytes) => {
                assert!((example.is_read_from)(&bytes), "{} is read otherwise", example.name);
                if !TEXTS.contains(&example.name) {
                    let sent = line(example.name, &example.bytes);
                    assert_eq!(sent, line(example.name, &bytes), "is sent otherwise");
                }
            }
        }
    }
    assert!(new.is_empty(), "add to proto/tests/wire.hex:\n{new}");
    assert!(stored.is_empty(), "stored, but no example: {:?}", stored.keys());
}

/// What of the schema occurs in the stored bytes: `MESSAGE`, `MESSAGE.field` and `ENUM.VALUE`.
fn note(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
    let name = message.descriptor().full_name().to_owned();
    for (field, value) in message.fields() {
        seen.insert(format!("{name}.{}", field.name()));
        let values = if let Value::List(values) = value {
            values.as_slice()
        } else {
            std::slice::from_ref(value)
        };
        for value in values {
            match (value, field.kind()) {
                (Value::Message(inner), _) => note(inner, seen),
                (Value::EnumNumber(number), prost_reflect::Kind::Enum(kind)) => {
                    let value = kind.get_value(*number).expect("examples hold known values");
                    seen.insert(value.full_name().to_owned());
                }
                _ => {}
            }
        }
    }
    seen.insert(name);
}

fn expected(pool: &DescriptorPool) -> BTreeSet<String> {
    let of_message = |message: MessageDescriptor| {
        let name = message.full_name().to_owned();
        let fields = message.fields().map(|field| field.full_name().to_owned());
        fields.chain([name]).collect::<Vec<_>>()
    };
    // The first is never sent.
    let of_enum = |kind: EnumDescriptor| {
        let sent = kind.values().filter(|value| value.number() != 0);
        sent.map(|value| value.full_name().to_owned()).collect::<Vec<_>>()
    };
    pool.all_messages().flat_map(of_message).chain(pool.all_enums().flat_map(of_enum)).collect()
}

/// So that nothing new is forgotten, and nothing stored loses its meaning.
#[test]
fn every_message_field_and_value_occurs_in_what_is_stored() {
    let pool = DescriptorPool::decode(wire::DESCRIPTORS).unwrap();
    let stored = stored();
    let mut seen = BTreeSet::new();
    for example in examples::all() {
        let name = format!("cellmanager.v1.{}", example.message);
        let descriptor = pool.get_message_by_name(&name).expect("examples name messages");
        let Some(bytes) = stored.get(example.name) else { continue };
        let message = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
        assert_eq!(message.unknown_fields().count(), 0, "{} has unknown fields", example.name);
        note(&message, &mut seen);
    }
    let missing: Vec<_> = expected(&pool).difference(&seen).cloned().collect();
    assert!(missing.is_empty(), "no stored example has {missing:#?}");
}

/// A report of a hundred thousand tasks every few seconds has to be small.
#[test]
fn a_running_task_takes_few_bytes_of_a_report() {
    let task = wire::TaskReport {
        job: 100_000,
        index: 9_999,
        incarnation: 10_000_000,
        state: wire::task_report::State::Running.into(),
        cpu_milli: 2_500,
        ram_bytes: 8 << 30,
        unhealthy: false,
        age_ms: 86_400_000,
        exit: None,
    };
    // 4 + 3 + 5 + 2 + 3 + 6 + 5 bytes for seven numbers with their tags.
    assert_eq!(prost::Message::encoded_len(&task), 28);
}
