//! What of a machine a task has for itself: ports, a user, CPUs.
//!
//! In: who asks, and what everybody has. Out: what is free, or what is in the way. Ports are looked at on the machine
//! too, as others may listen there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use cell::borglet::{Incarnation, WantedTask};

use crate::folder::Given;

/// All that there is to give, and who has it.
#[derive(Debug)]
pub(crate) struct Giver {
    ports: RangeInclusive<u16>,
    /// `None`: all tasks have the borglet's own user.
    uids: Option<RangeInclusive<u32>>,
    cpus: BTreeSet<u32>,
    /// Where the search for a port begins: one that was given back is not given out at once.
    next_port: u16,
    given: BTreeMap<Incarnation, Given>,
    /// Whether anybody ever had CPUs for themselves: then the others' are fewer, or have to be all again.
    was_divided: bool,
}

impl Giver {
    pub(crate) fn new(
        ports: RangeInclusive<u16>,
        uids: Option<RangeInclusive<u32>>,
        cpus: BTreeSet<u32>,
    ) -> Self {
        let next_port = *ports.start();
        Self { ports, uids, cpus, next_port, given: BTreeMap::new(), was_divided: false }
    }

    /// What a task was given before the borglet was started again.
    pub(crate) fn found(&mut self, incarnation: Incarnation, given: Given) {
        self.was_divided |= given.cpus.is_some();
        self.given.insert(incarnation, given);
    }

    /// Gives a task what it asks for.
    ///
    /// # Errors
    /// What there is none of.
    pub(crate) fn give(
        &mut self,
        task: &WantedTask,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<Given, String> {
        let mut given = Given { ids: self.uid()?, ..Given::default() };
        let container = task.container.as_deref();
        for (name, &port) in container.map(|it| &it.ports).into_iter().flatten() {
            let port = match port {
                0 => self.port(&given, &is_free).ok_or_else(|| {
                    let (from, to) = (self.ports.start(), self.ports.end());
                    format!("there is no free port for {name:?} in {from}-{to}")
                })?,
                port if self.holds_port(port) => {
                    return Err(format!("port {port} ({name}) is another task's on this machine"));
                }
                port if !is_free(port) => {
                    return Err(format!(
                        "port {port} ({name}) is taken by someone else on this machine"
                    ));
                }
                port => port,
            };
            given.ports.insert(name.clone(), port);
        }
        if container.is_some_and(|it| it.own_cpus) {
            given.cpus = Some(self.own_cpus(task)?);
            self.was_divided = true;
        }
        self.given.insert(task.incarnation, given.clone());
        Ok(given)
    }

    /// It needs nothing any more.
    pub(crate) fn take_back(&mut self, incarnation: Incarnation) -> Option<Given> {
        self.given.remove(&incarnation)
    }

    /// CPUs that nobody has for themselves; `None` while nobody ever had any.
    pub(crate) fn shared_cpus(&self) -> Option<BTreeSet<u32>> {
        let own: BTreeSet<u32> = self
            .given
            .values()
            .filter_map(|given| given.cpus.as_ref())
            .flatten()
            .copied()
            .collect();
        self.was_divided.then(|| &self.cpus - &own)
    }

    fn uid(&self) -> Result<Option<(u32, u32)>, String> {
        let Some(uids) = &self.uids else { return Ok(None) };
        let used: BTreeSet<u32> =
            self.given.values().filter_map(|given| given.ids).map(|(uid, _)| uid).collect();
        let free = uids.clone().find(|uid| !used.contains(uid));
        free.map(|uid| Some((uid, uid)))
            .ok_or_else(|| format!("all users of {}-{} have a task", uids.start(), uids.end()))
    }

    fn holds_port(&self, port: u16) -> bool {
        self.given.values().any(|given| given.ports.values().any(|&held| held == port))
    }

    fn port(&mut self, given: &Given, is_free: &impl Fn(u16) -> bool) -> Option<u16> {
        let from = self.next_port;
        let ports = (from..=*self.ports.end()).chain(*self.ports.start()..from);
        for port in ports {
            let is_own = given.ports.values().any(|&own| own == port);
            if !is_own && !self.holds_port(port) && is_free(port) {
                self.next_port =
                    if port == *self.ports.end() { *self.ports.start() } else { port + 1 };
                return Some(port);
            }
        }
        None
    }

    fn own_cpus(&self, task: &WantedTask) -> Result<BTreeSet<u32>, String> {
        let count = task.limit.cpu.0.div_ceil(1000).max(1);
        let free = self.shared_cpus().unwrap_or_else(|| self.cpus.clone());
        // At least one is left for everybody else.
        if (free.len() as u64) <= count {
            return Err(format!(
                "{count} CPUs for the task alone: {} are free, and one has to be left for the others",
                free.len()
            ));
        }
        // From the top: 0 is where the machine does its own work.
        Ok(free.into_iter().rev().take(usize::try_from(count).unwrap_or(usize::MAX)).collect())
    }
}

/// Whether nobody listens there, at any address of the machine.
pub(crate) fn is_port_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cell::borglet::TaskKey;
    use cell::container::ContainerSpec;
    use cell::{MilliCpu, Resources};

    use super::*;

    fn task(incarnation: u64, cpu: u64, container: &str) -> WantedTask {
        let container: ContainerSpec = serde_json::from_str(container).unwrap();
        WantedTask {
            key: TaskKey { job: 1, index: 0 },
            incarnation: Incarnation(incarnation),
            name: "web/0".to_owned(),
            priority: 0,
            limit: Resources { cpu: MilliCpu(cpu), ..Resources::default() },
            gpu_devices: 0,
            user: "ann".to_owned(),
            command: Vec::new(),
            grace_ms: 0,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: Some(Arc::new(container)),
            stop: None,
        }
    }

    fn giver() -> Giver {
        Giver::new(100..=102, Some(7..=9), (0..4).collect())
    }

    #[test]
    fn ports_and_users_are_given_once() {
        let mut giver = giver();
        let first = giver.give(&task(1, 1, r#"{"ports": {"a": 0, "b": 0}}"#), |_| true).unwrap();
        assert_eq!(first.ports.values().copied().collect::<Vec<_>>(), [100, 101]);
        assert_eq!(first.ids, Some((7, 7)));
        let second = giver.give(&task(2, 1, r#"{"ports": {"a": 0}}"#), |_| true).unwrap();
        assert_eq!((second.ports["a"], second.ids), (102, Some((8, 8))));
        let full = giver.give(&task(3, 1, r#"{"ports": {"web": 0}}"#), |_| true).unwrap_err();
        assert!(full.contains("\"web\" in 100-102"), "{full}");
        giver.take_back(Incarnation(1));
        let again = giver.give(&task(4, 1, r#"{"ports": {"a": 0}}"#), |port| port != 100).unwrap();
        assert_eq!((again.ports["a"], again.ids), (101, Some((7, 7))));
    }

    #[test]
    fn a_port_of_someone_else_is_named() {
        let mut giver = giver();
        let taken = giver.give(&task(1, 1, r#"{"ports": {"web": 80}}"#), |_| false).unwrap_err();
        assert!(taken.contains("port 80 (web) is taken by someone else"), "{taken}");
        giver.give(&task(2, 1, r#"{"ports": {"web": 80}}"#), |_| true).unwrap();
        let taken = giver.give(&task(3, 1, r#"{"ports": {"web": 80}}"#), |_| true).unwrap_err();
        assert!(taken.contains("another task's"), "{taken}");
    }

    #[test]
    fn own_cpus_leave_one_to_the_others() {
        let mut giver = giver();
        assert_eq!(giver.shared_cpus(), None);
        let own = giver.give(&task(1, 1500, r#"{"own_cpus": true}"#), |_| true).unwrap();
        assert_eq!(own.cpus, Some([2, 3].into()));
        assert_eq!(giver.shared_cpus(), Some([0, 1].into()));
        assert!(giver.give(&task(2, 1500, r#"{"own_cpus": true}"#), |_| true).is_err());
        giver.give(&task(3, 1000, r#"{"own_cpus": true}"#), |_| true).unwrap();
        assert_eq!(giver.shared_cpus(), Some([0].into()));
        // What was taken from the others is theirs again.
        for incarnation in [1, 3] {
            giver.take_back(Incarnation(incarnation));
        }
        assert_eq!(giver.shared_cpus(), Some((0..4).collect()));
    }
}
