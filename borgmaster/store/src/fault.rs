//! What is wrong, from what RocksDB says in words.

use std::path::Path;

use borgmaster_replica::engine::StorageError;
use rocksdb::ErrorKind;

/// The text of "no space" errors: the disk, the quota, and a limit on a file's size.
const FULL: [&str; 4] =
    ["No space left on device", "Disk quota exceeded", "File too large", "Out of space"];

/// The error that this is, of a database in this folder.
pub(crate) fn classify(folder: &Path, error: &rocksdb::Error) -> StorageError {
    let text = error.to_string();
    let place = folder.display().to_string();
    if FULL.iter().any(|full| text.contains(full)) {
        return StorageError::Full { place };
    }
    if text.contains("LOCK") && (text.contains("lock hold") || text.contains("While lock file")) {
        return StorageError::Locked { place };
    }
    if error.kind() == ErrorKind::Corruption {
        let file = if names_file(folder, &text) { None } else { dropped_file(folder) };
        let what = file.map_or(text.clone(), |file| format!("{file}: {text}"));
        return StorageError::Corrupt { place, what };
    }
    StorageError::Io { place, what: text }
}

/// Whether a message names a file of the database.
fn names_file(folder: &Path, text: &str) -> bool {
    let words = text.split(|c: char| c.is_whitespace() || c == '\'' || c == '"');
    words
        .map(|word| word.trim_end_matches([':', ',', '.', ';']))
        .any(|word| is_data_file(word) && Path::new(word).starts_with(folder))
}

fn is_data_file(word: &str) -> bool {
    let path = Path::new(word);
    path.extension().is_some_and(|end| end == "log" || end == "sst")
        || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-"))
}

/// The write-ahead log that RocksDB last found damaged: it names it in its own diary alone.
fn dropped_file(folder: &Path) -> Option<String> {
    let diary = std::fs::read(folder.join("LOG")).ok()?;
    let diary = String::from_utf8_lossy(&diary);
    let line = diary.lines().rev().find(|line| line.contains(": dropping "))?;
    let words = line.split_whitespace();
    let file = words.map(|word| word.trim_end_matches(':')).find(|word| is_data_file(word))?;
    // Some versions name the file alone.
    Some(folder.join(file).display().to_string())
}
