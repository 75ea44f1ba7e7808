//! A small file system of its own, so that it can be filled. Also for the tests of the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const MEBI: usize = 1 << 20;

/// A file system in memory.
pub(crate) struct Mount {
    folder: TempDir,
    megabytes: u32,
}

impl Mount {
    /// Mounts one of this size. `None`: it may not be done here, and the test is skipped.
    ///
    /// # Panics
    /// If it may not be done here and `CI` is `true`.
    #[allow(clippy::print_stderr, reason = "says why it is skipped")]
    pub(crate) fn new(megabytes: u32) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let size = format!("size={megabytes}m");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self { folder, megabytes });
        }
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "a file system cannot be mounted here (it takes root)");
        eprintln!("skipped: a file system cannot be mounted here (it takes root)");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes up all room but some megabytes.
    pub(crate) fn fill(&self) {
        let mut size = self.megabytes as usize * MEBI;
        while fs::write(self.ballast(), vec![1; size]).is_err() {
            size -= MEBI;
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What is still open in there, of a test that failed, must not keep it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}
