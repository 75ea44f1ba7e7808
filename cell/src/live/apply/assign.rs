//! Assignments: each is checked against the state as it is by now, and carried out or refused.
//!
//! Source: Borg (EuroSys '15) §3.4: the master accepts and applies what a scheduler asks for unless it is
//! out of date; Omega (EuroSys '13) §3.4.

use super::{Context, Tally};
use crate::borglet::{Incarnation, TaskKey};
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, Job, JobKind};
use crate::live::State;
use crate::live::account::Account;
use crate::live::op::{Assignment, EvictCause, Target};
use crate::live::outcome::{Outcome, Refusal};
use crate::live::record::{AfterStop, Phase};
use crate::machine::DomainKind;

impl State {
    pub(super) fn assign(&mut self, context: &mut Context, assignments: &[Assignment]) -> Outcome {
        let mut tally = Tally::default();
        for assignment in assignments {
            match self.check_assignment(assignment) {
                Ok((id, on, victims)) => {
                    for victim in victims {
                        let then = AfterStop::Requeue(EvictCause::Preempted);
                        self.stop(context, victim, then);
                    }
                    self.place(context, id, on, assignment.gpu_devices);
                    tally.count(true);
                }
                Err(refusal) => {
                    context.applied.refused.push((assignment.task, refusal));
                    tally.count(false);
                }
            }
        }
        tally.outcome()
    }

    /// Whether an assignment could be carried out now; the task, the host and the victims.
    fn check_assignment(
        &self,
        assignment: &Assignment,
    ) -> Result<(TaskId, Host, Vec<TaskId>), Refusal> {
        let Assignment { task: key, on, gpu_devices, victims } = assignment;
        let id = self.task_id(*key).ok_or(Refusal::NotPending)?;
        if !matches!(self.record(id).phase, Phase::Waiting { .. }) {
            return Err(Refusal::NotPending);
        }
        if !self.is_eligible(*key, self.now) {
            return Err(Refusal::NotYet);
        }
        let job = self.cell.job(id.job);
        let (host, machine) = self.host(job, *on)?;
        if !self.machines[machine.index()].is_open() {
            return Err(Refusal::HostClosed);
        }
        if self.record(id).avoid.contains(&machine) {
            return Err(Refusal::Avoided);
        }
        let attributes = &self.cell.machine(machine).attributes;
        let breaks = |constraint: &&crate::constraint::Constraint| {
            constraint.is_hard() && !constraint.holds(attributes)
        };
        if job.constraints.iter().any(|constraint| breaks(&constraint)) {
            return Err(Refusal::Constraint);
        }
        let victims = self.check_victims(id, machine, victims)?;
        if let Host::Alloc(alloc) = host
            && victims.contains(&alloc)
        {
            return Err(Refusal::Victim);
        }
        self.check_own_rules(id.job, machine)?;
        self.check_room(id, host, *gpu_devices, &victims)?;
        Ok((id, host, victims))
    }

    fn host(&self, job: &Job, on: Target) -> Result<(Host, MachineId), Refusal> {
        match (on, job.alloc_set) {
            (Target::Machine(machine), None) => {
                let is_known = machine.index() < self.machines.len();
                is_known.then_some((Host::Machine(machine), machine)).ok_or(Refusal::HostClosed)
            }
            (Target::Alloc(key), Some(set)) => {
                let alloc = self.task_id(key).filter(|alloc| alloc.job == set);
                let alloc = alloc.ok_or(Refusal::HostClosed)?;
                match self.record(alloc).phase {
                    Phase::Assigned(place) | Phase::Running { place, .. } => {
                        Ok((Host::Alloc(alloc), place.machine))
                    }
                    Phase::Waiting { .. } | Phase::Stopping { .. } | Phase::Dead { .. } => {
                        Err(Refusal::HostClosed)
                    }
                }
            }
            _ => Err(Refusal::HostClosed),
        }
    }

    /// Victims run (or are to run) on the machine, are of lower priority, and below production, and so is what
    /// is in those that are allocs; and their jobs can bear it.
    fn check_victims(
        &self,
        id: TaskId,
        machine: MachineId,
        victims: &[(TaskKey, Incarnation)],
    ) -> Result<Vec<TaskId>, Refusal> {
        let priority = self.cell.job(id.job).priority;
        let mut ids = Vec::with_capacity(victims.len());
        for &(key, incarnation) in victims {
            let victim = self.task_id(key).ok_or(Refusal::Victim)?;
            let (Phase::Running { place, .. } | Phase::Assigned(place)) = self.record(victim).phase
            else {
                return Err(Refusal::Victim);
            };
            // With an alloc goes what is in it.
            let inside = self.envelopes.get(&victim).into_iter().flat_map(|it| &it.tasks);
            let is_fair = std::iter::once(&victim).chain(inside).all(|id| {
                let victims_priority = self.cell.job(id.job).priority;
                victims_priority < priority && !victims_priority.band().is_prod()
            });
            if place.incarnation != incarnation || place.machine != machine || !is_fair {
                return Err(Refusal::Victim);
            }
            if ids.contains(&victim) {
                return Err(Refusal::Victim);
            }
            ids.push(victim);
        }
        if !self.can_disrupt(&ids) {
            return Err(Refusal::DisruptionBudget);
        }
        Ok(ids)
    }

    /// Whether these tasks may all be disrupted, and what is in those that are allocs.
    pub(super) fn can_disrupt(&self, tasks: &[TaskId]) -> bool {
        #[cfg(debug_assertions)]
        if self.is_mutated(crate::live::Mutation::ForgetDisruption) {
            return true;
        }
        let mut left = crate::live::DisruptionsLeft::new(self);
        tasks.iter().all(|&task| left.take(task))
    }

    fn check_own_rules(&self, slot: JobId, machine: MachineId) -> Result<(), Refusal> {
        let job = self.cell.job(slot);
        // Victims do not count: they are of lower priority, and so of other jobs.
        let on_machine = &self.job_at(slot).on_machine;
        if job.different_machines && on_machine.contains_key(&machine) {
            return Err(Refusal::Spread);
        }
        for spread in &job.spread {
            let Some(max) = spread.max_per_domain else { continue };
            let of = |machine: MachineId, kind: DomainKind| self.cell.machine(machine).domain(kind);
            let Some(domain) = of(machine, spread.domain) else { continue };
            let there =
                on_machine.iter().filter(|&(&other, _)| of(other, spread.domain) == Some(domain));
            if there.map(|(_, count)| count).sum::<u32>() >= max {
                return Err(Refusal::Spread);
            }
        }
        Ok(())
    }

    fn check_room(
        &self,
        id: TaskId,
        host: Host,
        gpu_devices: u16,
        victims: &[TaskId],
    ) -> Result<(), Refusal> {
        #[cfg(debug_assertions)]
        if self.is_mutated(crate::live::Mutation::SkipRoomCheck) {
            return Ok(());
        }
        let (_, future) = self.accounts(host).ok_or(Refusal::HostClosed)?;
        let need = self.need(id, gpu_devices);
        let lacks = if victims.is_empty() {
            future.lacks(&need, &self.size(host))
        } else {
            let mut without: Account = future.clone();
            for &victim in victims {
                let place = self.record(victim).phase.place().expect("checked");
                if place.on == host {
                    without.remove(&self.need(victim, place.gpu_devices));
                }
            }
            without.lacks(&need, &self.size(host))
        };
        match lacks {
            None => Ok(()),
            Some(_) => Err(Refusal::NoRoom),
        }
    }

    /// Whether a task is of a job, and no alloc.
    pub(super) fn is_task(&self, id: TaskId) -> bool {
        self.job_at(id.job).kind == JobKind::Job
    }
}
