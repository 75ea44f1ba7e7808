//! Which process is meant by a number, over restarts of whoever remembers it. Source: proc(5).

use std::io;

/// Which boot of the machine this is.
///
/// # Errors
/// If `/proc` does not tell.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process was started, in clock ticks since the machine booted; `None` if there is none, or it has
/// ended and only waits for its parent to hear of it.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn process_start(pid: i32) -> io::Result<Option<u64>> {
    let line = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It ended in between (ESRCH).
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // After the name, which may hold anything, in brackets: the state is the third field.
    let mut fields = line.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let state = fields.next();
    if matches!(state, Some("Z" | "X") | None) {
        return Ok(None);
    }
    // The start is the 22nd field, so the 19th after the state.
    fields
        .nth(18)
        .and_then(|start| start.parse().ok())
        .map(Some)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat does not look as proc(5) says")))
}

/// How long the machine has run, in milliseconds.
///
/// # Errors
/// If `/proc` does not tell.
pub fn uptime_ms() -> io::Result<u64> {
    let line = std::fs::read_to_string("/proc/uptime")?;
    let seconds: Option<f64> = line.split_whitespace().next().and_then(|it| it.parse().ok());
    let seconds = seconds.ok_or_else(|| io::Error::other("/proc/uptime has no number"))?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some years at most"
    )]
    Ok((seconds * 1000.0) as u64)
}
