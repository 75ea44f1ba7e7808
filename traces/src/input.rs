//! Input files: their bytes, where they came from, and one hash over all of them.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::{GzDecoder, MultiGzDecoder};
use sha2::{Digest, Sha256};

use crate::error::{TraceError, one_line};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file, as messages name it.
    pub(crate) file: Arc<str>,
    /// The line; from 1.
    pub(crate) line: u64,
}

impl Place {
    /// An error about one field of this line.
    pub(crate) fn field(&self, field: impl Into<String>, problem: impl Into<String>) -> TraceError {
        TraceError::Field {
            file: self.file.to_string(),
            line: self.line,
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// A file, still compressed if it is.
#[derive(Debug)]
pub(crate) struct InputFile {
    /// How messages name it: the path as given.
    pub(crate) label: Arc<str>,
    bytes: Cow<'static, [u8]>,
}

impl InputFile {
    /// A file of the program itself.
    pub(crate) fn embedded(label: &str, bytes: &'static [u8]) -> Self {
        Self { label: label.into(), bytes: Cow::Borrowed(bytes) }
    }

    /// A file that is in memory already.
    pub(crate) fn of(label: &str, bytes: &[u8]) -> Self {
        Self { label: one_line(label).into(), bytes: Cow::Owned(bytes.to_vec()) }
    }

    /// Reads a file whole. The largest that we know, a part of the 2011 trace, has a few megabytes.
    pub(crate) fn read(path: &Path) -> Result<Self, TraceError> {
        let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self { label: label(path).into(), bytes: Cow::Owned(bytes) })
    }

    /// Its name without the folder.
    pub(crate) fn name(&self) -> &str {
        self.label.rsplit('/').next().unwrap_or(&self.label)
    }

    /// Its bytes as they are stored.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its text: decompressed if its name or its first bytes say gzip.
    pub(crate) fn text(&self) -> Box<dyn Read + '_> {
        const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b]; // RFC 1952 §2.3.1
        if self.label.ends_with(".gz") && self.bytes.is_empty() {
            // Of no bytes, the decoder of many members makes an empty text: zero members.
            Box::new(GzDecoder::new(self.bytes()))
        } else if self.label.ends_with(".gz") || self.bytes.starts_with(&GZIP_MAGIC) {
            Box::new(MultiGzDecoder::new(self.bytes()))
        } else {
            Box::new(self.bytes())
        }
    }
}

/// A path as messages name it.
pub(crate) fn label(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// Names the file or folder that could not be read.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> TraceError {
    TraceError::Unreadable { file: label(path), problem: format!("cannot read: {error}") }
}

/// The files of a folder whose name satisfies `wanted`, by name; with their names.
pub(crate) fn files_in(
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>, TraceError> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && wanted(name)
            && path.is_file()
        {
            files.push((name.to_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

/// As [`files_in`], with the files of all folders below, by path; names are paths from the folder on, with
/// `/`. Names that begin with a dot are left out, and folders behind links, which may lead in a circle.
pub(crate) fn files_below(
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>, TraceError> {
    let mut files = Vec::new();
    let mut folders = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
            let label = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push((format!("{label}/"), path));
            } else if wanted(name) && path.is_file() {
                files.push((label, path));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// SHA-256 over the input files: of each its name, a zero byte, its length (64 bits, little-endian)
/// and its bytes as stored. Names are without the folder, so that a copy elsewhere has the same hash.
#[derive(Debug, Default)]
pub(crate) struct InputHash(Sha256);

impl InputHash {
    pub(crate) fn add(&mut self, name: &str, file: &InputFile) {
        self.0.update(name.as_bytes());
        self.0.update([0]);
        self.0.update((file.bytes().len() as u64).to_le_bytes());
        self.0.update(file.bytes());
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_names_and_bytes() {
        let hash = |files: &[(&str, &'static str)]| {
            let mut hash = InputHash::default();
            for (name, text) in files {
                hash.add(name, &InputFile::embedded("anywhere", text.as_bytes()));
            }
            hash.finish()
        };
        assert_eq!(hash(&[("a", "1"), ("b", "2")]), hash(&[("a", "1"), ("b", "2")]));
        assert_ne!(hash(&[("a", "1"), ("b", "2")]), hash(&[("b", "2"), ("a", "1")]));
        assert_ne!(hash(&[("a", "1"), ("b", "2")]), hash(&[("a", "2"), ("b", "1")]));
        assert_ne!(hash(&[("a", "1"), ("b", "2")]), hash(&[("a", "12"), ("b", "")]));
        // sha256 of the empty input, from FIPS 180-4's example values.
        assert!(hash(&[]).starts_with("e3b0c44298fc1c14"));
    }
}
