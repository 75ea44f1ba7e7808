//! What a pod asks for in all: kube-scheduler's aggregate of its containers, sidecars and overhead.
//!
//! With containers C, init containers `I_1..I_k` in order and S the sum over the sidecars so far:
//! `max(sum over C + S_k, max over j of I_j + S_(j-1))`, a sidecar counting as `S_j`; then what is stated
//! for the pod as a whole takes the place of that; then the overhead is added. A resource that nobody
//! states stays unstated.
//!
//! Source: `component-helpers/resource.PodRequests`, v1.36.

use super::{Amounts, Container, InitContainer, Pod};

impl Pod {
    /// What it asks for in all.
    #[must_use]
    pub fn requests(&self) -> Amounts {
        self.requests_where(|container| container.requests.clone())
    }

    /// What it asks for in all, if its containers request what `of` says of them.
    pub fn requests_where(&self, of: impl Fn(&Container) -> Amounts) -> Amounts {
        let mut sum = sum_of_containers(&self.containers, &self.init_containers, of);
        let level = &self.pod_level;
        sum.cpu = level.cpu.or(sum.cpu);
        sum.memory = level.memory.or(sum.memory);
        sum.ephemeral = level.ephemeral.or(sum.ephemeral);
        sum.scalar.extend(level.scalar.iter().map(|(name, amount)| (name.clone(), *amount)));
        combine(&sum, &self.overhead, i64::saturating_add)
    }
}

/// What containers and init containers ask for in all, without what is stated for their pod as a whole, if
/// they request what `of` says of them.
pub fn sum_of_containers(
    containers: &[Container],
    init_containers: &[InitContainer],
    of: impl Fn(&Container) -> Amounts,
) -> Amounts {
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for init in init_containers {
        let together = combine(&sidecars, &of(&init.container), i64::saturating_add);
        most = combine(&most, &together, i64::max);
        if init.restart_always {
            sidecars = together;
        }
    }
    let sum = containers
        .iter()
        .fold(sidecars, |sum, container| combine(&sum, &of(container), i64::saturating_add));
    combine(&sum, &most, i64::max)
}

fn combine(left: &Amounts, right: &Amounts, with: fn(i64, i64) -> i64) -> Amounts {
    let both = |left: Option<i64>, right: Option<i64>| match (left, right) {
        (Some(left), Some(right)) => Some(with(left, right)),
        (left, right) => left.or(right),
    };
    let mut scalar = left.scalar.clone();
    for (name, &amount) in &right.scalar {
        scalar.entry(name.clone()).and_modify(|sum| *sum = with(*sum, amount)).or_insert(amount);
    }
    Amounts {
        cpu: both(left.cpu, right.cpu),
        memory: both(left.memory, right.memory),
        ephemeral: both(left.ephemeral, right.ephemeral),
        scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(milli: i64) -> Amounts {
        Amounts { cpu: Some(milli), ..Amounts::default() }
    }

    fn container(milli: i64) -> Container {
        Container { requests: cpu(milli), ..Container::default() }
    }

    fn init(milli: i64, restart_always: bool) -> InitContainer {
        InitContainer { container: container(milli), restart_always }
    }

    #[test]
    fn the_aggregate_is_kube_schedulers() {
        let check = |containers: &[i64], inits: &[(i64, bool)], expected| {
            let pod = Pod {
                containers: containers.iter().map(|&milli| container(milli)).collect(),
                init_containers: inits.iter().map(|&(milli, always)| init(milli, always)).collect(),
                ..Pod::default()
            };
            assert_eq!(pod.requests().cpu, expected, "{containers:?} {inits:?}");
        };
        check(&[], &[], None);
        check(&[100, 200], &[], Some(300));
        check(&[100], &[(250, false)], Some(250)); // max(100, 250)
        check(&[100], &[(250, true)], Some(350)); // 100 + 250
        check(&[100], &[(50, true), (250, false)], Some(300)); // max(150, 250 + 50)
        check(&[100], &[(250, false), (50, true)], Some(250)); // max(150, 250, 50)
        check(&[100], &[(10, true), (20, true)], Some(130));
    }

    #[test]
    fn the_pods_own_level_replaces_and_overhead_adds() {
        let pod = Pod {
            containers: vec![container(100)],
            pod_level: Amounts { memory: Some(7), ..cpu(500) },
            overhead: cpu(50),
            ..Pod::default()
        };
        let sum = pod.requests();
        assert_eq!((sum.cpu, sum.memory), (Some(550), Some(7)));
    }
}
