//! The disk that everything is measured on: its file system, and how long a sync takes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::report::{Report, Times};

/// So many syncs, each of a page that was appended.
const COUNT: usize = 200;

/// Says what the folder is on. A sync that costs nothing makes every other figure worthless, so a file
/// system in memory is told.
pub(super) fn describe(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let kind = file_system(folder)?;
    if ["tmpfs", "ramfs"].contains(&kind.as_str()) {
        report.note(format!("{} is {kind}, and no disk: use --folder", folder.display()));
    }
    let times = sync_times(folder).with_context(|| format!("cannot sync {}", folder.display()))?;
    report.row(format!("fdatasync of 4 KiB on {kind}, p50"), times.median_ms(), "ms", None);
    report.row(format!("fdatasync of 4 KiB on {kind}, p99"), times.p99_ms(), "ms", None);
    Ok(())
}

fn sync_times(folder: &Path) -> anyhow::Result<Times> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        file.write_all(&[0; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    std::fs::remove_file(path)?;
    Times::new(times)
}

/// The type of the file system that a folder is on.
fn file_system(folder: &Path) -> anyhow::Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let of = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (Path::new(fields.next()?), fields.next()?);
        folder.starts_with(at).then(|| (at.as_os_str().len(), kind.to_owned()))
    });
    let deepest = of.max_by_key(|(length, _)| *length);
    Ok(deepest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind))
}
