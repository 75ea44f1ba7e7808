//! What a borglet and the first process of a container say to each other.
//!
//! A borglet starts `borglet-init run`, writes a line with a [`Launch`] to its standard input, a line with [`Go`] once
//! the program may run, and reads one [`Told`] from its standard output. What is set up before the program is set up
//! while the borglet keeps what it has to keep; where no [`Go`] comes, the program does not run. From then on nothing
//! connects the two but files in the task's folder, so that a borglet may end and be started again, and a task never
//! notices.
//!
//! A container may be begun before it is known what for: `borglet-init wait` is written a line with a [`Spare`], tells
//! that it waits once it is in its control groups and namespaces, with a process that is to be the program and has given
//! up all that the program is not to have, and then goes on as above. It ends where there comes no [`Launch`], or where
//! that process ends.
//!
//! - [`RUN_FILE`] is there, with a [`Run`], from before the program runs. It is made once: whoever makes it
//!   first, the first process or a borglet that gives the task up ([`Run::claim`]), decides whether it may run.
//! - [`EXIT_FILE`] is there, with an [`Exit`], before the first process ends by itself.
//! - [`STDOUT_FILE`] and [`STDERR_FILE`] hold what the program wrote, the older parts with `.1` and so on.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod time;

pub use time::{boot_id, process_start, uptime_ms};

/// Who the first process is; in the task's folder.
pub const RUN_FILE: &str = "run.json";

/// How the program ended; in the task's folder.
pub const EXIT_FILE: &str = "exit.json";

/// What the program wrote to its standard output; in the task's folder.
pub const STDOUT_FILE: &str = "stdout";

/// What the program wrote to its standard error; in the task's folder.
pub const STDERR_FILE: &str = "stderr";

/// What is to be started, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The task's folder.
    pub folder: PathBuf,
    /// Control groups to be in, as folders.
    pub cgroups: Vec<PathBuf>,
    /// Whom the kernel kills first when memory runs out, -1000..=1000 (proc(5), `oom_score_adj`).
    pub oom_score_adj: i32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// A file of logs is rotated at this size, in bytes.
    pub log_bytes_max: u64,
    /// So many files of each stream are kept, at least one.
    pub log_file_count: u32,
    /// In what it runs.
    pub container: Container,
}

/// A container that is begun before it is needed; its launch has to be of [`Container::Process`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// Control groups to be in, as folders; those of the launch are not looked at.
    pub cgroups: Vec<PathBuf>,
    /// Whether the program gets a user of its own ([`Process::ids`]).
    pub has_user: bool,
}

/// The program may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go;

/// In what a program runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Container {
    /// In namespaces of its own, with the machine's files.
    Process(Process),
    /// In what an OCI runtime makes of a bundle. The command of the launch is the runtime's: it makes the
    /// container, writes the process id of the program to `pid_file`, and ends.
    Oci {
        /// Where the runtime writes the process id.
        pid_file: PathBuf,
    },
}

/// What is particular to a program with the machine's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Whose process it is: user and group; `None`: the borglet's own, in a user namespace.
    pub ids: Option<(u32, u32)>,
    /// Seen as `/tmp` in there: its home, and all that it may write to.
    pub home: PathBuf,
    /// Folders of packages, seen as `/tmp/packages/NAME`, which cannot be written to.
    pub packages: Vec<(String, PathBuf)>,
    /// How many files it may have open.
    pub files_max: u64,
}

/// What came of a [`Launch`], or of a [`Spare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It waits for its launch.
    Waiting,
    /// The program runs.
    Started,
    /// It does not, and never will.
    Failed(String),
}

/// The first process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its process id, as the machine has it; 0 where a borglet gave the task up.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine booted (proc(5), `starttime`).
    pub start: u64,
    /// Which boot of the machine that was.
    pub boot: String,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A command that joins a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enter {
    /// A process of the container, as the machine has it.
    pub pid: i32,
    /// Control groups to be in, as folders.
    pub cgroups: Vec<PathBuf>,
    /// User and group; `None`: the borglet's own.
    pub ids: Option<(u32, u32)>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Capabilities that it may have at most, a bit each (capabilities(7)); of any other user than root none are left.
    pub capabilities: u64,
    /// Where it begins, in the container.
    pub folder: PathBuf,
}

impl Run {
    /// This process.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn own() -> io::Result<Self> {
        // As the one who mounted `/proc` has it, which is the machine until that is mounted anew.
        let pid = std::fs::read_link("/proc/self")?;
        let pid = pid.to_string_lossy().parse().map_err(io::Error::other)?;
        let start = process_start(pid)?.ok_or_else(|| io::Error::other("/proc has no self"))?;
        Ok(Self { pid, start, boot: boot_id()? })
    }

    /// A borglet that gives the task up.
    #[must_use]
    pub const fn nobody() -> Self {
        Self { pid: 0, start: 0, boot: String::new() }
    }

    /// Makes the task's [`RUN_FILE`]; `false` if it was made before.
    ///
    /// # Errors
    /// If the folder takes no file.
    pub fn claim(&self, folder: &Path) -> io::Result<bool> {
        // Whole from the start: it gets its name once it is written.
        let draft = folder.join(format!("{RUN_FILE}.{}", self.pid));
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        let made = match std::fs::hard_link(&draft, folder.join(RUN_FILE)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        };
        std::fs::remove_file(&draft)?;
        made
    }

    /// Reads the task's [`RUN_FILE`]. If the machine died before it was on the disk, it is nobody's.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        read(&folder.join(RUN_FILE), Some(Self::nobody()))
    }

    /// Whether that process is there still.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(self.pid > 0 && self.boot == boot_id()? && process_start(self.pid)? == Some(self.start))
    }
}

impl Exit {
    /// Reads the task's [`EXIT_FILE`].
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        read(&folder.join(EXIT_FILE), None)
    }
}

fn read<T: DeserializeOwned>(path: &Path, unwritten: Option<T>) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(unwritten),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
