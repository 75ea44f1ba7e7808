//! Tests of the wire as others see it.

mod any;
mod bad;
mod examples;
mod round;
mod serve;
mod stored;
