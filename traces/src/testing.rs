//! What the tests of several readers share.

use std::env;
use std::path::{Path, PathBuf};

use crate::{ReadOptions, TraceError};

/// Strict and lenient reading.
pub(crate) const STRICT: ReadOptions = ReadOptions { lenient: false };
pub(crate) const LENIENT: ReadOptions = ReadOptions { lenient: true };

/// A folder of traces outside the repository: `name` in `CELL_TRACES_DIR`, or else in
/// `../shared/traces` beside the workspace. `None`, and a word on stderr, where it is not there; but
/// with `CI=true` a missing folder fails the test, so that CI never passes by skipping.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn outside_traces(name: &str) -> Option<PathBuf> {
    let root = env::var_os("CELL_TRACES_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert_ne!(
        env::var("CI").as_deref(),
        Ok("true"),
        "{} is not there, and with CI=true no test is skipped",
        folder.display()
    );
    eprintln!("skipped: {} is not there (CELL_TRACES_DIR names another place)", folder.display());
    None
}

/// A temporary folder with these files; names may hold folders.
pub(crate) fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

/// An error's message with `folder` left out; it must be one line.
pub(crate) fn message(error: &TraceError, folder: &Path) -> String {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "not one line: {message:?}");
    message.replace(&format!("{}/", folder.display()), "")
}

/// gzip of some bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
