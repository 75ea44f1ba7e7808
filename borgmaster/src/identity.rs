//! Whose folder it is: which replica of which cell keeps its data there.
//!
//! Kept as `replica.toml` in the folder of the database, from the first start on, and gone with it. A replica that took another one's log,
//! or spoke in another one's name, could undo what was agreed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

const NAME: &str = "replica.toml";

/// A replica of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The cell's name.
    pub cell: String,
    /// The replica's number.
    pub id: u64,
}

impl Identity {
    /// Whose folder it is; `None`: nobody's yet.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let kept = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message()))?;
        Ok(Some(kept))
    }

    /// Makes the folder this replica's.
    ///
    /// # Errors
    /// If it is another one's, or the disk fails.
    pub(crate) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        if let Some(kept) = Self::read(folder)? {
            ensure!(
                kept == *self,
                "{} is the folder of replica {} of cell {:?}, and not of replica {} of cell {:?}: \
                 each replica needs one of its own",
                folder.display(),
                kept.id,
                kept.cell,
                self.id,
                self.cell
            );
            return Ok(());
        }
        let text = toml::to_string(self).context("a replica's name cannot be written")?;
        let write = || -> std::io::Result<()> {
            let beside = folder.join(format!("{NAME}.new"));
            let mut file = File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(beside, folder.join(NAME))?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", folder.join(NAME).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_with_its_replica() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap(), None);
        let own = Identity { cell: "aa".to_owned(), id: 2 };
        own.keep(folder.path()).unwrap();
        own.keep(folder.path()).unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap().as_ref(), Some(&own));
        for other in [Identity { id: 1, ..own.clone() }, Identity { cell: "b".to_owned(), ..own }] {
            let error = other.keep(folder.path()).unwrap_err().to_string();
            assert!(error.contains("is the folder of replica 2 of cell \"aa\""), "{error}");
        }
        fs::write(folder.path().join(NAME), "id = 1").unwrap();
        let error = Identity::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("replica.toml: missing field `cell`"), "{error}");
    }
}
