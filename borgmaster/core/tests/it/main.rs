//! The master's core with fake borglets, and a log that commits at once.

mod life;
mod local;
