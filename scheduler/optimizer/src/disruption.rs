//! Limits on disruption: how many more tasks may be evicted or moved.
//!
//! A plan counts as one moment: all of its evictions and moves together stay within a job's
//! [`max_disrupted`](cell::Job::max_disrupted) (Borg §4) and within a Kubernetes cluster's disruption
//! budgets, so that its steps may be carried out at any pace.

use cell::{Cell, JobId};

/// What is left of the limits of a cell.
#[derive(Clone, Debug)]
pub struct Disruptions {
    left: Vec<u64>,
    /// Which limits bind a job.
    of_job: Vec<Vec<usize>>,
}

impl Disruptions {
    /// All limits of a cell, none of them used.
    #[must_use]
    pub fn of(cell: &Cell) -> Self {
        let mut all = Self { left: Vec::new(), of_job: vec![Vec::new(); cell.jobs.len()] };
        for (job, limits) in cell.jobs.iter().zip(&mut all.of_job) {
            if let Some(max) = job.max_disrupted {
                limits.push(all.left.len());
                all.left.push(u64::from(max));
            }
        }
        let Some(objects) = &cell.kube else { return all };
        for budget in &objects.budgets {
            let Some(selector) = budget.selector.as_ref().filter(|s| !s.is_empty()) else {
                continue;
            };
            for (pod, limits) in objects.pods.iter().zip(&mut all.of_job) {
                if pod.namespace == budget.namespace && selector.matches(&pod.labels) {
                    limits.push(all.left.len());
                }
            }
            all.left.push(u64::try_from(budget.allowed).unwrap_or(0));
        }
        all
    }

    /// How many more tasks of a job may be disrupted; [`u64::MAX`]: any number.
    #[must_use]
    pub fn left(&self, job: JobId) -> u64 {
        self.of_job[job.index()].iter().map(|&limit| self.left[limit]).min().unwrap_or(u64::MAX)
    }

    /// Counts one task of a job as disrupted, if it may be.
    #[must_use]
    pub fn take(&mut self, job: JobId) -> bool {
        if self.left(job) == 0 {
            return false;
        }
        self.of_job[job.index()].iter().for_each(|&limit| self.left[limit] -= 1);
        true
    }

    /// Takes one disruption of a job back.
    pub fn give_back(&mut self, job: JobId) {
        self.of_job[job.index()].iter().for_each(|&limit| self.left[limit] += 1);
    }

    /// The limits that bind a job, by number; for rows of a model.
    #[must_use]
    pub fn limits(&self, job: JobId) -> &[usize] {
        &self.of_job[job.index()]
    }

    /// What is left of each limit, by number.
    #[must_use]
    pub fn all_left(&self) -> &[u64] {
        &self.left
    }
}

#[cfg(test)]
mod tests {
    use cell::spec::CellBuilder;

    use super::*;

    #[test]
    fn a_job_is_disrupted_as_often_as_it_allows() {
        let mut builder = CellBuilder::default();
        for (name, max) in [("one", "1"), ("none", "0"), ("any", "null")] {
            let job = format!(
                r#"{{"name": "{name}", "user": "u", "priority": 0, "count": 3,
                    "limit": {{"cpu": 1, "ram": 1}}, "max_disrupted": {max}}}"#
            );
            builder.add_job(&serde_json::from_str(&job).unwrap()).unwrap();
        }
        let mut limits = Disruptions::of(&builder.finish());
        let [one, none, any] = [0, 1, 2].map(JobId::from_index);
        assert!(limits.take(one) && !limits.take(one) && !limits.take(none));
        limits.give_back(one);
        assert!(limits.take(one) && limits.take(any) && limits.take(any));
        assert_eq!((limits.left(any), limits.left(one)), (u64::MAX, 0));
    }
}
