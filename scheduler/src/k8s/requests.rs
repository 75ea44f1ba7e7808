//! What the scores assume that a pod requests where it does not say.
//!
//! These *non-zero* requests, which only the scores of `NodeResourcesFit` read, give every container that
//! states no CPU 100 m, and no memory 200 MiB; a stated zero stays zero.

use cell::kube::{Amounts, Pod};

/// CPU assumed where none is stated, in milli-cores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// Memory assumed where none is stated, in bytes.
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Requests with the scores' defaults for CPU and memory: `[cpu, memory]`.
#[must_use]
pub fn non_zero(pod: &Pod) -> [i64; 2] {
    let total = pod.requests_where(|container| Amounts {
        cpu: container.requests.cpu.or(Some(DEFAULT_MILLI_CPU)),
        memory: container.requests.memory.or(Some(DEFAULT_MEMORY_BYTES)),
        ..Amounts::default()
    });
    [total.cpu, total.memory].map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use cell::kube::Container;

    use super::*;

    fn container(cpu: Option<i64>, memory: Option<i64>) -> Container {
        let requests = Amounts { cpu, memory, ..Amounts::default() };
        Container { requests, ..Container::default() }
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
    }
}
