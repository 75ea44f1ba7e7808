//! Scores with every resource that a host may have: CPU, RAM, disk and GPU.

use scheduler::score::best_fit::BestFit;
use scheduler::score::e_pvm::EPvm;
use scheduler::score::hybrid::Hybrid;
use scheduler::score::{Ask, HostView, RowScore};

/// A host of 1000 m, 4000 bytes of RAM, 200 of disk and 2 GPUs, each resource so far free; capacities of 0
/// are resources that the host does not have.
struct Case {
    capacity: [f64; 4],
    /// Free fractions before.
    free: [f64; 4],
    /// Fractions asked.
    ask: [f64; 4],
}

const ALL: [f64; 4] = [1000.0, 4000.0, 200.0, 2000.0];
const NO_GPU: [f64; 4] = [1000.0, 4000.0, 200.0, 0.0];
const CPU_RAM: [f64; 4] = [1000.0, 4000.0, 0.0, 0.0];
const RAM: [f64; 4] = [0.0, 4000.0, 0.0, 0.0];

fn check<S: RowScore>(score: &S, case: Case, expected: f64) {
    let Case { capacity, free, ask } = case;
    let of = |parts: [f64; 4]| [0, 1, 2, 3].map(|r| parts[r] * capacity[r]);
    let host = HostView { free: of(free), capacity, ..HostView::default() };
    let [cpu, ram, disk, gpu] = of(ask);
    let ask = Ask { cpu, ram, disk, gpu, ..Ask::default() };
    let class = score.class(&ask, &[(capacity[0], capacity[1])]);
    let wide = score.score_wide(&class, &ask, &host);
    assert!((wide - expected).abs() < 1e-9, "wide: {wide} is not {expected}");
    // On a host with CPU and RAM alone the shorter way is the same.
    if capacity == CPU_RAM {
        let narrow = score.score(&class, &score.columns(&host));
        assert!((narrow - expected).abs() < 1e-9, "{narrow} is not {expected}");
    }
}

/// `score = 1 - (stranded + 0.05 · left) / 1.05`, where `stranded` is (mean - least of what is left) ·
/// n / (n - 1), and `left` the mean.
#[test]
fn the_hybrid_strands_as_little_as_it_can() {
    let check =
        |capacity, free, ask, expected| check(&Hybrid, Case { capacity, free, ask }, expected);
    // Left 0 and 0: nothing stranded.
    check(CPU_RAM, [0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 1.0);
    // Left 0.5 and 0.25: mean 0.375, stranded (0.375 - 0.25) · 2 = 0.25.
    check(CPU_RAM, [1.0, 0.5, 0.0, 0.0], [0.5, 0.25, 0.0, 0.0], 1.0 - (0.25 + 0.018_75) / 1.05);
    // Left 0 and 1: mean 0.5, stranded 1: the worst with two.
    check(CPU_RAM, [0.5, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], 1.0 - 1.025 / 1.05);
    // Left 0.6, 0.6, 0.3: mean 0.5, stranded 0.2 · 3 / 2 = 0.3.
    check(NO_GPU, [0.8, 0.7, 0.3, 0.0], [0.2, 0.1, 0.0, 0.0], 1.0 - (0.3 + 0.025) / 1.05);
    // Left 1, 1, 1, 0: mean 0.75, stranded 0.75 · 4 / 3 = 1.
    check(ALL, [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], 1.0 - (1.0 + 0.0375) / 1.05);
    // One resource: best fit by it. Left 0.5: 1 - 0.025 / 1.05.
    check(RAM, [0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], 1.0 - 0.025 / 1.05);
    // None at all.
    check([0.0; 4], [0.0; 4], [0.0; 4], 1.0);
}

#[test]
fn best_fit_counts_disk_and_gpu() {
    let check =
        |capacity, free, ask, expected| check(&BestFit, Case { capacity, free, ask }, expected);
    // 1 - (0.5 + 0.25) / 2.
    check(CPU_RAM, [1.0, 0.5, 0.0, 0.0], [0.5, 0.25, 0.0, 0.0], 0.625);
    // 1 - (0.6 + 0.6 + 0.3) / 3.
    check(NO_GPU, [0.8, 0.7, 0.3, 0.0], [0.2, 0.1, 0.0, 0.0], 0.5);
    // 1 - (1 + 1 + 1 + 0) / 4: a GPU used up, and nothing else.
    check(ALL, [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], 0.25);
    check(RAM, [0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], 0.5);
}

/// With 100 machines `100^u` is 1, 10 and 100 for u = 0, 0.5 and 1; `1 - growth / (99 · resources)`.
#[test]
fn e_pvm_counts_disk_and_gpu() {
    let score = EPvm::new(100);
    let check =
        |capacity, free, ask, expected| check(&score, Case { capacity, free, ask }, expected);
    // CPU from 0 to 0.5: 9; RAM from 0.5 to 1: 90; 99 / (99 · 2).
    check(CPU_RAM, [1.0, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 0.5);
    // Three resources, each from 0 to 0.5: 27 / (99 · 3) = 1/11.
    check(NO_GPU, [1.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.0], 1.0 - 1.0 / 11.0);
    // GPU from 0 to 1: 99 / (99 · 4).
    check(ALL, [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], 0.75);
}
