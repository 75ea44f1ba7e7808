//! Tests of the wire as others see it: [`any`] value arrives, [`examples`] are sent as they were stored, what
//! is [`bad`] is refused.

#![expect(clippy::unwrap_used, reason = "tests, but for their helpers, may anyway")]

mod any;
mod bad;
mod examples;
mod round;
mod serve;
mod stored;
