//! Disks that forgot or changed what was written: what a replica does not start on, what it says, and the way
//! back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use borgmaster_replica::Entry;
use borgmaster_replica::engine::record::{open, seal};
use proto::operate::{ReplicaChange, ReplicaRole};
use proto::status::Consistency;
use rocksdb::{DB, IteratorMode, Options};
use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{Daemon, Session, cell, change, connect, job, job_count, leader, until};
use crate::cluster::{Three, agree};

/// The database of a replica that is not running.
fn database(data: &Path) -> DB {
    let (options, folder) = (Options::default(), data.join("db"));
    let families = DB::list_cf(&options, &folder).unwrap();
    DB::open_cf(&options, folder, families).unwrap()
}

/// Changes the first record of a family that is taken, so that RocksDB finds nothing wrong with it.
pub(crate) fn change_record(data: &Path, family: &str, change: impl Fn(&mut Vec<u8>) -> bool) {
    let db = database(data);
    let family = db.cf_handle(family).unwrap();
    let records = db.iterator_cf(family, IteratorMode::Start).map(Result::unwrap);
    let changed = records.into_iter().find_map(|(key, value)| {
        let mut value = value.to_vec();
        change(&mut value).then_some((key, value))
    });
    let (key, value) = changed.expect("there is such a record");
    db.put_cf(family, key, value).unwrap();
}

fn flip(value: &mut [u8]) -> bool {
    let middle = value.len() / 2;
    value[middle] ^= 1;
    true
}

/// The files of a database with this extension, the oldest first.
fn files(data: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort_unstable();
    files
}

fn largest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

/// A cell of one replica with some jobs, killed.
async fn killed(data: &Path) {
    let address = free_address();
    let mut daemon = Daemon::alone(data, &address);
    let mut session = Session::open(&address, "admin").await;
    for number in 0..20 {
        session.ask(&address, job(&format!("job-{number}"), 1)).await.unwrap();
    }
    daemon.kill();
}

fn refusal(data: &Path) -> String {
    Daemon::alone(data, &free_address()).refusal(1)
}

/// What is said of anything damaged: the folder, and the way back.
fn check_damaged(data: &Path, said: &str, parts: &[&str]) {
    let damaged = format!("borgmaster: {} is damaged: ", data.join("db").display());
    assert!(said.starts_with(&damaged), "{said}");
    for part in ["borgcfg replicas remove", "borgmaster --join", "borgcfg replicas add"] {
        assert!(said.contains(part), "{said}");
    }
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_and_files_are_refused_by_their_names() {
    let folder = TempDir::new().unwrap();
    let good = folder.path().join("good");
    killed(&good).await;
    let damaged = |name: &str| {
        let data = folder.path().join(name);
        copy(&good, &data);
        data
    };

    let data = damaged("entry");
    change_record(&data, "log", |value| flip(value));
    check_damaged(&data, &refusal(&data), &["entry 2: its checksum does not hold"]);
    // As often as it is tried.
    check_damaged(&data, &refusal(&data), &["entry 2: its checksum does not hold"]);

    let data = damaged("snapshot");
    change_record(&data, "snapshot", |value| flip(value));
    let words = "part 0 of the snapshot at 1: its checksum does not hold";
    check_damaged(&data, &refusal(&data), &[words]);

    let data = damaged("gap");
    let db = database(&data);
    db.delete_cf(db.cf_handle("log").unwrap(), 5_u64.to_be_bytes()).unwrap();
    drop(db);
    check_damaged(&data, &refusal(&data), &["entry 6 follows entry 4"]);

    let data = damaged("write-ahead-log");
    let file = largest(files(&data, "log"));
    let mut bytes = fs::read(&file).unwrap();
    assert!(bytes.len() > 4_000, "the jobs are in there");
    flip(&mut bytes);
    fs::write(&file, bytes).unwrap();
    check_damaged(&data, &refusal(&data), &[file.to_str().unwrap()]);

    let data = damaged("table");
    // Opening it has what is in the write-ahead log put into a table.
    drop(database(&data));
    let file = largest(files(&data, "sst"));
    let mut bytes = fs::read(&file).unwrap();
    let quarter = bytes.len() / 4;
    bytes[quarter] ^= 1;
    fs::write(&file, bytes).unwrap();
    check_damaged(&data, &refusal(&data), &[file.to_str().unwrap()]);

    // What all of them are copies of is whole.
    let address = free_address();
    let _daemon = Daemon::alone(&good, &address);
    assert_eq!(job_count(&address).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_replayed_up_to_where_it_is_torn() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("cell");
    killed(&data).await;
    let newest = files(&data, "log").pop().unwrap();
    let length = fs::metadata(&newest).unwrap().len();
    assert!(length > 4_000, "the jobs are in there");
    fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(length - 7).unwrap();
    let address = free_address();
    let mut daemon = Daemon::alone(&data, &address);
    let count = job_count(&address).await;
    // The last record alone is torn.
    assert!((19..=20).contains(&count), "{count}");
    let mut session = Session::open(&address, "admin").await;
    session.ask(&address, job("after", 1)).await.unwrap();
    daemon.kill();
    let _daemon = Daemon::alone(&data, &address);
    assert_eq!(job_count(&address).await, count + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_comes_back_as_a_learner_and_votes() {
    let mut three = Three::start();
    let leads = leader(three.address(1)).await;
    let (at, damaged) = (three.address(leads).to_owned(), 1 + leads % 3);
    let third = 6 - leads - damaged;
    let mut session = Session::open(&at, "ada").await;
    session.ask(&at, job("web", 1)).await.unwrap();
    three.agrees(1).await;
    three.kill(damaged);
    let data = three.data(damaged);
    change_record(&data, "log", |value| flip(value));
    check_damaged(&data, &three.daemon(damaged).refusal(1), &["entry 2"]);

    // The way back, as it is told.
    fs::remove_dir_all(data.join("db")).unwrap();
    let removed = change(&at, "ada", ReplicaChange::Remove { id: damaged }).await.unwrap();
    assert_eq!(removed.replicas.len(), 2);
    let address = free_address();
    let arguments =
        ["--data", data.to_str().unwrap(), "--listen", &address, "--join", &at, "--id", "4"];
    let _daemon = Daemon::start(&arguments);
    connect(&address).await;
    let add =
        ReplicaChange::Add { id: 4, address: address.clone(), client_address: address.clone() };
    until("it is added", || change(&at, "ada", add.clone())).await;
    until("it votes", || async {
        let list = change(&at, "ada", ReplicaChange::List).await?;
        let four = list.replicas.iter().find(|it| it.id == 4)?;
        (four.role == ReplicaRole::Follower).then_some(())
    })
    .await;
    agree([&at, &address, three.address(third)].into_iter(), 1).await;
    // Of three that vote one is gone: nothing is committed without it.
    three.kill(third);
    session.ask(&at, job("after", 1)).await.unwrap();
    agree([&at, &address].into_iter(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_what_it_acknowledged_stops() {
    let mut three = Three::start();
    let leads = leader(three.address(1)).await;
    let (at, follower) = (three.address(leads).to_owned(), 1 + leads % 3);
    let mut session = Session::open(&at, "ada").await;
    session.ask(&at, job("web", 1)).await.unwrap();
    three.agrees(1).await;
    let (data, older) = (three.data(follower), TempDir::new().unwrap());
    three.kill(follower);
    copy(&data, &older.path().join("data"));
    three.replace(follower, three.daemon(follower));
    session.ask(&at, job("more", 1)).await.unwrap();
    three.agrees(2).await;

    let check = |said: &str| {
        assert!(said.contains("its disk lost something"), "{said}");
        assert!(said.contains(data.to_str().unwrap()) && said.contains("replicas add"), "{said}");
    };
    // An older copy of its folder, and none at all.
    three.kill(follower);
    fs::remove_dir_all(&data).unwrap();
    copy(&older.path().join("data"), &data);
    check(&three.daemon(follower).refusal(1));
    fs::remove_dir_all(&data).unwrap();
    check(&three.daemon(follower).refusal(1));
    session.ask(&at, job("after", 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_refused_by_both_versions() {
    let folder = TempDir::new().unwrap();
    let good = folder.path().join("good");
    killed(&good).await;

    let data = folder.path().join("folder");
    copy(&good, &data);
    change_record(&data, "state", |value| {
        let is_format = *value == 1_u32.to_le_bytes();
        if is_format {
            *value = 7_u32.to_le_bytes().to_vec();
        }
        is_format
    });
    let said = refusal(&data);
    let place = data.join("db").display().to_string();
    let words = format!("{place} is of format 7, and this version reads up to 1");
    assert!(said.contains(&words), "{said}");

    let data = folder.path().join("entry");
    copy(&good, &data);
    change_record(&data, "log", |value| {
        let mut entry: Entry = open(value).unwrap();
        let is_old = entry.data.first() == Some(&1);
        if is_old {
            entry.data[0] = 2;
            *value = seal(&entry);
        }
        is_old
    });
    let said = refusal(&data);
    assert!(said.contains("format 2 is newer than 1"), "{said}");
    assert!(said.contains("log entry ") && said.contains(data.to_str().unwrap()), "{said}");

    // This version's own is read.
    let address = free_address();
    let _daemon = Daemon::alone(&good, &address);
    assert_eq!(cell(&address, Consistency::Linearizable).await.job_count, 20);
}
