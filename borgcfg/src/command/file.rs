//! `checkpoint` and `restore`: a cell as a file.
//!
//! A file is written beside its place, read back and checked, and then put there: what is at its place is whole.
//! A file to be restored is read and checked before anything is sent.

use std::fs::File;
use std::io::{BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use cell::file::CellFile;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::limits::CHUNK_BYTES_MAX;
use proto::operate::{Checkpoint, FileChunk, RestorePart, Restored};
use proto::wire;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::time::timeout;

use crate::args::Options;
use crate::client::{Client, Repeat, Session, answer};
use crate::document::read_up_to;
use crate::failure::Failure;
use crate::output;
use crate::show;

/// The longest file that is restored, in bytes: no master takes a longer one.
const FILE_BYTES_MAX: u64 = 2 << 30;

#[derive(Args, Debug)]
pub(crate) struct CheckpointArgs {
    /// The file; one that is there is replaced once the new one is whole
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// End with this index of the log; without it the newest
    #[arg(long, value_name = "INDEX")]
    until: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take the state at this index of the log; without it the last that the file holds
    #[arg(long, value_name = "INDEX")]
    until: Option<u64>,
    /// Do it: without it the file is only checked
    #[arg(long)]
    yes: bool,
}

/// What a file holds, in JSON.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    bytes: u64,
    cell: String,
    /// The state can be had from this index of the log on…
    first_index: u64,
    /// …up to this one.
    last_index: u64,
    /// The index that the cell goes on from; only where it was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_index: Option<u64>,
}

impl Report {
    fn of(path: &Path, bytes: u64, held: &CellFile) -> Self {
        Self {
            file: path.display().to_string(),
            bytes,
            cell: held.cell_name().to_owned(),
            first_index: held.first_index(),
            last_index: held.last_index(),
            restored_index: None,
        }
    }

    fn text(&self) -> String {
        let Self { file, bytes, cell, first_index, last_index, .. } = self;
        let bytes = show::bytes(*bytes);
        format!("{file}: cell {cell}, indexes {first_index} to {last_index}, {bytes}")
    }
}

pub(crate) async fn checkpoint(
    args: &CheckpointArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let CheckpointArgs { out, until } = args;
    let cannot = |problem: &dyn std::fmt::Display| {
        Failure::BadInput(format!("cannot write {}: {problem}", out.display()))
    };
    if out.is_dir() {
        return Err(cannot(&"it is a folder"));
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
    let bytes = receive(&mut file, *until, client).await?;
    let whole = file.as_file().sync_all().and_then(|()| file.rewind());
    whole.map_err(|error| cannot(&error))?;
    let held = CellFile::read(BufReader::new(file.as_file())).map_err(|error| {
        Failure::Failed(format!("what came is no whole cell file, and was dropped: {error}"))
    })?;
    file.persist(out).map_err(|error| cannot(&error.error))?;
    output::answer(options.json, &Report::of(out, bytes, &held), Report::text)
}

/// Writes the cell file as it comes; its length.
async fn receive(
    file: &mut NamedTempFile,
    until_index: Option<u64>,
    client: &mut Client,
) -> Result<u64, Failure> {
    let request = wire::CheckpointRequest::from(Checkpoint { until_index });
    let stream = client.ask(Repeat::Freely, |mut service| async move {
        Ok(service.checkpoint(request).await?.into_inner())
    });
    let mut stream = match stream.await {
        Err(Failure::NotInLog(it)) => {
            return Err(Failure::Failed(format!("{it}: --until takes one of these")));
        }
        stream => stream?,
    };
    // Draws nothing unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bytes} received, {elapsed}") {
        bar.set_style(style);
    }
    let mut bytes = 0;
    loop {
        let broke_off = |why: &str| {
            Failure::Failed(format!("broke off after {}: {why}; ask again", show::bytes(bytes)))
        };
        let next = timeout(client.patience(), stream.message()).await;
        let next = next.map_err(|_| broke_off("nothing came any more"))?;
        let Some(reply) = next.map_err(|status| broke_off(status.message()))? else {
            bar.finish_and_clear();
            return Ok(bytes);
        };
        let FileChunk(data) =
            reply.try_into().map_err(|error: proto::WireError| broke_off(&error.to_string()))?;
        file.write_all(&data).map_err(|error| Failure::Failed(format!("cannot write: {error}")))?;
        bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
        bar.set_position(bytes);
    }
}

pub(crate) async fn restore(
    args: &RestoreArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let path = &args.file;
    let bad = |problem: &dyn std::fmt::Display| {
        Failure::BadInput(format!("{}: {problem}", path.display()))
    };
    let bytes = File::open(path).and_then(|file| read_up_to(file, FILE_BYTES_MAX));
    let bytes = bytes.map_err(|error| bad(&error))?;
    let held = CellFile::read(&bytes[..]).map_err(|error| bad(&error))?;
    let total_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut report = Report::of(path, total_bytes, &held);
    let until_index = args.until;
    if let Some(index) = until_index {
        held.state_at(index).map_err(|error| bad(&format_args!("--until: {error}")))?;
    }
    if !args.yes {
        let problem =
            "it is whole, and nothing was done; --yes puts it in place of all that the cell holds";
        return Err(Failure::BadInput(format!("{}: {problem}", report.text())));
    }
    let user = options.user()?;
    let mut session = Session::open(client, user).await?;
    let request = Some(session.next());
    let start = RestorePart::Start { user: user.to_owned(), total_bytes, until_index, request };
    let chunks = bytes.chunks(CHUNK_BYTES_MAX);
    let parts = std::iter::once(start)
        .chain(chunks.map(|chunk| RestorePart::Data(FileChunk(chunk.to_vec()))));
    let parts: Vec<wire::RestoreRequest> =
        parts.map(TryInto::try_into).collect::<Result<_, _>>()?;
    let restored: Restored = session
        .client()
        .ask(Repeat::Patiently, |mut service| {
            let parts = parts.clone();
            async move { answer(service.restore(tokio_stream::iter(parts)).await) }
        })
        .await?;
    report.restored_index = Some(restored.index);
    output::answer(options.json, &report, |report| {
        format!("{}; restored, the cell goes on from index {}", report.text(), restored.index)
    })
}
