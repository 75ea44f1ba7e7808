//! Tests of [`load`] that belong to no one format: sources, and inputs that make no sense.

use proptest::prelude::*;

use crate::testing::{LENIENT, STRICT, folder_with, gzip, message};
use crate::{TraceError, load};

#[test]
fn a_source_that_names_no_trace_says_what_to_write() {
    let check = |source: &str, expected: &str| {
        let error = load(source, STRICT).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{source}: {error}");
    };
    check("", r#"unknown trace format in ""; known are `google-2011-t0`, `google-2011`, "#);
    check("swf:x", r#"unknown trace format in "swf:x"; known are "#);
    check("a\nb", r#"unknown trace format in "a\nb""#);
    check("cell", r#"trace "cell": write `cell:DIR`"#);
    check("google-2011", r#"trace "google-2011": write `google-2011:DIR`"#);
    check("google-2011-t0:", r#"trace "google-2011-t0:": write `google-2011-t0:DIR`"#);
    check("openb:a", r#"trace "openb:a": write `openb:NODES,PODS`"#);
    check("openb:,b", r#"trace "openb:,b": write `openb:NODES,PODS`"#);
    check("cell:/no/such/folder", "/no/such/folder: cannot read: ");
}

#[test]
fn the_same_files_in_another_folder_have_the_same_hash() {
    let text = b"version: 1\nmachines: [{name: m, cpu: 1, ram: 1}]\n\
        jobs: [{name: j, user: u, priority: 1, limit: {cpu: 1}}]\n";
    let hash = |name: &str| {
        let folder = folder_with(&[(name, text)]);
        load(&format!("cell:{}", folder.path().display()), STRICT).unwrap().sha256
    };
    assert_eq!(hash("a.yaml"), hash("a.yaml"));
    assert_ne!(hash("a.yaml"), hash("b.yaml"));
}

#[test]
fn the_examples_load_without_a_finding() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        // Of another format, and with findings: see the tests of its reader; and no traces at all.
        let others = ["manifests", "kube-scheduler", "cell-file", "master"];
        let is_cell = !others.iter().any(|other| path.ends_with(other));
        if path.is_dir() && is_cell {
            let trace = load(&format!("cell:{}", path.display()), STRICT).unwrap();
            assert_eq!(trace.doctor.findings, [], "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}

/// One valid file set a format: the source's pattern (`DIR` stands for the folder), and its files.
const VALID: &[(&str, &[(&str, &str)])] = &[
    (
        "cell:DIR",
        &[(
            "a.yaml",
            "version: 1\nmachines:\n- {name: m, count: 3, cpu: 4, ram: 4GiB, attributes: {a: 1}}\n\
             alloc_sets:\n- {name: s, user: u, priority: 200, limit: {cpu: 1, ram: 1}}\n\
             jobs:\n- name: j\n  user: u\n  priority: 200\n  count: 2\n  limit: {cpu: 500m, ram: 1.5e3}\n  \
             constraints: [{attribute: a, op: in, values: [1, x]}]\n  spread: [{domain: rack}]\n  \
             tasks: [{index: 1, machine: m-2}]\n- {name: k, user: v, priority: 1, limit: {cpu: 1}, \
             alloc_set: s, tasks: [{index: 0, alloc: 0}]}\n",
        )],
    ),
    (
        "google-2011:DIR",
        &[
            (
                "machine_events/part-0.csv",
                "0,5,0,h,0.5,0.25\n0,6,0,i,1,1\n7,6,1,i,1,1\n8,6,2,i,,\n",
            ),
            (
                "task_events/part-0.csv",
                "0,2,10,0,5,0,ann,3,9,,,,\n0,,10,0,5,1,ann,3,9,0.1,1e-3,0,1\n0,,11,3,,0,bob,0,11,1,1,1,0\n\
                 9,,11,3,6,1,bob,0,11,1,1,1,0\n10,,11,3,6,2,bob,0,11,1,1,1,0\n",
            ),
        ],
    ),
    (
        "google-2011-t0:DIR",
        &[
            (
                "cell_t0_machines.csv",
                "machine_id,platform,cpu_capacity,memory_capacity\n5,B,0.5,0.25\n6,A,1,1\n",
            ),
            (
                "cell_t0_tasks.csv",
                "job_id,task_index,machine_id,state,priority,scheduling_class,user_no,cpu_request,\
                 memory_request,disk_request,different_machines\n10,0,5,running,9,3,1,0.1,0.2,0,0\n\
                 10,1,,pending,1,3,1,,1e-3,0,1\n",
            ),
        ],
    ),
    (
        "openb:DIR/n.csv,DIR/p.csv",
        &[
            ("n.csv", "sn,cpu_milli,memory_mib,gpu,model\nn0,32000,1024,0,\nn1,8000,2048,2,T4\n"),
            (
                "p.csv",
                "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\np0,1000,512,0,0,,LS\n\
                 p1,6000,12288,1,460,V100M16|T4,BE\n",
            ),
        ],
    ),
    (
        "manifests:DIR",
        &[
            ("nodes.yaml", include_str!("../../examples/manifests/nodes.yaml")),
            ("shop.yaml", include_str!("../../examples/manifests/shop.yaml")),
            ("system.yaml", include_str!("../../examples/manifests/system.yaml")),
            ("live/pods.yaml", include_str!("../../examples/manifests/live/pods.yaml")),
        ],
    ),
];

/// Loads mutated files, strictly and leniently. Must not panic; an error must be one line.
fn load_both(pattern: &str, files: &[(&str, &[u8])]) -> [Result<crate::Trace, TraceError>; 2] {
    let folder = folder_with(files);
    let source = pattern.replace("DIR", folder.path().to_str().unwrap());
    [STRICT, LENIENT].map(|options| {
        let loaded = load(&source, options);
        if let Err(error) = &loaded {
            message(error, folder.path());
        }
        loaded
    })
}

#[test]
fn the_valid_files_are_valid() {
    for (pattern, files) in VALID {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (*n, t.as_bytes())).collect();
        for loaded in load_both(pattern, &files) {
            loaded.unwrap();
        }
    }
}

/// A change to a file: bytes cut out at a place, and others put there.
type Edit = (prop::sample::Index, usize, Vec<u8>);

/// Texts that are likely to hit a parser's corner.
const PIECES: &[&str] = &[
    "-",
    "-1",
    "0",
    "1",
    "9",
    "99999999999999999999",
    "1e400",
    "1e-400",
    "nan",
    "inf",
    ".nan",
    "\"",
    "'",
    ",",
    ",,",
    ":",
    ": ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "|",
    ">",
    "#",
    "!!",
    "!!binary ",
    "~",
    "---\n",
    "\u{feff}",
    "\u{2028}",
    "ä",
    "\0",
    "e",
    "E",
    "_",
    "+",
    "0x",
    "- ",
    "null",
    "kind: List\n",
    "List",
    "items: ",
    "name: web",
    "Exists",
    "100%",
    "9Ei",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

/// A value that may stand in another's place in YAML.
fn value() -> impl Strategy<Value = String> {
    const VALUES: &[&str] = &[
        "0",
        "-1",
        "1",
        "2147483647",
        "2147483648",
        "-2147483649",
        "9223372036854775807",
        "1.5",
        ".nan",
        "1e300",
        "\"\"",
        "\"7\"",
        "null",
        "true",
        "[]",
        "{}",
        "[{}]",
        "[null]",
        "{a: b}",
        "[a, 5, {}]",
        "100m",
        "8Ei",
        "9Pi",
        "-5Gi",
        "200%",
        "web",
        "shop",
        "db",
        "Deployment",
        "ReplicaSet",
        "DaemonSet",
        "Job",
        "Node",
        "Pod",
        "List",
        "PodList",
        "Exists",
        "NotIn",
        "Gt",
        "Never",
        "worker-a0",
        "kubernetes.io/hostname",
        "2026-01-01T00:00:00Z",
        "not a label!",
        "../../x",
        "customer-facing",
        "system-node-critical",
        "{matchLabels: {app: web}}",
    ];
    prop::sample::select(VALUES).prop_map(str::to_owned)
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, cut, put) in edits {
        let at = at.index(bytes.len() + 1);
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.iter().copied());
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, piece()), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn mutated_files_never_panic(format in 0..VALID.len(), which in 0_usize..4, edits in edits()) {
        let (pattern, files) = VALID[format];
        let mutated: Vec<(&str, Vec<u8>)> = files
            .iter()
            .enumerate()
            .map(|(index, (name, text))| {
                let hit = index == which % files.len();
                (*name, if hit { edited(text, &edits) } else { text.as_bytes().to_vec() })
            })
            .collect();
        let mutated: Vec<(&str, &[u8])> = mutated.iter().map(|(n, b)| (*n, &b[..])).collect();
        let [strict, lenient] = load_both(pattern, &mutated);
        // What reads strictly reads leniently, and the same.
        if let Ok(strict) = strict {
            let lenient = lenient.unwrap();
            prop_assert_eq!(strict.cell, lenient.cell);
            prop_assert_eq!(strict.doctor, lenient.doctor);
        }
    }

    /// What `fuzz/fuzz_targets/manifests.rs` demands of any bytes, of the example's files with values put
    /// in other values' places.
    #[test]
    fn manifests_with_other_values_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..4),
    ) {
        let (_, files) = VALID[VALID.len() - 1];
        let text = files.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n---\n");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, value) in edits {
            let line = at.get_mut(&mut lines);
            if let Some((key, _)) = line.clone().split_once(": ") {
                *line = format!("{key}: {value}");
            }
        }
        let bytes = lines.join("\n");
        let [strict, lenient] =
            [STRICT, LENIENT].map(|options| crate::load_manifest("f.yaml", bytes.as_bytes(), options));
        for error in [&strict, &lenient].into_iter().filter_map(|loaded| loaded.as_ref().err()) {
            let message = error.to_string();
            prop_assert!(message.contains("f.yaml") && !message.contains(char::is_control), "{}", message);
        }
        if let Ok(strict) = strict {
            prop_assert_eq!(strict.cell, lenient.unwrap().cell);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        format in 0..VALID.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        zipped in any::<bool>(),
    ) {
        let (pattern, files) = VALID[format];
        let bytes = if zipped { gzip(&bytes) } else { bytes };
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, _)| (*name, &bytes[..])).collect();
        let _ = load_both(pattern, &files);
    }

    #[test]
    fn damaged_gzip_never_panics(edits in edits(), cut in any::<prop::sample::Index>()) {
        let (pattern, files) = VALID[3];
        let mut zipped = gzip(files[1].1.as_bytes());
        zipped.truncate(cut.index(zipped.len()) + 1);
        for (at, _, put) in &edits {
            let at = at.index(zipped.len());
            zipped[at] ^= put.first().copied().unwrap_or(1);
        }
        let _ = load_both(pattern, &[(files[0].0, files[0].1.as_bytes()), (files[1].0, &zipped)]);
    }
}
