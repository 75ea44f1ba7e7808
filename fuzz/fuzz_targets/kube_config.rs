//! Any bytes as a configuration of kube-scheduler's: never a panic, and errors are one line that names the
//! file.
#![no_main]

use fauxmaster::kube::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match config::parse("f.yaml", bytes) {
        Ok(profiles) => assert!(!profiles.is_empty()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("f.yaml: "), "{message:?}");
            assert!(!message.contains(char::is_control), "{message:?}");
        }
    }
});
