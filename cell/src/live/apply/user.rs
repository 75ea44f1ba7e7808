//! Quota.

use std::collections::BTreeMap;

use crate::band::Band;
use crate::live::outcome::{Done, Outcome, Rejected};
use crate::live::quota::{Amounts, Quota};
use crate::live::{JobRecord, State};
use crate::spec::{JobSpec, SpecError, task_limit};

impl State {
    pub(super) fn set_quota(&mut self, quota: &Quota) -> Outcome {
        self.check_quota(quota)?;
        self.put_quota(quota.clone());
        Ok(Done::Done)
    }

    pub(super) fn check_quota(&self, quota: &Quota) -> Result<(), Rejected> {
        crate::spec::check_name("user", &quota.user)?;
        if quota.band == Band::Free {
            return Err(
                SpecError::new("band", "every user has infinite quota in the free band").into()
            );
        }
        if quota.band.is_prod() {
            self.is_within_the_cell(quota)?;
        }
        Ok(())
    }

    /// Production quota, of all users together, is bounded by what the cell has (Borg §2.5).
    fn is_within_the_cell(&self, quota: &Quota) -> Result<(), Rejected> {
        let others = self.quotas.iter().filter(|((user, band), other)| {
            let is_same = *user == quota.user && *band == quota.band;
            let is_over = other.until.is_some_and(|until| until <= self.now);
            band.is_prod() && !is_same && !is_over
        });
        let asked = others.fold(quota.amounts, |sum, (_, other)| sum.plus(other.amounts));
        let machines = self.machines.iter().zip(&self.cell.machines);
        let capacity = machines
            .filter(|(record, _)| !record.is_removed)
            .fold(Amounts::default(), |sum, (_, machine)| {
                sum.plus(Amounts::of_capacity(&machine.capacity))
            });
        // A cell that does not state its disks does not limit disk.
        let states_disk = self.cell.machines.iter().any(|machine| machine.capacity.disk.is_some());
        let checked = if states_disk { asked } else { Amounts { disk_bytes: 0, ..asked } };
        match checked.exceeds(&capacity) {
            None => Ok(()),
            Some(resource) => Err(Rejected::MoreThanTheCell {
                resource: resource.to_owned(),
                asked: amount(&checked, resource),
                capacity: amount(&capacity, resource),
            }),
        }
    }

    /// Whether a user's jobs in a band may ask for so much more.
    pub(super) fn is_within_quota(
        &self,
        user: &str,
        band: Band,
        more: Amounts,
    ) -> Result<(), Rejected> {
        if band == Band::Free || !self.settings.needs_quota || more == Amounts::default() {
            return Ok(());
        }
        let used = self.quota_used(user, band);
        let quota = self.quotas.get(&(user.to_owned(), band));
        let granted = quota
            .filter(|quota| quota.until.is_none_or(|until| self.now < until))
            .map_or(Amounts::default(), |quota| quota.amounts);
        // Only of what more is asked for there has to be enough: a grant may have shrunk meanwhile.
        let checked = Amounts {
            cpu_milli: if more.cpu_milli > 0 { used.cpu_milli + more.cpu_milli } else { 0 },
            ram_bytes: if more.ram_bytes > 0 { used.ram_bytes + more.ram_bytes } else { 0 },
            disk_bytes: if more.disk_bytes > 0 { used.disk_bytes + more.disk_bytes } else { 0 },
            gpu_milli: if more.gpu_milli > 0 { used.gpu_milli + more.gpu_milli } else { 0 },
        };
        match checked.exceeds(&granted) {
            None => Ok(()),
            Some(resource) => Err(Rejected::Quota {
                user: user.to_owned(),
                band: band.name().to_owned(),
                resource: resource.to_owned(),
                asked: amount(&more, resource),
                granted: amount(&granted, resource),
                used: amount(&used, resource),
            }),
        }
    }

    pub(super) fn use_quota(&mut self, user: &str, band: Band, more: Amounts) {
        if more == Amounts::default() {
            return; // Uses of nothing are not listed.
        }
        let used = self.quota_used.entry((user.to_owned(), band)).or_default();
        *used = used.plus(more);
    }

    pub(super) fn free_quota(&mut self, user: &str, band: Band, less: Amounts) {
        let key = (user.to_owned(), band);
        let used = self.quota_used.entry(key.clone()).or_default();
        *used = used.minus(less);
        if *used == Amounts::default() {
            self.quota_used.remove(&key);
        }
    }

    /// What all uses of quota are by the jobs there are.
    pub(in crate::live) fn quota_used_afresh(&self) -> BTreeMap<(String, Band), Amounts> {
        let mut used: BTreeMap<(String, Band), Amounts> = BTreeMap::new();
        for (_, job) in self.jobs() {
            if job.ended.is_some() {
                continue;
            }
            let sum = charge_of_living(job);
            if sum != Amounts::default() {
                let entry = used.entry((job.spec.user.clone(), band_of(&job.spec))).or_default();
                *entry = entry.plus(sum);
            }
        }
        used
    }
}

/// The band of a spec that was admitted.
pub(super) fn band_of(spec: &JobSpec) -> Band {
    crate::band::Priority::new(spec.priority).map_or(Band::Monitoring, crate::band::Priority::band)
}

/// What the tasks of a job that have not ended are charged: their limits by the newest spec.
pub(super) fn charge_of_living(job: &JobRecord) -> Amounts {
    let tasks = job.tasks.iter().zip(0..);
    tasks
        .filter(|(task, _)| !matches!(task.phase, crate::live::Phase::Dead { .. }))
        .fold(Amounts::default(), |sum, (_, index)| sum.plus(charge_of(&job.spec, index)))
}

/// What one task is charged; nothing where the spec has no such task any more.
pub(super) fn charge_of(spec: &JobSpec, index: u32) -> Amounts {
    if index >= spec.count {
        return Amounts::default();
    }
    task_limit(spec, index).map_or(Amounts::default(), |limit| Amounts::of(&limit))
}

fn amount(amounts: &Amounts, resource: &str) -> u64 {
    match resource {
        "cpu" => amounts.cpu_milli,
        "ram" => amounts.ram_bytes,
        "disk" => amounts.disk_bytes,
        _ => amounts.gpu_milli,
    }
}
