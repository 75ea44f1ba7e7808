use proptest::prelude::*;

use super::*;
use crate::live::tests::{Cluster, Step, random_op};
use crate::live::{Command, Timestamp};

/// A history: the state before it, its entries with one that holds nothing, and the hash after each.
struct History {
    state: State,
    log: Vec<(u64, Option<Entry>)>,
    hashes: Vec<u128>,
}

impl History {
    fn of(steps: &[Step]) -> Self {
        let mut cluster = Cluster::new();
        let state = cluster.state.clone();
        let (mut log, mut hashes) = (Vec::new(), Vec::new());
        for (number, step) in steps.iter().enumerate() {
            let op = random_op(&cluster.state, *step);
            let at = Timestamp(2000 + number as u64 * 700);
            let entry = Entry { at, commands: vec![Command { request: None, op }] };
            let entry = (number % 7 != 3).then_some(entry);
            let index = cluster.state.index() + 1;
            follow(&mut cluster.state, index, entry.as_ref());
            log.push((index, entry));
            hashes.push(cluster.state.hash());
        }
        Self { state, log, hashes }
    }

    /// The file that begins after so many of its entries.
    fn file(&self, skip: usize) -> Vec<u8> {
        let mut state = self.state.clone();
        for (index, entry) in &self.log[..skip] {
            follow(&mut state, *index, entry.as_ref());
        }
        let rest = &self.log[skip..];
        let last = rest.last().map_or(state.index(), |(index, _)| *index);
        let mut bytes = Vec::new();
        let rest = rest.iter().map(|(index, entry)| (*index, entry.as_ref()));
        write(&mut bytes, &state, rest, last).unwrap();
        bytes
    }
}

/// Some of everything: jobs, an alloc set with a job in it, placements, a report.
const STEPS: [Step; 8] = [
    (0, 0, 1, 2),
    (2, 1, 3, 1),
    (3, 2, 3, 1),
    (6, 1, 1, 1),
    (1, 4, 2, 3),
    (6, 3, 1, 1),
    (10, 0, 0, 0),
    (13, 1, 2, 3),
];

fn error_of(bytes: &[u8]) -> String {
    CellFile::read(bytes).map(|_| ()).unwrap_err().to_string()
}

/// The lines, with a checksum that is right.
fn sealed(lines: &[String]) -> Vec<u8> {
    let (end, rest) = lines.split_last().unwrap();
    let body: String = rest.iter().map(|line| format!("{line}\n")).collect();
    let sum = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(body.as_bytes()));
    let at = end.find("xxh3\":\"").unwrap() + 7;
    format!("{body}{}{sum}{}\n", &end[..at], &end[at + 16..]).into_bytes()
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_file_is_lines_of_text_that_come_back_the_same() {
    let history = History::of(&STEPS);
    let bytes = history.file(6);
    let lines = lines_of(&bytes);
    assert!(lines[0].starts_with(r#"{"cell_file":1,"cell":"cell","first_index":"#), "{}", lines[0]);
    assert_eq!(sealed(&lines), bytes);
    let file = CellFile::read(&bytes[..]).unwrap();
    // 4 machines, 4 jobs at most, 2 entries; header, state, end.
    assert_eq!(file.state().machines().count(), 4);
    assert_eq!(lines.len(), 3 + 4 + file.state().jobs().count() + 2);
    let mut again = Vec::new();
    let log = file.log().iter().map(|(index, entry)| (*index, entry.as_ref()));
    write(&mut again, file.state(), log, file.last_index()).unwrap();
    assert_eq!(again, bytes);
}

#[test]
fn a_file_cut_anywhere_is_known_as_cut() {
    let bytes = History::of(&STEPS).file(4);
    let name = br#"{"cell_file""#.len();
    for end in 0..bytes.len() {
        let error = CellFile::read(&bytes[..end]).unwrap_err();
        if end < name {
            assert!(matches!(error, CellFileError::NotACellFile), "{end}: {error}");
        } else {
            assert!(matches!(error, CellFileError::Truncated { .. }), "{end}: {error}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let bytes = History::of(&STEPS).file(4);
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let read = CellFile::read(&damaged[..]);
        assert!(read.is_err(), "byte {at}");
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let bytes = History::of(&STEPS).file(4);
    let lines = lines_of(&bytes);
    let check = |change: &dyn Fn(&mut Vec<String>), part: &str| {
        let mut lines = lines.clone();
        change(&mut lines);
        let error = error_of(&sealed(&lines));
        assert!(error.contains(part), "{part}: {error}");
    };
    let first_entry = lines.iter().position(|line| line.starts_with(r#"{"entry""#)).unwrap();
    let first_machine = lines.iter().position(|line| line.starts_with(r#"{"machine""#)).unwrap();
    check(&|lines| lines[0] = lines[0].replace(":1,", ":2,"), "format 2 is newer than 1");
    check(&|lines| lines[0] = lines[0].replace(":1,", ":0,"), "there is no format 0");
    check(&|lines| lines[0] = "name,cpu".to_owned(), "line 1: not a cell file");
    check(
        &|lines| drop(lines.remove(first_entry + 1)),
        &format!("line {}: entry 12 of the log comes where 11 is expected", first_entry + 2),
    );
    check(&|lines| lines.insert(first_entry, lines[first_entry].clone()), "comes where 11 is");
    check(&|lines| lines[0] = lines[0].replace("_index\":13", "_index\":14"), "comes where 14 is");
    check(&|lines| drop(lines.remove(first_machine)), "there are 3 machines, not 4");
    check(&|lines| lines.swap(first_machine, first_entry), "the log has begun");
    check(&|lines| drop(lines.remove(1)), "line 2: the state has to come first");
    check(&|lines| lines.push(lines[lines.len() - 1].clone()), "something follows the end");
    check(
        &|lines| {
            lines[first_machine] =
                lines[first_machine].replace("\"is_drained\":false", "\"is_drained\":7");
        },
        &format!("line {}: field `machine.is_drained`: invalid type", first_machine + 1),
    );
    check(
        &|lines| {
            lines[first_machine] = lines[first_machine].replace("r-a", "r-z");
        },
        "the state cannot be used",
    );
    let mut damaged = bytes;
    let at = damaged.len() - 5;
    damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
    let error = error_of(&damaged);
    assert!(error.contains("the checksum is"), "{error}");
}

#[test]
fn a_log_with_a_hole_is_not_written() {
    let history = History::of(&STEPS);
    let first = history.state.index();
    let log = |skip: usize| {
        let rest = history.log[skip..].iter();
        rest.map(|(index, entry)| (*index, entry.as_ref()))
    };
    let result = write(&mut Vec::new(), &history.state, log(1), first + 8);
    assert!(matches!(result, Err(WriteError::Gap { .. })), "{result:?}");
    let result = write(&mut Vec::new(), &history.state, log(0), first + 9);
    assert!(matches!(result, Err(WriteError::Short { .. })), "{result:?}");
}

#[test]
fn an_index_that_is_not_held_is_refused() {
    let file = CellFile::read(&History::of(&STEPS).file(4)[..]).unwrap();
    let (first, last) = (file.first_index(), file.last_index());
    assert_eq!(last - first, 4);
    for index in [first - 1, last + 1] {
        let error = file.state_at(index).unwrap_err().to_string();
        assert!(error.contains(&format!("holds {first}..={last}")), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_checkpoint_and_the_log_after_it_are_the_replay_from_the_beginning(
        steps in prop::collection::vec(any::<Step>(), 1..50),
        share in 0.0..1.0,
    ) {
        let history = History::of(&steps);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the length")]
        let skip = (share * steps.len() as f64) as usize;
        let file = CellFile::read(&history.file(skip)[..]).unwrap();
        let base = history.state.index();
        for index in file.first_index()..=file.last_index() {
            let state = file.state_at(index).unwrap();
            prop_assert_eq!(state.index(), index);
            if index > base {
                let at = usize::try_from(index - base - 1).unwrap();
                prop_assert_eq!(state.hash(), history.hashes[at]);
            }
        }
    }
}
