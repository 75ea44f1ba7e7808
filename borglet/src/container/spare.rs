//! Containers that are begun before they are needed.
//!
//! Most of what a start takes does not depend on what is started: the first process, its namespaces, the process that
//! the program is to be, and above all the move into the control groups, for which the kernel waits until no CPU is in
//! the middle of a fork (an RCU grace period, some 10 ms). So a few containers are kept that have got so far, each in a control group of its own that has
//! no limits yet; a task that finds one there takes its group too, which then is not named for the task.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use borglet_init::{Go, Launch, Told};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::Keep;
use crate::cgroup::{Group, Hierarchy};

/// Of groups that are named for no task.
const PREFIX: &str = "spare-";

/// A first process, and what it says.
#[derive(Debug)]
pub(super) struct First {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl First {
    pub(super) fn start(init: &Path, how: &str) -> Result<Self, String> {
        let mut child = Command::new(init)
            .arg(how)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", init.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("it has no standard output")?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    fn say(&mut self, what: &impl Serialize) -> Result<(), String> {
        let mut text = serde_json::to_vec(what).map_err(|error| error.to_string())?;
        text.push(b'\n');
        if let Some(stdin) = &mut self.stdin {
            // If it does not take it all, it says why.
            let _ = stdin.write_all(&text);
        }
        Ok(())
    }

    /// What it tells next; an error if that is not to be understood.
    fn hear(&mut self) -> Result<Told, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let mut said = String::new();
        if line.is_empty()
            && let Some(mut stderr) = self.child.stderr.take()
        {
            let _ = stderr.read_to_string(&mut said);
        }
        // What was started is the first process; this one only made it.
        self.child.wait().map_err(|error| error.to_string())?;
        match serde_json::from_str(&line) {
            Ok(told) => Ok(told),
            Err(_) if said.trim().is_empty() => {
                Err("it was killed while its container was being set up".to_owned())
            }
            Err(_) => Err(said.trim().to_owned()),
        }
    }

    /// Whether it has ended: nobody holds the other end of what it says any more.
    fn is_gone(&self) -> bool {
        let mut asked = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
        match poll(&mut asked, Some(&Timespec::default())) {
            Ok(_) => asked[0].revents().contains(PollFlags::HUP),
            Err(_) => true,
        }
    }

    /// Has it start a program, once `keep` is done, which is while it makes the container.
    pub(super) fn launch(mut self, launch: &Launch, keep: Keep<'_>) -> Result<(), NotLaunched> {
        let told = self.say(launch).and_then(|()| keep()).and_then(|()| self.say(&Go));
        self.stdin = None;
        let heard = self.hear();
        told.map_err(NotLaunched::Failed)?;
        match heard.map_err(NotLaunched::Gone)? {
            Told::Started => Ok(()),
            Told::Failed(why) => Err(NotLaunched::Failed(why)),
            Told::Waiting => Err(NotLaunched::Failed("it waits for something else".to_owned())),
        }
    }
}

/// Why a program was not started.
pub(super) enum NotLaunched {
    /// The first process ended without a word.
    Gone(String),
    Failed(String),
}

impl NotLaunched {
    pub(super) fn why(self) -> String {
        match self {
            Self::Gone(why) | Self::Failed(why) => why,
        }
    }
}

/// A container that waits for its program. It ends where this is dropped.
#[derive(Debug)]
pub(crate) struct Spare {
    name: String,
    group: Group,
    first: First,
}

impl Spare {
    /// The name of its control group.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn into_first(self) -> First {
        self.first
    }

    fn make(
        init: &Path,
        hierarchy: &Hierarchy,
        name: String,
        has_user: bool,
    ) -> anyhow::Result<Self> {
        let group = hierarchy.group(&name);
        group.create().context("control group")?;
        let waits = || -> anyhow::Result<First> {
            let mut first = First::start(init, "wait").map_err(anyhow::Error::msg)?;
            let spare = borglet_init::Spare { cgroups: group.folders(), has_user };
            first.say(&spare).map_err(anyhow::Error::msg)?;
            match first.hear().map_err(anyhow::Error::msg)? {
                Told::Waiting => Ok(first),
                Told::Failed(why) => bail!(why),
                Told::Started => bail!("it has started something"),
            }
        };
        match waits() {
            Ok(first) => Ok(Self { name, group, first }),
            Err(error) => {
                group.end()?;
                Err(error)
            }
        }
    }
}

/// Those that there are.
#[derive(Debug)]
pub(crate) struct Spares {
    count: usize,
    has_users: bool,
    kept: Mutex<Kept>,
    /// Says what is mounted on the machine, and whether that has changed (proc(5), `mounts`).
    mounts: File,
    /// Told when one was taken.
    pub taken: tokio::sync::Notify,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    spares: VecDeque<Spare>,
    /// Groups of those that are of no use any more.
    stale: Vec<Group>,
}

impl Kept {
    fn drop_all(&mut self) {
        self.stale.extend(self.spares.drain(..).map(|spare| spare.group));
    }
}

impl Spares {
    /// None yet, and then so many at most.
    pub(crate) fn new(
        count: usize,
        has_users: bool,
        hierarchy: &Hierarchy,
    ) -> std::io::Result<Self> {
        let names = hierarchy.names()?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
        // Some of them may be of tasks that run.
        let next = numbers.max().map_or(0, |last: u64| last + 1);
        let kept = Mutex::new(Kept { next, spares: VecDeque::new(), stale: Vec::new() });
        let mounts = File::open("/proc/self/mounts")?;
        Ok(Self { count, has_users, kept, mounts, taken: tokio::sync::Notify::new() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that lives, if there is one that sees what is mounted now.
    pub(crate) fn take(&self) -> Option<Spare> {
        let mut kept = self.kept();
        if self.is_mounted_anew() {
            kept.drop_all();
        }
        while let Some(spare) = kept.spares.pop_front() {
            if !spare.first.is_gone() {
                return Some(spare);
            }
            // Why it went, such as for want of memory, is counted in its group, and no task's concern.
            kept.stale.push(spare.group);
        }
        None
    }

    /// Whether anything was mounted, or is not any more, since this was asked last.
    fn is_mounted_anew(&self) -> bool {
        let mut asked = [PollFd::new(&self.mounts, PollFlags::PRI)];
        match poll(&mut asked, Some(&Timespec::default())) {
            Ok(_) => asked[0].revents().contains(PollFlags::PRI),
            // It is not known.
            Err(_) => true,
        }
    }

    /// Makes one, where one is wanting; whether another is. Takes some 20 ms.
    pub(crate) fn refill(&self, init: &Path, hierarchy: &Hierarchy) -> anyhow::Result<bool> {
        let (name, stale) = {
            let mut kept = self.kept();
            if self.is_mounted_anew() {
                kept.drop_all();
            }
            let name = (kept.spares.len() < self.count).then(|| {
                kept.next += 1;
                format!("{PREFIX}{}", kept.next - 1)
            });
            (name, std::mem::take(&mut kept.stale))
        };
        let mut problem = Ok(());
        for group in stale {
            if let Err(error) = group.end() {
                self.kept().stale.push(group);
                problem = Err(error);
            }
        }
        problem?;
        let Some(name) = name else { return Ok(false) };
        let spare = Spare::make(init, hierarchy, name, self.has_users)?;
        let mut kept = self.kept();
        kept.spares.push_back(spare);
        Ok(kept.spares.len() < self.count)
    }
}
