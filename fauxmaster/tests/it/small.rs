//! Traces of small cells, from texts.

use cell::spec::{CellBuilder, JobSpec, MachineSpec};
use serde_json::{Value, json};
use traces::{Doctor, Trace, Workload};

/// A trace of machines and jobs in the schema of `cell::spec`, all of whose tasks are packed. What every
/// job needs is filled in: `user` is `u`, `priority` 200.
pub(crate) fn trace(machines: &[Value], jobs: &[Value]) -> Trace {
    trace_with_allocs(machines, &[], jobs)
}

pub(crate) fn trace_with_allocs(machines: &[Value], sets: &[Value], jobs: &[Value]) -> Trace {
    let mut builder = CellBuilder::default();
    for machine in machines {
        let spec: MachineSpec = serde_json::from_value(machine.clone()).unwrap();
        builder.add_machine(&spec).unwrap();
    }
    let with_defaults = |job: &Value| -> JobSpec {
        let mut job = job.clone();
        for (field, value) in [("user", json!("u")), ("priority", json!(200))] {
            if job.get(field).is_none() {
                job[field] = value;
            }
        }
        serde_json::from_value(job).unwrap()
    };
    for set in sets {
        builder.add_alloc_set(&with_defaults(set)).unwrap();
    }
    for job in jobs {
        builder.add_job(&with_defaults(job)).unwrap();
    }
    Trace {
        source: "test".to_owned(),
        cell: builder.finish(),
        workload: Workload::All,
        doctor: Doctor::default(),
        sha256: String::new(),
    }
}

/// `count` machines of 4 CPU and 100 bytes of RAM.
pub(crate) fn machines(count: u32) -> Value {
    json!({"name": "m", "count": count, "cpu": 4, "ram": 100})
}

/// A job of `count` tasks of so many CPU and no RAM.
pub(crate) fn job(name: &str, count: u32, cpu: u32) -> Value {
    json!({"name": name, "count": count, "limit": {"cpu": cpu, "ram": 0}})
}

/// `object` with more fields, or other values of them.
pub(crate) fn with(mut object: Value, fields: Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}
