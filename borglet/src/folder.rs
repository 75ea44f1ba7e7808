//! What a borglet keeps on disk, so that it may end at any time: who it is, a journal, and a folder for each task.
//!
//! ```text
//! DIR/lock                      held while a borglet runs
//! DIR/borglet.json              which machine this is
//! DIR/journal                   the highest fence that was accepted, and the tasks that were to be started
//! DIR/tasks/INCARNATION/        task.json (what was to be started, for whoever looks for its logs), run.json and
//!                               exit.json (of its first process), end.json (why it ended), home/, stdout, stderr
//! DIR/ended/INCARNATION/        the logs of tasks that nobody wants any more, for a while
//! DIR/packages/SHA256/          packages, unpacked
//! ```
//!
//! Files get their names once they are whole. What says which machine this is, the journal, and packages are synced: the
//! rest is found unless the machine died, and then no task runs any more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use cell::borglet::{ExitCause, Incarnation, WantedTask};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::Journal;

/// The format of what is in the folder.
const FORMAT: u32 = 3;

/// The folder of a borglet.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The highest fence that was accepted, and what was to be started.
    pub journal: Journal,
    /// Held for as long as this is.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    machine: String,
}

/// What is kept of a task: what was to be started, and what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The task, as it was started or last adjusted.
    pub task: WantedTask,
    /// What of the machine it has.
    pub given: Given,
    /// The name of its control group.
    pub group: String,
}

/// What of a machine a task has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    /// User and group; `None`: the borglet's own.
    pub ids: Option<(u32, u32)>,
    /// Ports by name.
    pub ports: std::collections::BTreeMap<String, u16>,
    /// CPUs.
    pub cpus: Option<std::collections::BTreeSet<u32>>,
}

impl Folder {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If another borglet has it, it is another machine's, or of a newer version.
    pub(crate) fn open(path: &Path, machine: &str) -> anyhow::Result<Self> {
        let words = || format!("{}", path.display());
        for folder in ["", "tasks", "ended", "packages"] {
            fs::create_dir_all(path.join(folder)).with_context(words)?;
        }
        // Tasks have users of their own, which have to get to their homes and packages and to nothing else.
        for (folder, mode) in [("", 0o711), ("tasks", 0o711), ("packages", 0o711), ("ended", 0o700)]
        {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path.join(folder), permissions).with_context(words)?;
        }
        let lock = File::create(path.join("lock")).with_context(words)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                bail!("{} is in use by another borglet", path.display())
            }
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(words),
        }
        let file = path.join("borglet.json");
        let identity = read::<Identity>(&file)?;
        ensure!(identity.is_some() || !file.exists(), "{} is damaged: it is empty", file.display());
        match &identity {
            Some(Identity { format, .. }) if *format > FORMAT => {
                bail!("{} was written by a newer version (format {format})", file.display())
            }
            Some(Identity { format, .. }) if *format < FORMAT => bail!(
                "{} was written by an older version (format {format}): end its tasks with that one, and move the folder \
                 away",
                file.display()
            ),
            Some(found) => ensure!(
                found.machine == machine,
                "{} is the folder of machine {:?}, not of {machine:?}",
                path.display(),
                found.machine
            ),
            None => {}
        }
        // It is there before the identity is.
        let journal = path.join("journal");
        ensure!(
            identity.is_none() || journal.try_exists().with_context(words)?,
            "{} is not there: which masters were heard is not known. If none of this machine's tasks runs any more, move \
             the folder away and start anew",
            journal.display()
        );
        let journal = Journal::open(&journal)?;
        if identity.is_none() {
            place(&file, &Identity { format: FORMAT, machine: machine.to_owned() }, true)?;
            sync_folder(path)?;
        }
        Ok(Self { path: path.to_owned(), journal, _lock: lock })
    }

    /// Where packages are kept.
    pub(crate) fn packages(&self) -> PathBuf {
        self.path.join("packages")
    }

    pub(crate) fn task(&self, incarnation: Incarnation) -> PathBuf {
        self.path.join("tasks").join(incarnation.0.to_string())
    }

    fn ended(&self, incarnation: Incarnation) -> PathBuf {
        self.path.join("ended").join(incarnation.0.to_string())
    }

    /// Keeps what is to be started, before it is.
    pub(crate) fn keep(&self, record: &Arc<Record>) -> anyhow::Result<()> {
        self.place(record)?;
        self.journal.keep(Arc::clone(record))
    }

    fn place(&self, record: &Record) -> anyhow::Result<()> {
        let folder = self.task(record.task.incarnation);
        place(&make(&folder)?.join("task.json"), record, false)
    }

    /// Every task that was to be started and is not forgotten, by incarnation. Each has its folder.
    pub(crate) fn records(&self) -> anyhow::Result<Vec<Arc<Record>>> {
        let mut records = Vec::new();
        for record in self.journal.records() {
            let incarnation = record.task.incarnation;
            let folder = self.task(incarnation);
            if !folder.exists() && self.ended(incarnation).exists() {
                // The borglet ended while it was being forgotten.
                self.journal.forget(incarnation)?;
                continue;
            }
            if read::<Record>(&folder.join("task.json"))?.is_none() {
                // The machine died.
                self.place(&record)?;
            }
            records.push(record);
        }
        let known: BTreeSet<Incarnation> =
            records.iter().map(|record| record.task.incarnation).collect();
        for incarnation in numbers(&self.path.join("tasks"))? {
            // It was never to be started, or is forgotten.
            if !known.contains(&incarnation)
                && let Err(error) = self.put_away(incarnation)
            {
                tracing::warn!(
                    incarnation = incarnation.0,
                    error = format!("{error:#}"),
                    "its folder stays"
                );
            }
        }
        Ok(records)
    }

    /// Keeps why a task ended.
    pub(crate) fn keep_end(
        &self,
        incarnation: Incarnation,
        cause: &ExitCause,
    ) -> anyhow::Result<()> {
        place(&self.task(incarnation).join("end.json"), cause, false)
    }

    /// Why a task ended, if that was seen.
    pub(crate) fn end(&self, incarnation: Incarnation) -> anyhow::Result<Option<ExitCause>> {
        read(&self.task(incarnation).join("end.json"))
    }

    /// Drops the record of a task; its logs are kept for a while.
    pub(crate) fn forget(&self, incarnation: Incarnation) -> anyhow::Result<()> {
        self.put_away(incarnation)?;
        self.journal.forget(incarnation)
    }

    /// Of a task's folder keeps the logs.
    fn put_away(&self, incarnation: Incarnation) -> anyhow::Result<()> {
        let folder = self.task(incarnation);
        remove(&folder.join("home"))?;
        if !folder.join("task.json").exists() {
            // There are none of what was not to be started.
            return remove(&folder);
        }
        let ended = self.ended(incarnation);
        match fs::rename(&folder, &ended) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{}", folder.display())),
        }
    }

    /// The record of a task, whether it is known still or its logs alone are kept; with its folder.
    pub(crate) fn find(
        &self,
        incarnation: Incarnation,
    ) -> anyhow::Result<Option<(Record, PathBuf)>> {
        for folder in [self.task(incarnation), self.ended(incarnation)] {
            if let Some(record) = read(&folder.join("task.json"))? {
                return Ok(Some((record, folder)));
            }
        }
        Ok(None)
    }

    /// The newest incarnation of a task by its name, known or ended, with its folder.
    pub(crate) fn newest(&self, name: &str) -> anyhow::Result<Option<(Record, PathBuf)>> {
        let mut incarnations = numbers(&self.path.join("tasks"))?;
        incarnations.extend(numbers(&self.path.join("ended"))?);
        incarnations.sort_unstable();
        for incarnation in incarnations.into_iter().rev() {
            match self.find(incarnation)? {
                Some(found) if found.0.task.name == name => return Ok(Some(found)),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    /// Drops logs that were kept for long enough, and the oldest where there are too many.
    pub(crate) fn drop_old_logs(&self, keep: Duration, count_max: usize) -> anyhow::Result<()> {
        let ended = self.path.join("ended");
        let mut incarnations = numbers(&ended)?;
        incarnations.sort_unstable();
        let excess = incarnations.len().saturating_sub(count_max);
        for (i, incarnation) in incarnations.into_iter().enumerate() {
            let folder = self.ended(incarnation);
            let changed = fs::metadata(&folder).and_then(|it| it.modified());
            let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if i < excess || age.is_some_and(|age| age > keep) {
                remove(&folder)?;
            }
        }
        Ok(())
    }
}

fn numbers(folder: &Path) -> anyhow::Result<Vec<Incarnation>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        if let Ok(number) = entry?.file_name().to_string_lossy().parse() {
            found.push(Incarnation(number));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a task's folder, unless it is there.
pub(crate) fn make(folder: &Path) -> anyhow::Result<&Path> {
    let words = || format!("{}", folder.display());
    fs::create_dir_all(folder).with_context(words)?;
    // Its user has to get to its home, and to nothing else.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).with_context(words)?;
    Ok(folder)
}

pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let bytes = match fs::read(path) {
        // The machine died before it was on the disk.
        Ok(bytes) if bytes.is_empty() => return Ok(None),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    let value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged: this version cannot read it", path.display()))?;
    Ok(Some(value))
}

fn place(path: &Path, value: &impl Serialize, is_synced: bool) -> anyhow::Result<()> {
    let words = || format!("{}", path.display());
    let draft = path.with_extension("draft");
    // Nobody but the borglet is to read what tasks have in their environment.
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&draft).with_context(words)?;
    file.write_all(&serde_json::to_vec(value)?).with_context(words)?;
    if is_synced {
        file.sync_data().with_context(words)?;
    }
    fs::rename(&draft, path).with_context(words)
}

pub(crate) fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let words = || format!("{}", path.display());
    File::open(path).with_context(words)?.sync_all().with_context(words)
}
