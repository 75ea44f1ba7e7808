//! The scheduling queue: pods to be tried now, pods backing off, and pods that wait for something to
//! happen.
//!
//! Tried first: higher priority, then earlier timestamp (`PrioritySort`), then earlier entry. After `f`
//! failures in a row a pod backs off for `min(max, initial · 2^(f-1))` from its timestamp; expiry is
//! compared in whole seconds, then by priority. When nothing else is to be tried, a pod that backs off is
//! taken early. A pod that no node could take waits until an event that one of the plugins that rejected
//! it cares about. Time is given by the caller, in milliseconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{PodIndex, TemplateIndex};
use super::profile::{Backoff, Plugin};

/// How long a pod that is left waiting is left there without events, in milliseconds.
pub const UNSCHEDULABLE_MS_MAX: u64 = 5 * 60 * 1000;

/// How long to back off after so many failures in a row, in milliseconds.
#[must_use]
pub fn backoff_ms(backoff: Backoff, failure_count: u32) -> u64 {
    match failure_count {
        0 => 0,
        count => {
            let factor = 1_u64.checked_shl(count - 1).unwrap_or(u64::MAX);
            backoff.initial_ms.saturating_mul(factor).min(backoff.max_ms)
        }
    }
}

/// Something that happened in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pod left its node.
    PodDeleted,
    /// A pod came to a node.
    PodBound,
}

impl Event {
    /// Whether it may help a pod that a plugin rejected.
    #[must_use]
    pub const fn concerns(self, plugin: Plugin) -> bool {
        match plugin {
            Plugin::NodePorts | Plugin::NodeResourcesFit => matches!(self, Self::PodDeleted),
            Plugin::PodTopologySpread | Plugin::InterPodAffinity => true,
            Plugin::NodeUnschedulable
            | Plugin::NodeName
            | Plugin::TaintToleration
            | Plugin::NodeAffinity
            | Plugin::NodeResourcesBalancedAllocation
            | Plugin::ImageLocality
            | Plugin::NodePreferAvoidPods
            | Plugin::DefaultPreemption => false,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    template: TemplateIndex,
    priority: i32,
    failure_count: u32,
    timestamp_ms: u64,
    rejected_by: BTreeSet<Plugin>,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    backoff: Backoff,
    entries: BTreeMap<PodIndex, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, u64, PodIndex)>,
    backing_off: BTreeSet<(u64, Reverse<i32>, u64, PodIndex)>,
    unschedulable: BTreeSet<PodIndex>,
    /// Those of them that each plugin rejected, by template: pods that are alike wait for the same.
    rejected_by: BTreeMap<Plugin, BTreeMap<TemplateIndex, BTreeSet<PodIndex>>>,
    entry_count: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            entries: BTreeMap::new(),
            active: BTreeSet::new(),
            backing_off: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            rejected_by: BTreeMap::new(),
            entry_count: 0,
        }
    }

    /// A new pod.
    pub fn add(&mut self, pod: PodIndex, template: TemplateIndex, priority: i32, now_ms: u64) {
        let entry = Entry { template, priority, timestamp_ms: now_ms, ..Entry::default() };
        self.entries.insert(pod, entry);
        self.activate(pod);
    }

    fn activate(&mut self, pod: PodIndex) {
        self.entry_count += 1;
        let entry = &self.entries[&pod];
        self.active.insert((Reverse(entry.priority), entry.timestamp_ms, self.entry_count, pod));
    }

    /// The next pod to try.
    pub fn pop(&mut self, now_ms: u64) -> Option<PodIndex> {
        self.flush(now_ms);
        if let Some((.., pod)) = self.active.pop_first() {
            return Some(pod);
        }
        self.backing_off.pop_first().map(|(.., pod)| pod)
    }

    /// Moves what has backed off, or waited, long enough.
    fn flush(&mut self, now_ms: u64) {
        while let Some(&(expiry_s, _, _, pod)) = self.backing_off.first() {
            if expiry_s * 1000 > now_ms {
                break;
            }
            self.backing_off.pop_first();
            self.activate(pod);
        }
        // Time that stands still lets nobody wait long.
        if now_ms >= UNSCHEDULABLE_MS_MAX {
            let long =
                |pod: &PodIndex| self.entries[pod].timestamp_ms + UNSCHEDULABLE_MS_MAX <= now_ms;
            let stale: Vec<PodIndex> = self.unschedulable().filter(long).collect();
            for pod in stale {
                self.release(pod, now_ms);
            }
        }
    }

    /// A pod was placed, or is gone.
    pub fn forget(&mut self, pod: PodIndex) {
        self.entries.remove(&pod);
    }

    /// A pod found no node.
    pub fn put_back(&mut self, pod: PodIndex, rejected_by: BTreeSet<Plugin>, now_ms: u64) {
        let entry = self.entries.get_mut(&pod).expect("it came from this queue");
        entry.failure_count += 1;
        entry.timestamp_ms = now_ms;
        for &plugin in &rejected_by {
            let by_template = self.rejected_by.entry(plugin).or_default();
            by_template.entry(entry.template).or_default().insert(pod);
        }
        entry.rejected_by = rejected_by;
        self.unschedulable.insert(pod);
    }

    /// Something happened: moves the pods that it concerns. `helps` says whether it might help pods of a
    /// template that this plugin rejected.
    pub fn react(
        &mut self,
        event: Event,
        now_ms: u64,
        mut helps: impl FnMut(TemplateIndex, Plugin) -> bool,
    ) {
        let mut moved: BTreeSet<PodIndex> = BTreeSet::new();
        for (&plugin, by_template) in &self.rejected_by {
            if event.concerns(plugin) {
                let helped = by_template.iter().filter(|&(&template, _)| helps(template, plugin));
                moved.extend(helped.flat_map(|(_, pods)| pods));
            }
        }
        for pod in moved {
            self.release(pod, now_ms);
        }
    }

    fn release(&mut self, pod: PodIndex, now_ms: u64) {
        let entry = &self.entries[&pod];
        self.unschedulable.remove(&pod);
        for plugin in &entry.rejected_by {
            let by_template = self.rejected_by.get_mut(plugin).expect("it was put there");
            let alike = by_template.get_mut(&entry.template).expect("it was put there");
            alike.remove(&pod);
            if alike.is_empty() {
                by_template.remove(&entry.template);
            }
        }
        let expiry_ms = entry.timestamp_ms + backoff_ms(self.backoff, entry.failure_count);
        if expiry_ms > now_ms {
            self.entry_count += 1;
            let at = (expiry_ms / 1000, Reverse(entry.priority), self.entry_count, pod);
            self.backing_off.insert(at);
        } else {
            self.activate(pod);
        }
    }

    /// How many pods wait for something to happen.
    #[must_use]
    pub fn unschedulable_count(&self) -> usize {
        self.unschedulable.len()
    }

    /// The pods that wait for something to happen.
    pub fn unschedulable(&self) -> impl Iterator<Item = PodIndex> + '_ {
        self.unschedulable.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { initial_ms: 1000, max_ms: 10_000 };

    #[test]
    fn back_off_doubles_up_to_its_maximum() {
        let check = |count, expected| assert_eq!(backoff_ms(BACKOFF, count), expected, "{count}");
        check(0, 0);
        check(1, 1000);
        check(3, 4000);
        check(5, 10_000); // 16 s would be more
        check(100, 10_000);
    }

    #[test]
    fn priority_then_time_then_entry() {
        let mut queue = Queue::new(BACKOFF);
        for (pod, priority, now) in [(0, 0, 5), (1, 10, 9), (2, 0, 5), (3, 10, 7)] {
            queue.add(pod, 0, priority, now);
        }
        let order: Vec<PodIndex> = std::iter::from_fn(|| queue.pop(9)).collect();
        assert_eq!(order, [3, 1, 0, 2]);
    }

    #[test]
    fn a_pod_waits_for_an_event_that_concerns_it_and_then_backs_off() {
        let mut queue = Queue::new(BACKOFF);
        queue.add(0, 0, 0, 0);
        queue.add(1, 1, 5, 0);
        for _ in 0..2 {
            let pod = queue.pop(0).expect("two were added");
            let by = if pod == 0 { Plugin::NodeAffinity } else { Plugin::NodeResourcesFit };
            queue.put_back(pod, [by].into(), 0);
        }
        queue.react(Event::PodBound, 0, |_, _| true);
        assert_eq!(queue.pop(0), None);
        queue.react(Event::PodDeleted, 0, |_, _| true);
        // It backs off until 1 s, but nothing else is to be tried.
        assert_eq!(queue.pop(0), Some(1));
        assert_eq!(queue.pop(0), None);
        // The other waits until 5 min are over.
        assert_eq!(queue.pop(UNSCHEDULABLE_MS_MAX), Some(0));
    }
}
