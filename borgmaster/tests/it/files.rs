//! Cell files out of a running cell.

use cell::file::CellFile;
use proto::operate::{Checkpoint, FileChunk};
use proto::reply::{Unserved, unserved_of};
use proto::status::Consistency;
use proto::wire;
use tempfile::TempDir;
use tonic::Status;

use crate::client::{Daemon, Session, cell, connect, free_address, job};

async fn checkpoint(address: &str, until_index: Option<u64>) -> Result<CellFile, Status> {
    let request = wire::CheckpointRequest::from(Checkpoint { until_index });
    let mut stream = connect(address).await.checkpoint(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await? {
        bytes.extend(FileChunk::try_from(piece).unwrap().0);
    }
    Ok(CellFile::read(&bytes[..]).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_opens_at_every_index_that_it_holds() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    let mut seen = Vec::new();
    for name in ["one", "two", "three"] {
        session.ask(&address, job(name, 2)).await.unwrap();
        let status = cell(&address, Consistency::Linearizable).await;
        seen.push((status.index, status.hash));
    }
    let file = checkpoint(&address, None).await.unwrap();
    for &(index, hash) in &seen {
        assert_eq!(file.state_at(index).unwrap().hash(), hash, "at {index}");
    }
    let file = checkpoint(&address, Some(seen[1].0)).await.unwrap();
    assert_eq!(file.last_index(), seen[1].0);
    assert!(file.state_at(file.last_index()).unwrap().job("three").is_none());

    let status = checkpoint(&address, Some(1 << 40)).await.unwrap_err();
    let said = unserved_of(&status);
    let Some(Unserved::NotInLog { oldest_index: 1, newest_index }) = said else {
        panic!("{said:?}")
    };
    assert!(newest_index >= seen[2].0);
}
