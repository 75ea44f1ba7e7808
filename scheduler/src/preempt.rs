//! Preemption: which tasks of lower priority make room for one that found none.
//!
//! On each host whose rules allow the task, victims are taken from the lowest priority up (of equal
//! priority the largest first, so that they are few) until the task fits; then, from the highest
//! priority down, each that can be spared is spared, so that the set is minimal. Production and
//! monitoring are never victims. The host is the one whose most important victim matters least; then the
//! one with the fewest victims; then by the tie-break of scores.
//!
//! An alloc is a victim as a whole, with what runs in it, and counts as the most important of that.
//!
//! A job that limits how many of its tasks may be disrupted at once loses no more than that in a pass, see
//! [`Disruptions`]. Where a host has more of its tasks than may leave, and they are unlike, which of them
//! leave is searched for.
//!
//! Source: Borg (EuroSys '15) §2.5, §3.2, §4.

use std::collections::BTreeMap;

use cell::{Cell, JobId, Priority, TaskId};

use crate::disruption::Disruptions;
use crate::equivalence::ClassIndex;
use crate::evictable::{Evictable, Evictables};
use crate::feasible::shortfall;
use crate::offers::{KeptOffers, NO_OFFER, Offers, Rank, Seen};
use crate::pass::Pass;
use crate::score::RowScore;
use crate::snapshot::{Amounts, Demand, Gpus, HostInfo, Snapshot};

/// What a pass knows about what could be preempted, so that it need not look when nothing can, nor twice
/// where nothing changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Placed tasks that may be victims, by priority.
    victims: BTreeMap<Priority, usize>,
    disruptions: Disruptions,
    evictables: Evictables,
    offers: KeptOffers,
}

/// The most choices that are tried on a host among tasks of jobs with limits. Our choice: enough for ten that
/// are all unlike, of which any may be the ones to leave; a host where it takes more offers nothing.
const TRIES_MAX: u32 = 1 << 10;

impl Ledger {
    pub(crate) fn of(snapshot: &Snapshot<'_>) -> Self {
        let mut ledger = Self::default();
        for host in &snapshot.hosts {
            for &task in &host.tasks {
                ledger.add(snapshot.cell, task, host.machine_row);
            }
        }
        ledger
    }

    /// To be told of each task that is placed, in an alloc of the machine or not.
    pub(crate) fn add(&mut self, cell: &Cell, task: TaskId, machine_row: usize) {
        let job = cell.job(task.job);
        self.disruptions.placed(job, task, machine_row);
        let priority = job.priority;
        if !priority.band().is_prod() {
            *self.victims.entry(priority).or_default() += 1;
        }
    }

    /// To be told of each task that is evicted.
    pub(crate) fn remove(&mut self, cell: &Cell, task: TaskId, machine_row: usize) {
        self.disruptions.evicted(task, machine_row);
        let priority = cell.job(task.job).priority;
        if let Some(count) = self.victims.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.victims.remove(&priority);
            }
        }
    }

    /// To be told when what is placed on a row changed, or what is placed in one of its allocs.
    pub(crate) fn changed(&mut self, row: usize) {
        self.evictables.forget(row);
    }

    pub(crate) fn forget_offers(&mut self) {
        self.offers.forget_all();
    }

    fn has_victims_below(&self, priority: Priority) -> bool {
        self.victims.first_key_value().is_some_and(|(&lowest, _)| lowest < priority)
    }
}

/// A host, and the tasks that have to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub row: usize,
    /// Lowest priority first.
    pub victims: Vec<TaskId>,
}

/// The best host to preempt on for a task of a class, if there is any.
pub(crate) fn choose<S: RowScore>(
    pass: &mut Pass<'_, '_, S>,
    class: ClassIndex,
    task: TaskId,
) -> Option<Eviction> {
    let job = pass.snapshot.cell.job(task.job);
    let priority = job.priority;
    if !pass.ledger_mut().has_victims_below(priority) {
        return None;
    }
    // Out of the ledger, so that they may change while the pass is read.
    let mut evictables = std::mem::take(&mut pass.ledger_mut().evictables);
    let mut victims = Vec::new();
    let row = match job.alloc_set {
        Some(alloc_set) => {
            let rows = pass.snapshot.alloc_rows(alloc_set).iter();
            let ranked = rows
                .map(|&row| (rank(pass, &mut evictables, class, priority, row, &mut victims), row));
            ranked.min().filter(|&(rank, _)| rank != NO_OFFER).map(|(_, row)| row)
        }
        None => {
            let mut offers = renewed_offers(pass, &mut evictables, class, priority);
            let rank = |row| rank(pass, &mut evictables, class, priority, row, &mut victims);
            let best = offers.best(rank);
            pass.ledger_mut().offers.put_back(class, priority, offers);
            best
        }
    };
    let eviction = row.map(|row| {
        let demand = &pass.class(class).demand;
        let all = evictables.on(&pass.snapshot, row).below(priority);
        let is_enough = choose_victims(pass, demand, row, all, &mut victims);
        assert!(is_enough, "the offer of a host that did not change since");
        Eviction { row, victims: victims.iter().map(|&at| all[at].task).collect() }
    });
    pass.ledger_mut().evictables = evictables;
    eviction
}

/// The offers of all machines: those kept, with the machines looked at again that changed since.
fn renewed_offers<S: RowScore>(
    pass: &mut Pass<'_, '_, S>,
    evictables: &mut Evictables,
    class: ClassIndex,
    priority: Priority,
) -> Offers {
    let machine_count = pass.snapshot.machine_count();
    let kept = pass.ledger_mut().offers.take(class, priority);
    let mut offers = kept.unwrap_or_else(|| Offers::none(machine_count));
    let disruptions = &pass.ledger().disruptions;
    let changed = match offers.seen {
        Some(seen) => {
            let mut changed = pass.changed_since(class, seen.changes);
            changed.extend(disruptions.since(seen.disruptions));
            changed
        }
        None => (0..machine_count).collect(),
    };
    for row in changed.into_iter().filter(|&row| row < machine_count) {
        offers.bound(row, bound(pass, evictables, class, priority, row));
    }
    offers.seen = Some(Seen { changes: pass.now(class), disruptions: disruptions.now() });
    offers
}

/// Ranks put the priority of the most important victim first, then their number, then the tie-break of
/// scores.
fn rank_of(highest: Priority, count: u64, tie: u64) -> Rank {
    u64::from(highest.get()) << 48 | count.min(0xff_ffff) << 24 | (0xff_ffff - tie)
}

/// A rank that is no worse than that of a preemption on a host, without choosing victims: rules, GPUs and limits
/// on disruption are not looked at. The most important victim is always of the first level that makes enough room with those
/// below it, because no victims below it do.
fn bound<S: RowScore>(
    pass: &Pass<'_, '_, S>,
    evictables: &mut Evictables,
    class: ClassIndex,
    priority: Priority,
    row: usize,
) -> Rank {
    let snapshot = &pass.snapshot;
    let demand = &pass.class(class).demand;
    let host = &snapshot.hosts[row];
    if snapshot.is_closed(row) {
        return NO_OFFER;
    }
    // Most hosts are full of what may not leave; one sum tells.
    let mut at_most = host.free;
    at_most.add(host.charged_other);
    if shortfall(demand.charge, at_most) != Amounts::default() || !fits_limits(demand, host) {
        return NO_OFFER;
    }
    let missing = shortfall(demand.charge, host.free);
    if missing == Amounts::default() && demand.gpu.count == 0 {
        return NO_OFFER;
    }
    let levels = evictables.on(snapshot, row).levels.iter();
    let enough = levels
        .take_while(|level| level.importance < priority)
        .find(|level| level.is_enough(missing));
    enough.map_or(NO_OFFER, |level| {
        rank_of(level.importance, level.least_count(missing), pass.tie(class, row))
    })
}

/// The rank of a preemption on a host. `victims` is for use on the way.
fn rank<S: RowScore>(
    pass: &Pass<'_, '_, S>,
    evictables: &mut Evictables,
    class: ClassIndex,
    priority: Priority,
    row: usize,
    victims: &mut Vec<usize>,
) -> Rank {
    let of_class = pass.class(class);
    if !pass.obeys_rules(of_class, row) {
        return NO_OFFER;
    }
    let all = evictables.on(&pass.snapshot, row).below(priority);
    let is_enough = choose_victims(pass, &of_class.demand, row, all, victims);
    let last = victims.last().filter(|_| is_enough);
    last.map_or(NO_OFFER, |&last| {
        rank_of(all[last].importance, victims.len() as u64, pass.tie(class, row))
    })
}

/// Whether production's limits leave room for that of a demand. Whoever may leave has no part in them.
fn fits_limits(demand: &Demand, host: &HostInfo) -> bool {
    demand.prod_limit.is_none_or(|limit| {
        let short = shortfall(limit, host.prod_free);
        (short.cpu, short.ram) == (0, 0)
    })
}

/// Room on a host as it would be with some tasks gone.
#[derive(Clone, Copy)]
struct Room {
    free: Amounts,
    gpus: Gpus,
}

impl Room {
    fn without(&mut self, gone: &Evictable) {
        self.free.add(gone.charge);
        self.gpus.give_back(gone.gpu_devices, gone.gpu);
    }

    fn with(&mut self, back: &Evictable) {
        self.free.subtract(back.charge);
        self.gpus.take(back.gpu_devices, back.gpu);
    }

    fn fits(&self, demand: &Demand) -> bool {
        shortfall(demand.charge, self.free) == Amounts::default()
            && self.gpus.choose(demand.gpu).is_some()
    }
}

/// A minimal set of victims that makes room for `demand`, as ascending positions in `all` that matter less;
/// false where those that may leave do not make enough. Never empty: the task did not fit before.
fn choose_victims<S: RowScore>(
    pass: &Pass<'_, '_, S>,
    demand: &Demand,
    row: usize,
    all: &[Evictable],
    victims: &mut Vec<usize>,
) -> bool {
    let host = &pass.snapshot.hosts[row];
    victims.clear();
    if !fits_limits(demand, host) {
        return false;
    }
    let mut room = Room { free: host.free, gpus: host.gpus };
    if all.iter().all(|of| of.disrupts.is_empty()) {
        for (at, of) in all.iter().enumerate() {
            if room.fits(demand) {
                break;
            }
            room.without(of);
            victims.push(at);
        }
    } else {
        search_within_limits(&pass.ledger().disruptions, demand, all, room, victims);
        victims.iter().for_each(|&at| room.without(&all[at]));
    }
    if victims.is_empty() || !room.fits(demand) {
        return false;
    }
    for position in (0..victims.len()).rev() {
        let of = &all[victims[position]];
        room.with(of);
        if room.fits(demand) {
            victims.remove(position);
        } else {
            room.without(of);
        }
    }
    true
}

/// Victims within the limits of their jobs that make enough room, and of which the most important matters
/// least; none where there are no such.
fn search_within_limits(
    disruptions: &Disruptions,
    demand: &Demand,
    all: &[Evictable],
    room: Room,
    victims: &mut Vec<usize>,
) {
    let mut left: BTreeMap<JobId, u32> = BTreeMap::new();
    for &(job, _) in all.iter().flat_map(|of| &of.disrupts) {
        left.insert(job, disruptions.left(job).expect("of a job with a limit"));
    }
    let mut search = Search { demand, all, left, tries_left: TRIES_MAX };
    let mut end = 0;
    while let Some(next) = all.get(end) {
        end += all[end..].partition_point(|of| of.importance == next.importance);
        search.all = &all[..end];
        if search.finds(0, room, victims) {
            return;
        }
    }
}

/// A search for victims among the first few of a host.
struct Search<'a> {
    demand: &'a Demand,
    all: &'a [Evictable],
    /// How many more tasks of each job with a limit may leave.
    left: BTreeMap<JobId, u32>,
    tries_left: u32,
}

impl Search<'_> {
    /// Whether some of those from a position on make enough room, beside the victims that there are; they
    /// are added to these.
    fn finds(&mut self, at: usize, mut room: Room, victims: &mut Vec<usize>) -> bool {
        if room.fits(self.demand) {
            return true;
        }
        let mut most = room;
        self.all[at..].iter().filter(|of| self.may_leave(of)).for_each(|of| most.without(of));
        if !most.fits(self.demand) || self.tries_left == 0 {
            return false;
        }
        self.tries_left -= 1;
        let of = &self.all[at];
        if !self.may_leave(of) {
            return self.finds(at + 1, room, victims);
        }
        let stays = room;
        room.without(of);
        victims.push(at);
        self.count(of, |left, count| left - count);
        if self.finds(at + 1, room, victims) {
            return true;
        }
        victims.pop();
        self.count(of, |left, count| left + count);
        // That it stays may help where not all of its job may leave; but not in favour of one that is alike.
        let others = &self.all[at + 1..];
        let Some(unlike) = others.iter().position(|other| !other.is_like(of)) else { return false };
        let of_job = |of: &Evictable, job: JobId| {
            of.disrupts.iter().filter(|(own, _)| *own == job).map(|(_, count)| *count).sum::<u32>()
        };
        let is_contended = of.disrupts.iter().any(|&(job, count)| {
            others.iter().map(|other| of_job(other, job)).sum::<u32>() + count > self.left[&job]
        });
        is_contended && self.finds(at + 1 + unlike, stays, victims)
    }

    fn may_leave(&self, of: &Evictable) -> bool {
        of.disrupts.iter().all(|(job, count)| self.left[job] >= *count)
    }

    fn count(&mut self, of: &Evictable, change: impl Fn(u32, u32) -> u32) {
        for (job, count) in &of.disrupts {
            if let Some(left) = self.left.get_mut(job) {
                *left = change(*left, *count);
            }
        }
    }
}

/// Whether a demand fits on a host once the victims are gone.
pub(crate) fn fits_without(
    snapshot: &Snapshot<'_>,
    demand: &Demand,
    row: usize,
    victims: &[TaskId],
) -> bool {
    let host = &snapshot.hosts[row];
    let mut free = host.free;
    let mut prod_free = host.prod_free;
    let mut gpus = host.gpus;
    for &victim in victims {
        let Some(placed) = snapshot.placed(victim) else { continue };
        let theirs = &placed.demand;
        free.add(theirs.charge);
        if let Some(limit) = theirs.prod_limit {
            prod_free.add(limit);
        }
        gpus.give_back(placed.at().gpu_devices, theirs.gpu);
    }
    let prod_fits = demand.prod_limit.is_none_or(|limit| {
        let short = shortfall(limit, prod_free);
        (short.cpu, short.ram) == (0, 0)
    });
    prod_fits
        && shortfall(demand.charge, free) == Amounts::default()
        && gpus.choose(demand.gpu).is_some()
}
