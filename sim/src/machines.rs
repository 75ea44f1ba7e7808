//! The machines, each with its borglet.

use borglet_agent::fake::FakeBorglet;
use borglet_agent::{Action, Config, Input};
use cell::borglet::MachineCapacity;
use cell::live::Op;
use cell::spec::MachineSpec;
use cell::{Bytes, MilliCpu};

use crate::behaviour;
use crate::invariant::fencing::Fencing;

#[derive(Debug)]
pub(crate) struct Machines {
    seed: u64,
    pub borglets: Vec<FakeBorglet>,
    pub fencing: Fencing,
}

impl Machines {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        let borglet = |i| {
            let capacity =
                MachineCapacity { cpu_milli: 4_000, ram_bytes: 4_096, disk_bytes: 0, gpu_count: 0 };
            FakeBorglet::new(Config { machine: name(i), capacity }, 0)
        };
        Self { seed, borglets: (0..count).map(borglet).collect(), fencing: Fencing::default() }
    }

    /// The operation that adds them to the cell.
    pub(crate) fn addition(&self) -> Op {
        let count = u32::try_from(self.borglets.len()).expect("few");
        let machine = |i: u32| {
            let spec = MachineSpec {
                name: name(i),
                count: None,
                cpu: MilliCpu(4_000),
                ram: Bytes(4_096),
                disk: None,
                gpus: 0,
                attributes: std::collections::BTreeMap::new(),
                rack: Some(format!("rack-{}", i % 3)),
                power: None,
                packages: std::collections::BTreeSet::new(),
            };
            (spec, format!("{}:1", name(i)))
        };
        Op::AddMachines { machines: (0..count).map(machine).collect() }
    }

    /// A message came to a machine; what its borglet answers.
    pub(crate) fn input(
        &mut self,
        now: u64,
        machine: u32,
        input: Input,
    ) -> Result<Vec<Action>, String> {
        let seed = self.seed;
        let borglet = &mut self.borglets[machine as usize];
        let highest = borglet.agent().fence();
        let said = match &input {
            Input::Wanted(wanted) => Some(wanted.fence),
            Input::Poll(_)
            | Input::Persisted(_)
            | Input::PersistFailed(_)
            | Input::Task(..)
            | Input::Tick => None,
        };
        let actions = borglet.input(now, input, &|task| behaviour::of(seed, task));
        if let Some(said) = said.filter(|said| *said < highest) {
            Fencing::refuses(machine, said, highest, &actions)?;
        }
        self.check(machine, &actions)?;
        Ok(actions)
    }

    /// What was due on a machine by now happens.
    pub(crate) fn advance(&mut self, now: u64, machine: u32) -> Result<usize, String> {
        let seed = self.seed;
        let borglet = &mut self.borglets[machine as usize];
        let actions = borglet.advance(now, &|task| behaviour::of(seed, task));
        self.check(machine, &actions)?;
        Ok(actions.len())
    }

    fn check(&mut self, machine: u32, actions: &[Action]) -> Result<(), String> {
        let fence = self.borglets[machine as usize].agent().fence();
        self.fencing.accepts(machine, fence)?;
        for action in actions {
            self.fencing.acted(machine, action)?;
        }
        if actions.iter().any(|action| matches!(action, Action::Start(_))) {
            self.fencing.runs(machine, &self.borglets[machine as usize])?;
        }
        Ok(())
    }
}

pub(crate) fn name(machine: u32) -> String {
    format!("m{machine}")
}
