//! The cell file of a running cell: the newest checkpoint and the log after it.
//!
//! The replica's thread gives out what it holds and goes on; a thread of its own writes the file, a piece at
//! a time, as fast as the client takes it in.

use std::io::{self, Write};

use borgmaster_replica::Past;
use proto::limits::CHUNK_BYTES_MAX;
use proto::operate::Checkpoint;
use proto::reply::Unserved;
use proto::status::Consistency;
use proto::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Service, Streamed};

/// So many pieces of a file wait for a client.
const PIECE_COUNT_MAX: usize = 4;

type Pieces = mpsc::Sender<Result<wire::CheckpointReply, Status>>;

impl Service {
    pub(super) async fn stream_file(
        &self,
        checkpoint: Checkpoint,
    ) -> Result<Streamed<wire::CheckpointReply>, Status> {
        let past = self.ask(Consistency::Linearizable, |replica| replica.server.past()).await??;
        let indexes = past.indexes();
        let (oldest_index, newest_index) = (*indexes.start(), *indexes.end());
        let until = checkpoint.until_index.unwrap_or(newest_index);
        if !indexes.contains(&until) {
            return Err(Unserved::NotInLog { oldest_index, newest_index }.into());
        }
        let (pieces, receiver) = mpsc::channel(PIECE_COUNT_MAX);
        tokio::task::spawn_blocking(move || write(past, until, &pieces));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

fn write(past: Past, until: u64, pieces: &Pieces) {
    let mut out = Out { piece: Vec::new(), pieces };
    match past.write(until, &mut out) {
        Ok(()) => drop(out.send()),
        Err(error) if error.is_gone() => {}
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!(error = format!("{error:#}"), "a cell file cannot be written");
            let _ = pieces.blocking_send(Err(Status::data_loss(format!("{error:#}"))));
        }
    }
}

/// Cuts what is written into pieces.
struct Out<'a> {
    piece: Vec<u8>,
    pieces: &'a Pieces,
}

impl Out<'_> {
    fn send(&mut self) -> io::Result<()> {
        let data = std::mem::take(&mut self.piece);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.pieces.blocking_send(Ok(wire::CheckpointReply { data })).map_err(gone)
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES_MAX - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == CHUNK_BYTES_MAX {
            self.send()?;
        }
        Ok(taken)
    }

    /// A piece goes out when it is full, or is the last.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
