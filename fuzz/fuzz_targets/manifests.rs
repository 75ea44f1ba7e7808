//! Any bytes as a file of Kubernetes manifests: never a panic, errors are one line that names the file, and
//! what reads strictly reads leniently and the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traces::{ReadOptions, load_manifest};

fuzz_target!(|bytes: &[u8]| {
    let [strict, lenient] =
        [false, true].map(|lenient| load_manifest("f.yaml", bytes, ReadOptions { lenient }));
    for error in [&strict, &lenient].into_iter().filter_map(|loaded| loaded.as_ref().err()) {
        let message = error.to_string();
        assert!(message.contains("f.yaml"), "{message:?}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    if let Ok(strict) = strict {
        let lenient = lenient.expect("what reads strictly reads leniently");
        assert_eq!(strict.cell, lenient.cell);
        let kube = strict.cell.kube.as_ref().expect("manifests have a Kubernetes side");
        assert_eq!(kube.nodes.len(), strict.cell.machines.len());
        assert_eq!(kube.pods.len(), strict.cell.jobs.len());
    }
});
