//! `borglet-init run`: from a launch to the end of its program.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use borglet_init::{
    Container, EXIT_FILE, Exit, Go, Launch, Process, Run, STDERR_FILE, STDOUT_FILE, Spare, Told,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;

use crate::logs::Log;
use crate::signals::Signals;
use crate::{seccomp, setup};

/// What the kernel, or a file, had against it, and at which step.
pub(crate) type Step<T> = Result<T, String>;

/// Says at which step something went wrong.
pub(crate) trait At<T> {
    fn at(self, step: &str) -> Step<T>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: &str) -> Step<T> {
        self.map_err(|error| format!("{step}: {error}"))
    }
}

/// What a borglet says, a line at a time.
struct Heard(BufReader<File>);

impl Heard {
    fn new() -> Step<Self> {
        let input = std::io::stdin().as_fd().try_clone_to_owned().at("standard input")?;
        Ok(Self(BufReader::new(File::from(input))))
    }

    /// The next; `None` if it says no more.
    fn next<T: DeserializeOwned>(&mut self, what: &str) -> Step<Option<T>> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line).at(what)? {
            0 => Ok(None),
            _ => serde_json::from_slice(&line).at(what).map(Some),
        }
    }
}

const LAUNCH: &str = "reading what to start";
const SPARE: &str = "reading what to wait in";
const GO: &str = "waiting to be told to go on";

/// From a launch to the end of its program.
pub(crate) fn run() -> ExitCode {
    let begun = || {
        let mut heard = Heard::new()?;
        let launch: Launch = heard.next(LAUNCH)?.ok_or(LAUNCH)?;
        Ok((launch, heard, give_up_streams()?))
    };
    ended(begun(), |launch, heard, told| {
        enter_groups(&launch.cgroups)?;
        if let Container::Process(process) = &launch.container {
            setup::leave(process.ids.is_some())?;
        }
        let has_user = match &launch.container {
            Container::Process(process) => Some(process.ids.is_some()),
            Container::Oci { .. } => None,
        };
        fork(told, || first(&launch, Begun::new(has_user)?, heard, told))
    })
}

/// The same, begun before it is known what is to be launched.
pub(crate) fn wait() -> ExitCode {
    let begun = || {
        let mut heard = Heard::new()?;
        let spare: Spare = heard.next(SPARE)?.ok_or(SPARE)?;
        Ok((spare, heard, give_up_streams()?))
    };
    ended(begun(), |spare, mut heard, told| {
        enter_groups(&spare.cgroups)?;
        setup::leave(spare.has_user)?;
        fork(told, || {
            let begun = Begun::new(Some(spare.has_user))?;
            tell(told, &Told::Waiting);
            if begun.is_gone_before(&heard)? {
                return Ok(());
            }
            match heard.next(LAUNCH)? {
                Some(launch) => first(&launch, begun, heard, told),
                // Nobody needs it.
                None => Ok(()),
            }
        })
    })
}

fn ended<T>(
    begun: Step<(T, Heard, File)>,
    attempt: impl FnOnce(T, Heard, &File) -> Step<()>,
) -> ExitCode {
    let (what, heard, told) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            crate::complain(&why);
            return ExitCode::from(2);
        }
    };
    match attempt(what, heard, &told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&told, &Told::Failed(why));
            ExitCode::FAILURE
        }
    }
}

/// Where the outcome is to be told. Standard output itself is given up: whoever holds it holds up the borglet.
fn give_up_streams() -> Step<File> {
    let told = File::from(std::io::stdout().as_fd().try_clone_to_owned().at("standard output")?);
    let nowhere = File::options().read(true).write(true).open("/dev/null").at("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere).at("standard input")?;
    rustix::stdio::dup2_stdout(&nowhere).at("standard output")?;
    rustix::stdio::dup2_stderr(&nowhere).at("standard error")?;
    Ok(told)
}

fn tell(mut told: &File, what: &Told) {
    let text = serde_json::to_string(what).unwrap_or_default() + "\n";
    // If nobody hears it, the files say it.
    let _ = told.write_all(text.as_bytes());
}

pub(crate) fn enter_groups(cgroups: &[PathBuf]) -> Step<()> {
    for cgroup in cgroups {
        let file = cgroup.join("cgroup.procs");
        std::fs::write(&file, "0").at(&file.to_string_lossy())?;
    }
    Ok(())
}

fn fork_here() -> Step<ForkResult> {
    // SAFETY: this program has one thread, so that its copy has all that it needs.
    #[allow(unsafe_code, reason = "see above")]
    unsafe { nix::unistd::fork() }.at("fork")
}

/// From here on the child is all there is: it tells, and notes, what becomes of it.
fn fork(told: &File, child: impl FnOnce() -> Step<()>) -> Step<()> {
    match fork_here()? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            std::process::exit(match nix::unistd::setsid().at("setsid").and_then(|_| child()) {
                Ok(()) => 0,
                Err(why) => {
                    tell(told, &Told::Failed(why));
                    1
                }
            });
        }
    }
}

/// What does not depend on what is launched.
struct Begun {
    own: Run,
    signals: Signals,
    /// The process that the program is to be; a runtime makes it by itself.
    program: Option<Program>,
}

impl Begun {
    /// `has_user` is there for a program with the machine's files: whether it gets a user of its own.
    fn new(has_user: Option<bool>) -> Step<Self> {
        let own = Run::own().at("/proc/self")?;
        let signals = Signals::block().at("signals")?;
        let program = has_user.map(|has_user| Program::begin(&signals, has_user)).transpose()?;
        Ok(Self { own, signals, program })
    }

    /// Waits for what is said; whether the program's process went before that, as for want of memory.
    fn is_gone_before(&self, heard: &Heard) -> Step<bool> {
        let mut fds = [heard.0.get_ref().as_fd(), self.signals.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).at(LAUNCH),
            }
            // They are not for the program, which is not there yet.
            self.signals.pending();
            if waitpid(None, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
                return Ok(true);
            }
            if fds[0].any() == Some(true) {
                return Ok(false);
            }
        }
    }
}

fn set_oom_score_adj(process: &str, adj: i32) -> Step<()> {
    std::fs::write(format!("/proc/{process}/oom_score_adj"), adj.to_string())
        .or_else(|error| {
            // Without root it cannot be lowered.
            let is_refused = error.kind() == std::io::ErrorKind::PermissionDenied;
            if is_refused { Ok(()) } else { Err(error) }
        })
        .at("oom_score_adj")
}

/// What the first process does.
fn first(launch: &Launch, begun: Begun, mut heard: Heard, told: &File) -> Step<()> {
    let Begun { own, signals, program } = begun;
    set_oom_score_adj("self", launch.oom_score_adj)?;
    if !own.claim(&launch.folder).at(&launch.folder.to_string_lossy())? {
        return Err("the task was given up".to_owned());
    }
    // Its path may lead elsewhere once the container is set up.
    let folder = rustix::fs::open(
        &launch.folder,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at(&launch.folder.to_string_lossy())?;
    let open = |name| Log::open(&folder, name, launch.log_bytes_max, launch.log_file_count);
    let mut logs = [open(STDOUT_FILE).at(STDOUT_FILE)?, open(STDERR_FILE).at(STDERR_FILE)?];
    if let (Container::Process(process), Some(program)) = (&launch.container, &program) {
        setup::enter(process, program.pid)?;
        // By its number in here, which /proc has only now; and while there are the rights that the program would need to
        // lower it again.
        set_oom_score_adj(&program.pid.to_string(), launch.oom_score_adj)?;
        setup::stay()?;
    }
    if heard.next::<Go>(GO)?.is_none() {
        return Err("the borglet has ended".to_owned());
    }
    drop(heard);
    let (program, mut pipes) = match (&launch.container, program) {
        (Container::Process(_), Some(program)) => program.launch(launch)?,
        (Container::Oci { pid_file }, None) => {
            // What the runtime leaves behind is a child of this process.
            rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
                .at("becoming a subreaper")?;
            let command = command(&launch.command, &launch.env)?;
            oci(command, &launch.command, pid_file, &signals)?
        }
        (Container::Process(_), None) | (Container::Oci { .. }, Some(_)) => {
            return Err("it was begun for something else".to_owned());
        }
    };
    tell(told, &Told::Started);
    if matches!(launch.container, Container::Process(_)) && seccomp::apply().is_err() {
        // The program has done the same.
        let _ = nix::sys::signal::kill(program, Signal::SIGKILL);
    }
    let exit = watch(program, &signals, &mut pipes, &mut logs).at("waiting for the program")?;
    note(&folder, &exit).at(EXIT_FILE)
}

pub(crate) fn command(words: &[String], env: &[(String, String)]) -> Step<Command> {
    let (program, arguments) = words.split_first().ok_or("no command is given")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

type Pipes = [Option<OwnedFd>; 2];

fn not_blocking(pipes: Pipes) -> Step<Pipes> {
    for pipe in pipes.iter().flatten() {
        rustix::io::ioctl_fionbio(pipe, true).at("pipe")?;
    }
    Ok(pipes)
}

/// The process that a program with the machine's files is to be: there, with no more rights than it needs to become
/// the program, before it is known which.
struct Program {
    pid: Pid,
    launch: PipeWriter,
    /// A line once it waits; then why it did not become the program, or nothing.
    failed: BufReader<PipeReader>,
    pipes: Pipes,
}

impl Program {
    fn begin(signals: &Signals, has_user: bool) -> Step<Self> {
        setup::begin()?;
        let pipe = || std::io::pipe().at("pipe");
        let ((heard, launch), (failed, fails)) = (pipe()?, pipe()?);
        let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
        let pid = match fork_here()? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop((launch, failed, stdout, stderr));
                let mut told = &fails;
                let becomes = || -> Step<std::convert::Infallible> {
                    rustix::stdio::dup2_stdout(&out).at("standard output")?;
                    rustix::stdio::dup2_stderr(&err).at("standard error")?;
                    setup::restrict(has_user)?;
                    told.write_all(b"\n").at("telling that it waits")?;
                    let mut heard = Heard(BufReader::new(File::from(OwnedFd::from(heard))));
                    let launch: Launch = heard.next(LAUNCH)?.ok_or(LAUNCH)?;
                    Self::exec(&launch, signals)
                };
                let Err(why) = becomes();
                let _ = told.write_all(why.as_bytes());
                std::process::exit(127);
            }
        };
        drop((heard, fails, out, err));
        let mut failed = BufReader::new(failed);
        let mut line = String::new();
        failed.read_line(&mut line).at("the program's process")?;
        if line != "\n" {
            return Err(line);
        }
        let pipes = [stdout, stderr].map(|pipe| Some(OwnedFd::from(pipe)));
        Ok(Self { pid, launch, failed, pipes: not_blocking(pipes)? })
    }

    fn exec(launch: &Launch, signals: &Signals) -> Step<std::convert::Infallible> {
        let mut command = command(&launch.command, &launch.env)?;
        command.current_dir("/tmp").process_group(0);
        if let Container::Process(Process { ids: Some((uid, gid)), .. }) = launch.container {
            command.uid(uid).gid(gid);
        }
        signals.unblock_in(&mut command);
        Err(command.exec()).at(&launch.command[0])
    }

    /// Has it become the program.
    fn launch(mut self, launch: &Launch) -> Step<(Pid, Pipes)> {
        let mut text = serde_json::to_vec(launch).at(LAUNCH)?;
        text.push(b'\n');
        // If it does not take it, its end tells.
        let _ = self.launch.write_all(&text);
        drop(self.launch);
        let mut why = String::new();
        self.failed.read_to_string(&mut why).at("the program's process")?;
        if why.is_empty() { Ok((self.pid, self.pipes)) } else { Err(why) }
    }
}

fn spawn(mut command: Command, words: &[String], signals: &Signals) -> Step<(Pid, Pipes)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    signals.unblock_in(&mut command);
    let child = command.spawn().at(&words[0])?;
    let pid = Pid::from_raw(i32::try_from(child.id()).at("process id")?);
    let pipes = [child.stdout.map(OwnedFd::from), child.stderr.map(OwnedFd::from)];
    Ok((pid, not_blocking(pipes)?))
}

/// The runtime ends once the program runs, which then is a child of this process.
fn oci(
    command: Command,
    words: &[String],
    pid_file: &Path,
    signals: &Signals,
) -> Step<(Pid, Pipes)> {
    let (runtime, mut pipes) = spawn(command, words, signals)?;
    let status = loop {
        match waitpid(runtime, None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other.at(&words[0])?,
        }
    };
    if status != WaitStatus::Exited(runtime, 0) {
        let mut said = Vec::new();
        for pipe in pipes.iter_mut().flatten() {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&*pipe, &mut part) {
                said.extend_from_slice(&part[..count]);
            }
        }
        let said = String::from_utf8_lossy(&said);
        // Its last line says what was in the way.
        let said = said.trim().lines().next_back().unwrap_or("it does not say why");
        return Err(format!("{}: {said}", words[0]));
    }
    let pid = std::fs::read_to_string(pid_file).at(&pid_file.to_string_lossy())?;
    Ok((Pid::from_raw(pid.trim().parse().at("process id")?), pipes))
}

/// Keeps what the program writes and passes signals on, until it has ended.
fn watch(
    program: Pid,
    signals: &Signals,
    pipes: &mut Pipes,
    logs: &mut [Log; 2],
) -> nix::Result<Exit> {
    loop {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        pump(pipes, logs);
        for signal in signals.pending() {
            if signal != Signal::SIGCHLD {
                // It may have ended just now.
                let _ = nix::sys::signal::kill(program, signal);
            }
        }
        // Whoever lost their parent in here is a child of this process.
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                    pump(pipes, logs);
                    return Ok(Exit::Code(code));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                    pump(pipes, logs);
                    return Ok(Exit::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => break,
                // Somebody else has seen its end, which a runtime could: it is not to be waited for.
                Err(nix::errno::Errno::ECHILD) => return Err(nix::errno::Errno::ECHILD),
                Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

/// Keeps what is there to be read.
fn pump(pipes: &mut Pipes, logs: &mut [Log; 2]) {
    for (pipe, log) in pipes.iter_mut().zip(logs) {
        let mut part = [0; 1 << 16];
        // No more than what a pipe holds, so that one that is filled without end holds nothing up.
        for _ in 0..16 {
            let Some(from) = pipe else { break };
            match rustix::io::read(&*from, &mut part) {
                Ok(0) => *pipe = None,
                Ok(count) => log.write(&part[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }
}

fn note(folder: &OwnedFd, exit: &Exit) -> std::io::Result<()> {
    let draft = format!("{EXIT_FILE}.draft");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &draft, flags, Mode::from_raw_mode(0o600))?;
    File::from(file).write_all(&serde_json::to_vec(exit)?)?;
    Ok(rustix::fs::renameat(folder, &draft, folder, EXIT_FILE)?)
}

/// How a child of this program ended, as an exit code: as shells have it.
pub(crate) fn as_code(status: std::process::ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(1)
}
