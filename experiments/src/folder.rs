//! The folder of a report: whether it may be written to, and writing to it all or nothing.
//!
//! A folder that holds anything but a former report is refused. Files are written beside their place
//! first and moved there when all of them are complete; the manifest comes last, so that a folder with a
//! manifest holds a whole report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::output::{MANIFEST, Output, names};

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is a file of that name.
    #[error("`{0}` is not a folder")]
    NotAFolder(PathBuf),
    /// It holds other things.
    #[error("`{0}` is not empty and holds no report (no {MANIFEST}); choose another folder")]
    Foreign(PathBuf),
    /// It cannot be read or written.
    #[error("cannot write to `{path}`")]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Checks that a report can be written to `folder`, and leaves everything as it is.
///
/// # Errors
/// If it cannot.
pub fn check(folder: &Path) -> Result<(), FolderError> {
    begin(folder).map(drop)
}

/// Writes all files to `folder`, in place of a former report.
///
/// # Errors
/// If one cannot be written; then what was there is as it was, unless moving the complete files fails,
/// and then there is no manifest.
pub fn write(folder: &Path, outputs: &[Output]) -> Result<(), FolderError> {
    let begun = begin(folder)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| FolderError::Write { path, source }
    };
    // A folder inside, as the temporary one itself is readable to its owner only.
    let complete = begun.path().join("report");
    fs::create_dir(&complete).map_err(failed(&complete))?;
    for output in outputs {
        let path = complete.join(&output.name);
        fs::write(&path, &output.bytes).map_err(failed(&path))?;
    }
    if !folder.exists() {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        return fs::rename(&complete, folder).map_err(failed(folder));
    }
    for name in names() {
        remove(&folder.join(name))?;
    }
    let (manifest, others): (Vec<_>, Vec<_>) =
        outputs.iter().partition(|output| output.name == MANIFEST);
    for output in others.into_iter().chain(manifest) {
        let path = folder.join(&output.name);
        fs::rename(complete.join(&output.name), &path).map_err(failed(&path))?;
    }
    Ok(())
}

/// A temporary folder on the same file system as `folder`: inside it, or in the nearest folder above that
/// exists. It goes when it is dropped.
fn begin(folder: &Path) -> Result<tempfile::TempDir, FolderError> {
    let place = if folder.exists() {
        if !folder.is_dir() {
            return Err(FolderError::NotAFolder(folder.to_owned()));
        }
        let failed = |source| FolderError::Write { path: folder.to_owned(), source };
        let is_empty = fs::read_dir(folder).map_err(failed)?.next().is_none();
        if !is_empty && !folder.join(MANIFEST).is_file() {
            return Err(FolderError::Foreign(folder.to_owned()));
        }
        folder.to_owned()
    } else {
        let absolute = std::path::absolute(folder)
            .map_err(|source| FolderError::Write { path: folder.to_owned(), source })?;
        let above = absolute.ancestors().skip(1).find(|path| path.exists());
        above.unwrap_or(Path::new("/")).to_owned()
    };
    tempfile::Builder::new()
        .prefix(".experiments-")
        .tempdir_in(&place)
        .map_err(|source| FolderError::Write { path: place, source })
}

/// Removes a file, if it is there. The manifest goes first of all: see [`names`].
fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FolderError::Write { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, text: &str) -> Output {
        Output { name: name.to_owned(), bytes: text.as_bytes().to_vec(), deterministic: true }
    }

    fn listing(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_report_replaces_a_former_one_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("out/demo");
        check(&folder).unwrap();
        assert!(listing(temporary.path()).is_empty(), "checking leaves nothing behind");
        write(&folder, &[output(MANIFEST, "1"), output("sweep.svg", "1")]).unwrap();
        assert_eq!(listing(&folder), [MANIFEST, "sweep.svg"]);
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        check(&folder).unwrap();
        write(&folder, &[output(MANIFEST, "2"), output("index.html", "2")]).unwrap();
        assert_eq!(listing(&folder), ["index.html", MANIFEST, "notes.txt"]);
        assert_eq!(fs::read_to_string(folder.join(MANIFEST)).unwrap(), "2");
        assert_eq!(listing(temporary.path()), ["out"]);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("notes.txt"), "mine").unwrap();
        assert!(matches!(check(temporary.path()), Err(FolderError::Foreign(_))));
        let file = temporary.path().join("notes.txt");
        assert!(matches!(check(&file), Err(FolderError::NotAFolder(_))));
        assert!(matches!(check(&file.join("below")), Err(FolderError::Write { .. })));
        assert_eq!(listing(temporary.path()), ["notes.txt"]);
    }

    #[test]
    fn an_empty_folder_is_taken() {
        let temporary = tempfile::tempdir().unwrap();
        write(temporary.path(), &[output(MANIFEST, "1")]).unwrap();
        assert_eq!(listing(temporary.path()), [MANIFEST]);
    }
}
