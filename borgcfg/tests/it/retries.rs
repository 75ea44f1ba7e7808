//! What is asked again and how; files that are whole or not there.

use proto::reply::Unserved;
use tempfile::TempDir;
use tonic::Code;

use crate::cell::{Said, borgcfg, example};
use crate::fake::{Fake, Trouble};

async fn run(cell: String, arguments: &[&str]) -> Said {
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    let said = tokio::task::spawn_blocking(move || {
        borgcfg(&cell, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    said.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_its_number_however_often_it_is_asked_for() {
    let (first, leader) = (Fake::default(), Fake { ..Fake::default() });
    let leader_address = leader.serve().await.to_string();
    let not_leader = Unserved::NotLeader { leader_address: Some(leader_address) };
    // Last first.
    *first.troubles.lock().unwrap() = vec![
        Trouble::Unserved(not_leader),
        Trouble::Status(Code::Aborted),
        Trouble::Unserved(Unserved::Busy { retry_after_ms: 1 }),
        Trouble::Status(Code::Unavailable),
    ];
    *leader.troubles.lock().unwrap() =
        vec![Trouble::Unserved(Unserved::Busy { retry_after_ms: 1 })];
    let at = first.serve().await.to_string();
    run(at, &["machines", "drain", "m-1"]).await.out();
    let changes = |fake: &Fake| {
        let asked = fake.asked.lock().unwrap();
        asked.iter().filter(|id| id.session != 0).cloned().collect::<Vec<_>>()
    };
    let all = [changes(&first), changes(&leader)].concat();
    assert_eq!((changes(&first).len(), changes(&leader).len()), (4, 2));
    assert!(all.iter().all(|id| *id == all[0]), "{all:?}");
    assert_eq!((all[0].session, all[0].sequence), (7, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_a_silence_ends() {
    let fake = Fake::default();
    let at = fake.serve().await.to_string();
    *fake.troubles.lock().unwrap() = vec![Trouble::Unserved(Unserved::DiskFull)];
    let full = run(at.clone(), &["machines", "drain", "m-1"]).await.failure(1);
    assert!(full.contains("disk") && full.contains("full"), "{full}");
    let busy = Trouble::Unserved(Unserved::Busy { retry_after_ms: 100 });
    *fake.troubles.lock().unwrap() = vec![busy; 1_000];
    let late = run(at, &["machines", "drain", "m-1", "--timeout", "500ms"]).await.failure(1);
    assert!(late.contains("no answer within 500ms") && late.contains("busy"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_whole_or_not_there() {
    let fake = Fake::default();
    let at = fake.serve().await.to_string();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("today.cell");
    let arguments = ["checkpoint", "--out", out.to_str().unwrap(), "--json"];
    let whole = std::fs::read(example("cell-file/small.cell")).unwrap();
    fake.file.lock().unwrap().clone_from(&whole);
    let report = run(at.clone(), &arguments).await.json();
    assert_eq!(report["bytes"], whole.len());
    assert_eq!(std::fs::read(&out).unwrap(), whole);

    fake.file.lock().unwrap().truncate(whole.len() / 2);
    let cut = run(at.clone(), &arguments).await.failure(1);
    assert!(cut.contains("no whole cell file"), "{cut}");
    assert_eq!(std::fs::read(&out).unwrap(), whole, "what was there is there");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let nowhere = folder.path().join("no/where.cell");
    let said = run(at, &["checkpoint", "--out", nowhere.to_str().unwrap()]).await.failure(2);
    assert!(said.contains("no/where.cell"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_restored_only_if_it_is_whole_and_meant() {
    let fake = Fake::default();
    let at = fake.serve().await.to_string();
    let file = example("cell-file/small.cell");
    let unsure = run(at.clone(), &["restore", &file]).await.failure(2);
    assert!(unsure.contains("--yes"), "{unsure}");
    let whole = std::fs::read(&file).unwrap();
    let folder = TempDir::new().unwrap();
    let cut = folder.path().join("cut.cell");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let said = run(at.clone(), &["restore", cut.to_str().unwrap(), "--yes"]).await.failure(2);
    assert!(said.contains("cut.cell: line "), "{said}");
    assert!(fake.restored.lock().unwrap().is_empty());

    let report = run(at, &["restore", &file, "--yes", "--json"]).await.json();
    assert_eq!(report["restored_index"], 99);
    assert_eq!(*fake.restored.lock().unwrap(), whole);
    // Its number is one of a session: it is carried out once.
    let last = fake.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!((last.session, last.sequence), (7, 1));
}
