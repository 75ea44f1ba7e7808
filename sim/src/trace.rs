//! What happened in a run: kept as a hash, and as text where it is asked for.

use std::fmt::Write;

use xxhash_rust::xxh3::Xxh3;

pub(crate) struct Trace {
    hash: Xxh3,
    text: Option<String>,
    line: String,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { hash: Xxh3::new(), text: is_kept.then(String::new), line: String::new() }
    }

    pub(crate) fn note(&mut self, now: u64, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{now} {what}").expect("a string takes everything");
        self.hash.update(self.line.as_bytes());
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn take_text(&mut self) -> Option<String> {
        self.text.take()
    }
}
