//! Which threads go first on a busy machine.

/// Lets the threads that answer go first on a busy machine: what this one makes can wait a few milliseconds.
/// (setpriority(2): on Linux each thread has a nice value of its own.)
pub(crate) fn step_back() {
    const NICE: i32 = 10;
    let thread = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(thread, NICE) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}
