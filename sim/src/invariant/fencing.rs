//! A stale leader changes nothing on a borglet: what a borglet accepts never goes back, no placement is
//! started twice, and no two placements of a task run on one machine.

use std::collections::{BTreeMap, BTreeSet};

use borglet_agent::Action;
use borglet_agent::fake::FakeBorglet;
use cell::borglet::{Fence, Incarnation, TaskKey};

/// What was seen of borglets.
#[derive(Debug, Default)]
pub struct Fencing {
    highest: BTreeMap<u32, Fence>,
    started: BTreeSet<Incarnation>,
    /// The term of the leader that each term's first message came from: its replica.
    leader_of: BTreeMap<u64, u64>,
}

impl Fencing {
    /// A replica speaks as the leader of a term.
    ///
    /// # Errors
    /// If another one did.
    pub fn speaks(&mut self, replica: u64, term: u64) -> Result<(), String> {
        match *self.leader_of.entry(term).or_insert(replica) {
            other if other != replica => {
                Err(format!("replicas {other} and {replica} both lead in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// What a borglet has accepted by now.
    ///
    /// # Errors
    /// If that is older than what it had accepted before.
    pub fn accepts(&mut self, machine: u32, fence: Fence) -> Result<(), String> {
        let highest = self.highest.entry(machine).or_default();
        if fence < *highest {
            return Err(format!("machine {machine} accepts {fence:?} after {highest:?}"));
        }
        *highest = fence;
        Ok(())
    }

    /// What a borglet did about a message that is older than what it had accepted.
    ///
    /// # Errors
    /// If that was anything but to refuse it.
    pub fn refuses(
        machine: u32,
        said: Fence,
        highest: Fence,
        actions: &[Action],
    ) -> Result<(), String> {
        match actions.iter().find(|action| !matches!(action, Action::Refuse(_))) {
            None => Ok(()),
            Some(action) => Err(format!(
                "a stale leader changes something: machine {machine} had accepted {highest:?}, was told \
                 {said:?}, and did {action:?}"
            )),
        }
    }

    /// A borglet did something.
    ///
    /// # Errors
    /// If it must not have.
    pub fn acted(&mut self, machine: u32, action: &Action) -> Result<(), String> {
        match action {
            Action::Start(task) if !self.started.insert(task.incarnation) => Err(format!(
                "placement {:?} is started a second time, on machine {machine}",
                task.incarnation
            )),
            Action::Persist(_)
            | Action::Start(_)
            | Action::Adjust(_)
            | Action::Terminate(_)
            | Action::Kill(_)
            | Action::Forget(_)
            | Action::Reply(_)
            | Action::Refuse(_) => Ok(()),
        }
    }

    /// What runs on a machine.
    ///
    /// # Errors
    /// If two placements of one task do.
    pub fn runs(&self, machine: u32, borglet: &FakeBorglet) -> Result<(), String> {
        let mut tasks: BTreeSet<TaskKey> = BTreeSet::new();
        for task in borglet.machine().alive() {
            if !tasks.insert(task.key) {
                return Err(format!("two placements of {} run on machine {machine}", task.name));
            }
        }
        Ok(())
    }
}
