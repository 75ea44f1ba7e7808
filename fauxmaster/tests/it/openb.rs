//! Alibaba's GPU cluster of 2023, which is read from outside the repository: it carries no licence to
//! redistribute.

use std::path::PathBuf;

use fauxmaster::{PackOptions, pack};
use scheduler::policies;
use traces::{ReadOptions, Trace, load};

/// The default pod list, or `None` with a word where the folder is absent; in CI that is a failure.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn trace() -> Option<Trace> {
    let root = std::env::var_os("CELL_TRACES_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"),
        PathBuf::from,
    );
    let folder = root.join("alibaba-openb-2023");
    if !folder.is_dir() {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "{} is not there", folder.display());
        eprintln!(
            "skipped: {} is not there (CELL_TRACES_DIR names another place)",
            folder.display()
        );
        return None;
    }
    let file = |name: &str| folder.join(name).display().to_string();
    let source = format!(
        "openb:{},{}",
        file("openb_node_list_all_node.csv.gz"),
        file("openb_pod_list_default.csv.gz")
    );
    Some(load(&source, ReadOptions::default()).unwrap())
}

#[test]
fn no_gpu_device_is_over_committed() {
    let Some(trace) = trace() else { return };
    for policy in policies() {
        let packing = pack(&trace, &PackOptions::new(policy, 7)).unwrap();
        let report = &packing.report;
        let name = &report.policy;
        // From the trace's README.
        assert_eq!((report.machine_count, report.task_count), (1523, 8152), "{name}");
        assert_eq!(report.placed_count + report.pending_count, 8152, "{name}");
        // The trace's own scheduler left 897 pending, at no time with all pods there.
        assert!(report.placed_count > 6000, "{name}: {}", report.placed_count);
        let gpu = report.allocation["gpu"];
        assert!((0.5..=1.0).contains(&gpu), "{name}: {gpu}");
        let end = &packing.plan.end;
        let cell = end.cell();
        let mut used = vec![[0_u64; 16]; end.machine_count()];
        for (id, _, task) in cell.tasks() {
            let Some(placement) = end.placement(id) else { continue };
            let request = task.limit.gpu;
            assert_eq!(placement.gpu_devices.count_ones(), request.count, "{name}");
            for (device, milli) in used[placement.row].iter_mut().enumerate() {
                if placement.gpu_devices & (1 << device) != 0 {
                    *milli += request.milli_each.0;
                }
            }
        }
        for (row, devices) in used.iter().enumerate() {
            let count = cell.machine(end.slot(row).machine).capacity.gpu_count as usize;
            assert!(devices[..count].iter().all(|&milli| milli <= 1000), "{name}: {devices:?}");
            assert!(devices[count..].iter().all(|&milli| milli == 0), "{name}: {devices:?}");
        }
        assert_eq!(end.check_sums(), None, "{name}");
    }
}
