//! What a pod requests, and what the scores assume where it does not say.
//!
//! With containers `C`, init containers `I_1..I_k` in order, some of them sidecars, overhead `o`, and all
//! sums and maxima by resource:
//!
//! ```text
//! S_j = sum of the sidecars among I_1..I_j
//! e_j = S_j if I_j is a sidecar, else r(I_j) + S_(j-1)
//! R   = max(sum of C + S_k, max e_j), replaced by what the pod requests as a whole, + o
//! ```
//!
//! *Plain* requests take what is not stated as 0. *Non-zero* requests, which only the scores of
//! `NodeResourcesFit` read, give every container that states no CPU 100 m, and no memory 200 MiB; a
//! stated zero stays zero.

use std::collections::BTreeMap;

use cell::kube::{Amounts, Container, Pod};

/// CPU assumed where none is stated, in milli-cores.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// Memory assumed where none is stated, in bytes.
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts with nothing left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// CPU in milli-cores.
    pub cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral: i64,
    /// The rest by name; what is mentioned stays mentioned, if as 0.
    pub scalar: BTreeMap<String, i64>,
}

impl Total {
    fn of(container: &Container, defaults: [i64; 2]) -> Self {
        let requests = &container.requests;
        Self {
            cpu: requests.cpu.unwrap_or(defaults[0]),
            memory: requests.memory.unwrap_or(defaults[1]),
            ephemeral: requests.ephemeral.unwrap_or(0),
            scalar: requests.scalar.clone(),
        }
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral = with(self.ephemeral, other.ephemeral);
        for (name, &amount) in &other.scalar {
            let mine = self.scalar.entry(name.clone()).or_insert(0);
            *mine = with(*mine, amount);
        }
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    fn replace(&mut self, with: &Amounts) {
        self.cpu = with.cpu.unwrap_or(self.cpu);
        self.memory = with.memory.unwrap_or(self.memory);
        self.ephemeral = with.ephemeral.unwrap_or(self.ephemeral);
        for (name, &amount) in &with.scalar {
            self.scalar.insert(name.clone(), amount);
        }
    }
}

/// Plain requests.
#[must_use]
pub fn plain(pod: &Pod) -> Total {
    aggregate(pod, [0, 0])
}

/// Requests with the scores' defaults for CPU and memory: `[cpu, memory]`.
#[must_use]
pub fn non_zero(pod: &Pod) -> [i64; 2] {
    let total = aggregate(pod, [DEFAULT_MILLI_CPU, DEFAULT_MEMORY_BYTES]);
    [total.cpu, total.memory]
}

fn aggregate(pod: &Pod, defaults: [i64; 2]) -> Total {
    let mut sum = Total::default();
    for container in &pod.containers {
        sum.add(&Total::of(container, defaults));
    }
    let mut sidecars = Total::default();
    let mut peak = Total::default();
    for init in &pod.init_containers {
        let own = Total::of(&init.container, defaults);
        let at_once = if init.restart_always {
            sidecars.add(&own);
            sidecars.clone()
        } else {
            let mut at_once = own;
            at_once.add(&sidecars);
            at_once
        };
        peak.combine(&at_once, i64::max);
    }
    sum.add(&sidecars);
    sum.combine(&peak, i64::max);
    sum.replace(&pod.pod_level);
    let overhead = Container { requests: pod.overhead.clone(), ..Container::default() };
    sum.add(&Total::of(&overhead, [0, 0]));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::kube::InitContainer;

    fn container(cpu: Option<i64>, memory: Option<i64>) -> Container {
        let requests = Amounts { cpu, memory, ..Amounts::default() };
        Container { requests, ..Container::default() }
    }

    fn init(cpu: i64, restart_always: bool) -> InitContainer {
        InitContainer { container: container(Some(cpu), Some(0)), restart_always }
    }

    #[test]
    fn init_containers_count_with_the_sidecars_before_them() {
        let pod = |init_containers| Pod {
            containers: vec![container(Some(1), Some(0)), container(Some(1), Some(0))],
            init_containers,
            ..Pod::default()
        };
        let check = |inits: Vec<InitContainer>, cpu: i64| {
            assert_eq!(plain(&pod(inits.clone())).cpu, cpu, "{inits:?}");
        };
        check(vec![], 2);
        check(vec![init(5, false)], 5); // max(2, 5)
        check(vec![init(2, true)], 4); // 2 + 2
        check(vec![init(2, true), init(5, false)], 7); // max(2 + 2, 5 + 2)
        check(vec![init(5, false), init(2, true)], 5); // max(2 + 2, 5, 2)
    }

    #[test]
    fn only_what_is_not_stated_gets_a_default() {
        let pod = |containers| Pod { containers, ..Pod::default() };
        let check = |containers: Vec<Container>, expected: [i64; 2]| {
            assert_eq!(non_zero(&pod(containers.clone())), expected, "{containers:?}");
        };
        check(vec![], [0, 0]);
        check(vec![container(Some(0), Some(0))], [0, 0]);
        check(vec![container(None, Some(7))], [100, 7]);
        check(vec![container(None, None), container(Some(1), None)], [101, 419_430_400]);
        assert_eq!(plain(&pod(vec![container(None, None)])), Total::default());
    }

    #[test]
    fn what_the_pod_requests_as_a_whole_replaces_the_sum_and_overhead_comes_on_top() {
        let pod = Pod {
            containers: vec![container(Some(1), Some(1))],
            pod_level: Amounts { cpu: Some(3), ..Amounts::default() },
            overhead: Amounts { cpu: Some(10), memory: Some(20), ..Amounts::default() },
            ..Pod::default()
        };
        let total = plain(&pod);
        assert_eq!((total.cpu, total.memory), (13, 21));
    }
}
