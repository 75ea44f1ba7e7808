//! The disk that everything is measured on: its file system, and how long a sync takes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::What;
use super::report::{Report, Times};
use crate::borglets::BadInput;

/// So many syncs, each of a page that was appended.
const COUNT: usize = 200;

/// Says what the folder is on. A sync that costs nothing makes a rate worthless, so one is not measured on a
/// file system in memory; beside other figures it is told.
pub(super) fn describe(folder: &Path, whats: &[What], report: &mut Report) -> anyhow::Result<()> {
    let kind = file_system(folder)?;
    if ["tmpfs", "ramfs"].contains(&kind.as_str()) {
        let words = format!("{} is on {kind}, which is no disk", folder.display());
        if whats.contains(&What::Rate) {
            let words = format!(
                "{words}: a rate measured there says nothing; name a folder on a real disk with --folder"
            );
            return Err(BadInput(words).into());
        }
        report.note(words);
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
