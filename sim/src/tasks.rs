//! What clients ask for: jobs at random, small enough that a few machines hold some of them.

use cell::live::{Amounts, Op, Quota, Timestamp};
use cell::spec::{JobSpec, LimitSpec, RestartPolicy, RunSpec, SpreadSpec};
use cell::{Band, Bytes, DomainKind, MilliCpu};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::masters::EPOCH_MS;

/// Users; the first may do everything.
pub(crate) const USERS: [&str; 3] = ["root", "ann", "bob"];

/// What one client may ask about: names of its own, so that it knows what became of them.
pub(crate) fn names(client: u32) -> Vec<String> {
    let kinds = ["batch", "service", "batch", "free", "in"];
    kinds.iter().enumerate().map(|(i, kind)| format!("{kind}-{client}-{i}")).collect()
}

/// A job at random.
pub(crate) fn spec(random: &mut ChaCha8Rng, name: &str, user: &str) -> JobSpec {
    let priority = match name {
        _ if name.starts_with("service") => random.random_range(120..300),
        _ if name.starts_with("free") => random.random_range(0..100),
        _ if name.starts_with("in") => random.random_range(100..140),
        _ => random.random_range(100..119),
    };
    let is_one_in = |random: &mut ChaCha8Rng, n: u32| random.random_range(0..n) == 0;
    let run = RunSpec {
        restart: match random.random_range(0..4) {
            0 => RestartPolicy::Never,
            1 => RestartPolicy::Always,
            _ => RestartPolicy::OnFailure,
        },
        failures_max: is_one_in(random, 3).then_some(3),
        grace_seconds: random.random_range(0..4),
        update_max_down: random.random_range(1..3),
        healthy_seconds: random.random_range(0..3),
        stop_after_disconnect_seconds: is_one_in(random, 10).then_some(20),
        ..RunSpec::default()
    };
    // As often as not the same for all specs of a name: then an update need not start tasks anew.
    let size = match is_one_in(random, 2) {
        true => 1 + name.bytes().map(u64::from).sum::<u64>() % 8,
        false => random.random_range(1..9),
    };
    JobSpec {
        name: name.to_owned(),
        user: user.to_owned(),
        priority,
        count: random.random_range(1..6),
        limit: LimitSpec {
            cpu: Some(MilliCpu(size * 250)),
            ram: Some(Bytes((9 - size) * 128)),
            disk: Bytes(0),
            gpu: None,
        },
        constraints: Vec::new(),
        different_machines: is_one_in(random, 5),
        spread: if is_one_in(random, 6) {
            vec![SpreadSpec { domain: DomainKind::Rack, max_per_domain: Some(2) }]
        } else {
            Vec::new()
        },
        packages: std::collections::BTreeSet::new(),
        alloc_set: None,
        tied_to_machines: false,
        max_disrupted: is_one_in(random, 3).then(|| random.random_range(0..3)),
        tasks: Vec::new(),
        run,
        container: None,
    }
}

/// A grant of quota at random: now and then too little, or over before the end.
pub(crate) fn quota(random: &mut ChaCha8Rng) -> Op {
    let user = USERS[random.random_range(1..USERS.len())].to_owned();
    let band = [Band::Batch, Band::Mid, Band::Production][random.random_range(0..3)];
    let share = random.random_range(1..5);
    let amounts =
        Amounts { cpu_milli: share * 4_000, ram_bytes: share * 4_096, disk_bytes: 0, gpu_milli: 0 };
    let until = (random.random_range(0..3) == 0)
        .then(|| Timestamp(EPOCH_MS + random.random_range(0..1_200_000)));
    Op::SetQuota(Quota { user, band, amounts, until })
}
