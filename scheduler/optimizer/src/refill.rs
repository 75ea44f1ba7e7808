//! Large-neighbourhood search: a few machines are emptied and filled again, each as full as it can be.
//!
//! A greedy plan leaves a little room on every machine, too little for any task that waits. Refilling a
//! handful of machines one after the other, each by an exact search for its dearest set of tasks (minimum
//! bin slack: Gupta and Ho 1999), gathers that room on the last of them, where a waiting task then fits.
//! A refill that leaves tasks of more worth waiting than before is taken back.

use cell::GpuRequest;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use scheduler::Gpus;

use crate::model::{Amounts, GPU, RESOURCE_COUNT, UNLIMITED};
use crate::objective::{BAND_COUNT, ByBand};

/// A task as the search sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub demand: Amounts,
    /// The devices that it needs.
    pub gpu: GpuRequest,
    /// What the room that it takes is worth. At least 1.
    pub price: u64,
    /// What waiting costs: so much, at this level; level 0 is compared first.
    pub level: usize,
    pub worth: u64,
    /// Index of its set of hard constraints.
    pub rules: usize,
    /// The job, where its tasks must be on different machines.
    pub apart: Option<u32>,
    /// Tasks with the same kind are interchangeable.
    pub kind: usize,
}

impl Item {
    /// Its worth, with each level outweighing those below as far as sums over one machine fit in 64 bits.
    fn weighed(&self) -> u64 {
        let below = u32::try_from(BAND_COUNT - 1 - self.level).unwrap_or(0);
        self.worth.saturating_mul(1000_u64.pow(below)).min(u64::MAX >> 16)
    }
}

/// A machine as the search sees it.
#[derive(Clone, Debug)]
pub(crate) struct Bin {
    /// What the items may take: the capacity less what stays where it is.
    pub room: Amounts,
    pub free: Amounts,
    /// The devices, as far as items may take them; and what is left of them.
    pub gpu_room: Gpus,
    pub gpus: Gpus,
    /// The devices of each item, one bit each; parallel to `items`.
    pub devices: Vec<u16>,
    /// Which rules hold there, by index.
    pub shape: usize,
    pub items: Vec<u32>,
}

/// Items on bins, and those that wait.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub items: Vec<Item>,
    pub bins: Vec<Bin>,
    pub waiting: Vec<u32>,
    /// Whether rules hold on bins of a shape.
    pub obeys: Vec<Vec<bool>>,
    /// One refill in so many fills by what tasks are worth, weighed level by level, instead of by the room that
    /// they take; `None`: none does.
    pub by_worth_one_in: Option<u32>,
    /// Worth of each unit of each resource, by shape: no set of items on a bin is worth more than what
    /// these make of its room.
    pub multipliers: Vec<[f64; RESOURCE_COUNT]>,
}

const MILLI_A_DEVICE: f64 = 1000.0;

/// How hard one refill tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Waiting items that join the pool.
    pub waiting: usize,
    /// Nodes of the search for one bin's filling.
    pub nodes: u32,
    /// One refill in so many does not offer everything to every bin. Filling each bin as well as it can
    /// be is not always how all of them are filled best.
    pub withheld_one_in: u32,
}

impl Board {
    /// Refills these bins in this order: from a pool of what is on them and some of what waits. Returns
    /// whether it was kept: it is if less waits by worth; or as much does, and the room on these bins is
    /// no more scattered than before.
    pub(crate) fn refill(&mut self, bins: &[usize], reach: Reach, random: &mut impl Rng) -> bool {
        let joined = self.waiting.len().min(reach.waiting);
        let rest = self.waiting.len() - joined;
        // The chosen ones end up last.
        let (chosen, _) = self.waiting.partial_shuffle(random, joined);
        debug_assert_eq!(chosen.len(), joined);
        let had_waiting = self.worth_of(&self.waiting[rest..]);
        let mut pool: Vec<u32> =
            bins.iter().flat_map(|&bin| self.bins[bin].items.iter().copied()).collect();
        pool.extend_from_slice(&self.waiting[rest..]);
        let is_by_worth = self.by_worth_one_in.is_some_and(|n| random.random_ratio(1, n));
        let price = |i: u32| {
            let item = &self.items[i as usize];
            if is_by_worth { item.weighed() } else { item.price }
        };
        pool.sort_unstable_by_key(|&i| {
            (std::cmp::Reverse(price(i)), self.items[i as usize].kind, i)
        });
        let mut filled: Vec<Bin> = Vec::with_capacity(bins.len());
        let is_withholding = random.random_ratio(1, reach.withheld_one_in);
        for (turn, &bin) in bins.iter().enumerate() {
            let mut offered = vec![true; pool.len()];
            if is_withholding && turn + 1 < bins.len() {
                offered.iter_mut().for_each(|offered| *offered = random.random_ratio(2, 3));
            }
            let prices: Vec<u64> = pool.iter().map(|&i| price(i)).collect();
            let filler = Filler::new(self, bin, &pool, &prices, is_by_worth, &offered, reach.nodes);
            let mut chosen = filler.run().into_iter().peekable();
            let mut position = 0_usize;
            let mut taken = Vec::new();
            pool.retain(|&item| {
                let is_taken = chosen.next_if_eq(&position).is_some();
                position += 1;
                if is_taken {
                    taken.push(item);
                }
                !is_taken
            });
            let Bin { room, gpu_room, shape, .. } = self.bins[bin];
            let mut gpus = gpu_room;
            let devices = taken.iter().map(|&item| {
                let Item { gpu, .. } = self.items[item as usize];
                let devices = gpus.choose(gpu).expect("chosen in this order");
                gpus.take(devices, gpu);
                devices
            });
            let devices = devices.collect();
            let mut new =
                Bin { room, free: room, gpu_room, gpus: gpu_room, devices, shape, items: taken };
            new.settle(&self.items);
            filled.push(new);
        }
        let waits = self.worth_of(&pool);
        let is_better = waits < had_waiting || {
            let had = bins.iter().map(|&bin| self.square(&self.bins[bin])).sum::<f64>();
            waits == had_waiting && filled.iter().map(|bin| self.square(bin)).sum::<f64>() >= had
        };
        if is_better {
            self.waiting.truncate(rest);
            self.waiting.extend(pool);
            for (&bin, new) in bins.iter().zip(filled) {
                self.bins[bin] = new;
            }
        }
        is_better
    }

    fn worth_of(&self, items: &[u32]) -> ByBand {
        let mut worth = ByBand::default();
        for &item in items {
            let Item { level, worth: of, .. } = self.items[item as usize];
            worth[level] += of;
        }
        worth
    }

    /// The square of a bin's room by worth: for the same room in sum, more where it is on fewer bins, and
    /// on fewer devices of a bin.
    fn square(&self, bin: &Bin) -> f64 {
        let of = self.multipliers[bin.shape][GPU] * MILLI_A_DEVICE;
        let part = |&milli: &u16| (f64::from(milli) / MILLI_A_DEVICE).powi(2);
        let on_devices: f64 = bin.gpus.devices().iter().map(part).sum();
        self.worth(bin.shape, &bin.free).powi(2) + of * of * on_devices
    }

    /// Empties a bin; its items wait.
    pub(crate) fn empty(&mut self, bin: usize) {
        let bin = &mut self.bins[bin];
        self.waiting.append(&mut bin.items);
        bin.devices.clear();
        bin.settle(&self.items);
    }

    /// What the free room of a bin is worth.
    pub(crate) fn free_worth(&self, bin: usize) -> f64 {
        self.worth(self.bins[bin].shape, &self.bins[bin].free)
    }

    fn worth(&self, shape: usize, free: &Amounts) -> f64 {
        let of = &self.multipliers[shape];
        (0..RESOURCE_COUNT).filter(|&r| of[r] > 0.0).map(|r| of[r] * float(free[r])).sum()
    }
}

impl Bin {
    /// Works out what its items leave of its room.
    pub(crate) fn settle(&mut self, items: &[Item]) {
        self.free = self.room;
        self.gpus = self.gpu_room;
        for (&item, &devices) in self.items.iter().zip(&self.devices) {
            let Item { demand, gpu, .. } = &items[item as usize];
            take(&mut self.free, demand);
            self.gpus.take(devices, *gpu);
        }
    }

    /// Keeps those of its items that `keeps` says.
    pub(crate) fn retain(&mut self, items: &[Item], keeps: impl Fn(u32) -> bool) {
        let kept = self.items.iter().zip(&self.devices).filter(|&(&item, _)| keeps(item));
        (self.items, self.devices) = kept.map(|(&item, &devices)| (item, devices)).unzip();
        self.settle(items);
    }
}

/// The search for the dearest set of items of a pool on one bin, depth first, dearest item first.
struct Filler<'a> {
    board: &'a Board,
    pool: &'a [u32],
    /// What the bin is filled by, parallel to the pool; and whether the multipliers say nothing of that.
    prices: &'a [u64],
    is_unbounded: bool,
    /// Which of the pool may be taken.
    offered: &'a [bool],
    bin: usize,
    nodes_left: u32,
    chosen: Vec<usize>,
    worth: u64,
    best: Vec<usize>,
    best_worth: u64,
    /// Price of everything in the pool from a position on.
    rest: Vec<u64>,
    /// What items that the multipliers do not see may add, at 1 each.
    unseen: f64,
}

impl<'a> Filler<'a> {
    fn new(
        board: &'a Board,
        bin: usize,
        pool: &'a [u32],
        prices: &'a [u64],
        is_unbounded: bool,
        offered: &'a [bool],
        nodes: u32,
    ) -> Self {
        let mut rest = vec![0_u64; pool.len() + 1];
        for position in (0..pool.len()).rev() {
            rest[position] = rest[position + 1].saturating_add(prices[position]);
        }
        Self {
            board,
            pool,
            prices,
            is_unbounded,
            offered,
            bin,
            nodes_left: nodes,
            chosen: Vec::new(),
            worth: 0,
            best: Vec::new(),
            best_worth: 0,
            rest,
            unseen: float(
                pool.iter().filter(|&&i| board.items[i as usize].price <= 1).count() as u64
            ),
        }
    }

    /// Positions in the pool, ascending.
    fn run(mut self) -> Vec<usize> {
        let Bin { room, gpu_room, .. } = self.board.bins[self.bin];
        self.search(0, room, &gpu_room);
        self.best
    }

    /// Returns whether nothing better can be found.
    fn search(&mut self, from: usize, free: Amounts, gpus: &Gpus) -> bool {
        if self.worth > self.best_worth {
            self.best_worth = self.worth;
            self.best.clone_from(&self.chosen);
        }
        if self.nodes_left == 0 {
            return true;
        }
        self.nodes_left -= 1;
        let shape = self.board.bins[self.bin].shape;
        let most = if self.is_unbounded { f64::INFINITY } else { self.board.worth(shape, &free) };
        let mut refused = None;
        for position in from..self.pool.len() {
            let best = float(self.best_worth - self.worth);
            if float(self.rest[position]) <= best || most + self.unseen < best + 1.0 {
                break;
            }
            let item = &self.board.items[self.pool[position] as usize];
            if !self.offered[position]
                || refused == Some(item.kind)
                || !self.admits(item, &free, shape)
            {
                continue;
            }
            let mut left = free;
            take(&mut left, &item.demand);
            self.chosen.push(position);
            self.worth += self.prices[position];
            let is_done = match item.gpu.count {
                0 => self.search(position + 1, left, gpus),
                _ => {
                    let Some(devices) = gpus.choose(item.gpu) else {
                        self.worth -= self.prices[position];
                        self.chosen.pop();
                        refused = Some(item.kind);
                        continue;
                    };
                    let mut gpus = *gpus;
                    gpus.take(devices, item.gpu);
                    self.search(position + 1, left, &gpus)
                }
            };
            self.worth -= self.prices[position];
            self.chosen.pop();
            if is_done {
                return true;
            }
            refused = Some(item.kind);
        }
        false
    }

    fn admits(&self, item: &Item, free: &Amounts, shape: usize) -> bool {
        (0..RESOURCE_COUNT).all(|r| item.demand[r] <= free[r])
            && self.board.obeys[item.rules][shape]
            && item.apart.is_none_or(|job| {
                let of = |&position: &usize| self.board.items[self.pool[position] as usize].apart;
                self.chosen.iter().all(|position| of(position) != Some(job))
            })
    }
}

fn take(free: &mut Amounts, demand: &Amounts) {
    for r in 0..RESOURCE_COUNT {
        if free[r] != UNLIMITED {
            free[r] -= demand[r];
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "to compare worths, with room for the error")]
fn float(amount: u64) -> f64 {
    amount as f64
}
