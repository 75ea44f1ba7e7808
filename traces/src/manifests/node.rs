//! A node, as kube-scheduler reads it, and the machine that it is in Borg's terms.
//!
//! The machine's attributes are the node's labels and its name (under `metadata.name`, as node affinity
//! calls it), its power domain is its zone, and its rack is unknown. Taints and cordons have no likeness.

use std::collections::BTreeMap;

use cell::kube::{Amounts, NODE_NAME_FIELD, Node, PODS_DEFAULT, Taint, TaintEffect, ZONE};
use cell::{Bytes, Capacity, GPU_DEVICE_COUNT_MAX, Machine, MilliCpu};
use k8s_openapi::api::core::v1 as core;

use super::fault::{Fault, each};
use super::pod::{amounts, taint_effect};
use super::quantity;

/// The extended resources that are whole GPUs.
const GPUS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];

/// Reads a node; its name is checked already.
pub(super) fn node(node: &core::Node, name: &str) -> Result<Node, Fault> {
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let taints = each("taints", taints, |taint| {
        if taint.key.is_empty() {
            return Err(Fault::of("key", "must not be empty"));
        }
        Ok(Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint_effect(&taint.effect)?,
        })
    })
    .map_err(|fault| fault.within("spec"))?;
    let status = node.status.as_ref();
    let (key, resources) = match status {
        None => ("allocatable", None),
        Some(status) => match (&status.allocatable, &status.capacity) {
            (Some(allocatable), _) => ("allocatable", Some(allocatable)),
            (None, capacity) => ("capacity", capacity.as_ref()),
        },
    };
    let of_status = |fault: Fault| fault.within(key).within("status");
    let pods = match resources.and_then(|resources| resources.get("pods")) {
        None => PODS_DEFAULT,
        Some(pods) => quantity::whole(&pods.0).map_err(|fault| of_status(fault.under("pods")))?,
    };
    let mut images = BTreeMap::new();
    for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
        for name in image.names.iter().flatten() {
            images.insert(name.clone(), image.size_bytes.unwrap_or(0).max(0));
        }
    }
    Ok(Node {
        name: name.to_owned(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints,
        unschedulable: spec.and_then(|spec| spec.unschedulable) == Some(true),
        allocatable: amounts(resources).map_err(of_status)?,
        pods,
        images,
    })
}

/// The machine that a node is, and whether it has more GPUs than a machine may have.
pub(super) fn machine(node: &Node) -> (Machine, bool) {
    let gpus = gpu_count(&node.allocatable);
    let mut attributes = node.labels.clone();
    attributes.insert(NODE_NAME_FIELD.to_owned(), node.name.clone());
    let machine = Machine {
        name: node.name.clone(),
        capacity: Capacity {
            cpu: MilliCpu(unsigned(node.allocatable.cpu)),
            ram: Bytes(unsigned(node.allocatable.memory)),
            disk: node.allocatable.ephemeral.map(|bytes| Bytes(unsigned(Some(bytes)))),
            gpu_count: gpus.0,
        },
        attributes,
        rack: None,
        power: node.labels.get(ZONE).cloned(),
        ..Machine::default()
    };
    (machine, gpus.1)
}

/// How many GPUs these are, at most as many as a machine may have; and whether they are more.
pub(super) fn gpu_count(amounts: &Amounts) -> (u32, bool) {
    let count: i64 = GPUS.iter().filter_map(|name| amounts.scalar.get(*name)).sum();
    match u32::try_from(count) {
        Ok(count) if count as usize <= GPU_DEVICE_COUNT_MAX => (count, false),
        _ => (GPU_DEVICE_COUNT_MAX_U32, true),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "sixteen")]
const GPU_DEVICE_COUNT_MAX_U32: u32 = GPU_DEVICE_COUNT_MAX as u32;

/// Names of resources that Borg's terms do not have.
pub(super) fn other_resources(amounts: &Amounts) -> impl Iterator<Item = &str> {
    let others = amounts
        .scalar
        .iter()
        .filter(|(name, amount)| **amount > 0 && !GPUS.contains(&name.as_str()));
    others.map(|(name, _)| name.as_str())
}

/// An amount that is stated, or none; quantities are never negative.
pub(super) fn unsigned(amount: Option<i64>) -> u64 {
    amount.map_or(0, i64::unsigned_abs)
}

/// Whether it keeps pods away that do not tolerate its taints.
pub(super) fn keeps_away(node: &Node) -> bool {
    let is_hard = |taint: &Taint| match taint.effect {
        TaintEffect::NoSchedule | TaintEffect::NoExecute => true,
        TaintEffect::PreferNoSchedule => false,
    };
    node.unschedulable || node.taints.iter().any(is_hard)
}
