//! Bugs that were found. Each test says what fails without its fix.

use fauxmaster::{PackOptions, Start, outcome_by_job, pack};
use scheduler::policies;
use serde_json::json;

use crate::small::{machines, trace_with_allocs};

/// A task that is recorded in an alloc which itself waits has no place, and is not in the queue either:
/// it counts neither as placed nor as pending, and stays where it is when its alloc is placed.
#[test]
fn a_task_recorded_in_an_alloc_that_waits_waits_too() {
    let set = json!({"name": "set", "limit": {"cpu": 2, "ram": 10}});
    let inner = json!({"name": "inner", "limit": {"cpu": 1, "ram": 1}, "alloc_set": "set",
        "tasks": [{"index": 0, "alloc": 0}]});
    let trace = trace_with_allocs(&[machines(1)], &[set], &[inner]);
    for policy in policies() {
        let mut options = PackOptions::new(policy, 1);
        options.start = Start::Recorded;
        let packing = pack(&trace, &options).unwrap();
        assert_eq!(packing.report.task_count, 1, "{}", packing.report.policy);
        assert_eq!(outcome_by_job(&packing.plan)["inner"], (1, 0), "{}", packing.report.policy);
    }
}
