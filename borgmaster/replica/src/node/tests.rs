//! Replicas that catch up by a snapshot, while leaders change and checkpoints are finished in between.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// So many rounds of ticks are enough for an election and a transfer, and too few for one that is given up.
const ROUND_COUNT: u32 = 200;

/// Three replicas, whose disks write at once.
struct Net {
    nodes: BTreeMap<u64, Node>,
    /// The state of each: the last index that is in it.
    states: BTreeMap<u64, u64>,
    /// The log's last index that a snapshot brought to each.
    restored: BTreeMap<u64, u64>,
    on_the_way: VecDeque<(u64, u64, Vec<u8>)>,
}

/// Whether a message gets through: from, to, what.
type Passes<'a> = &'a mut dyn FnMut(u64, u64, &Envelope) -> bool;

/// What a checkpoint at an index holds: several parts, and the index in each.
fn state_at(index: u64) -> Vec<u8> {
    index.to_le_bytes().repeat(100)
}

fn chunk_of(envelope: &Envelope) -> Option<&crate::wire::Chunk> {
    if let Envelope::Chunk(chunk) = envelope { Some(chunk) } else { None }
}

impl Net {
    fn new() -> Self {
        let write = Node::first(&[1, 2, 3], state_at(1));
        let node = |id| {
            let config = Config { kept_entry_count: 1, part_byte_count: 64, ..Config::new(id, id) };
            let loaded = Loaded {
                hard_state: write.hard_state.unwrap(),
                snapshot: write.snapshot.clone().unwrap(),
                entries: Vec::new(),
            };
            (id, Node::new(config, loaded).unwrap())
        };
        Self {
            nodes: (1..=3).map(node).collect(),
            states: (1..=3).map(|id| (id, 1)).collect(),
            restored: BTreeMap::new(),
            on_the_way: VecDeque::new(),
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// Carries out what a replica wants done.
    fn drain(&mut self, id: u64) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let outputs = node.drain();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Persist(write) => node.persisted(write.number),
                    Output::Send { to, bytes } => self.on_the_way.push_back((id, to, bytes)),
                    Output::Commit(entry) => {
                        let before = self.states.insert(id, entry.index);
                        assert_eq!(before, Some(entry.index - 1), "entries are given out in order");
                    }
                    Output::Restore(snapshot) => {
                        assert!(snapshot.data == state_at(snapshot.index), "it is of its index");
                        self.states.insert(id, snapshot.index);
                        self.restored.insert(id, snapshot.index);
                    }
                    Output::ReadReady { .. }
                    | Output::Leads { .. }
                    | Output::Follows { .. }
                    | Output::Owner { .. } => {}
                    Output::Lost { .. } => panic!("nothing was lost"),
                }
            }
        }
    }

    fn deliver(&mut self, passes: Passes<'_>) {
        while let Some((from, to, bytes)) = self.on_the_way.pop_front() {
            let envelope = Envelope::from_bytes(&bytes).unwrap();
            if self.nodes.contains_key(&to) && passes(from, to, &envelope) {
                self.receive(from, to, &bytes);
                self.drain(to);
            }
        }
    }

    fn receive(&mut self, from: u64, to: u64, bytes: &[u8]) {
        if let Some(arrived) = self.node(to).receive(from, bytes).unwrap() {
            self.node(to).restore(arrived);
        }
    }

    fn tick(&mut self, passes: Passes<'_>) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.node(id).tick();
            self.drain(id);
        }
        self.deliver(passes);
    }

    /// Lets time pass until something is so; whether it came to be.
    fn run(&mut self, passes: Passes<'_>, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..ROUND_COUNT {
            if is_so(self) {
                return true;
            }
            self.tick(passes);
        }
        is_so(self)
    }

    /// Has one lead, and entries committed that the third does not have.
    fn leave_the_third_behind(&mut self, entry_count: u64) {
        self.node(1).raw.campaign().unwrap();
        self.drain(1);
        assert!(self.run(&mut |_, _, _| true, |net| net.nodes[&1].leads().is_some()));
        self.node(1).raw.ping();
        assert!(self.run(&mut |_, _, _| true, |net| net.states.values().all(|&at| at == 2)));
        self.propose(entry_count);
    }

    /// Has one commit entries with the second alone.
    fn propose(&mut self, entry_count: u64) {
        for _ in 0..entry_count {
            self.node(1).propose(vec![7]).unwrap();
        }
        let last = self.nodes[&1].last_index();
        self.drain(1);
        let are_there = |net: &Self| net.states[&1] == last && net.states[&2] == last;
        assert!(self.run(&mut |from, to, _| from != 3 && to != 3, are_there));
    }

    fn checkpoint(&mut self, id: u64) -> u64 {
        let index = self.states[&id];
        self.node(id).checkpoint(index, state_at(index));
        self.drain(id);
        index
    }

    /// Whether the third has all that a leader has.
    fn has_caught_up(&self, leader: u64) -> bool {
        self.nodes[&leader].leads().is_some() && self.states[&3] == self.nodes[&leader].last_index()
    }
}

#[test]
fn an_older_checkpoint_of_a_new_leader_takes_the_place_of_a_newer_one_that_broke_off() {
    let mut net = Net::new();
    net.leave_the_third_behind(20);
    let older = net.checkpoint(2);
    net.propose(20);
    let newer = net.checkpoint(1);
    assert!(newer > older);

    // Of the newer one all but one part come through, then its sender is gone.
    let mut part_count = 0;
    let mut passes = |_: u64, _: u64, envelope: &Envelope| {
        let Some(chunk) = chunk_of(envelope) else { return true };
        part_count += u32::from(chunk.number > 0);
        chunk.number > 0
    };
    for _ in 0..20 {
        net.tick(&mut passes);
    }
    assert!(part_count > 3);
    let late = net.nodes[&1].outgoing[&3].all();
    net.nodes.remove(&1);

    // What is left of it on the way comes late, and time and again.
    let mut late = late.into_iter().skip(1).cycle();
    let is_there = (0..ROUND_COUNT).any(|_| {
        let chunk = late.next().unwrap();
        net.receive(1, 3, &Envelope::Chunk(chunk).to_bytes());
        net.drain(3);
        net.tick(&mut |_, _, _| true);
        net.has_caught_up(2)
    });
    assert!(is_there, "the third never caught up");
    assert_eq!(net.restored[&3], older);
}

#[test]
fn a_snapshot_that_raft_did_not_take_is_collected_again() {
    let mut net = Net::new();
    net.leave_the_third_behind(20);
    let index = net.checkpoint(1);

    // All but the last part of it come through.
    let mut held = None;
    let mut passes = |from: u64, _: u64, envelope: &Envelope| {
        let Some(chunk) = chunk_of(envelope).filter(|chunk| chunk.number + 1 == chunk.count) else {
            return true;
        };
        held = Some((from, chunk.clone()));
        false
    };
    for _ in 0..20 {
        net.tick(&mut passes);
    }
    let (from, last) = held.unwrap();
    net.nodes.remove(&2);

    // Before the last one comes the third hears of a later term: raft does not take it.
    let term = net.nodes[&3].term() + 1;
    net.node(3).raw.raft.become_follower(term, raft::INVALID_ID);
    net.receive(from, 3, &Envelope::Chunk(last).to_bytes());
    net.drain(3);
    assert_eq!(net.restored.get(&3), None);

    // The same one leads again, with the same checkpoint.
    assert!(net.run(&mut |_, _, _| true, |net| net.has_caught_up(1)), "the third never caught up");
    assert!(net.nodes[&1].term() > term);
    assert_eq!(net.restored[&3], index);
}

#[test]
fn a_checkpoint_that_is_finished_in_between_is_not_sent_as_an_earlier_one() {
    let mut net = Net::new();
    net.leave_the_third_behind(20);
    let earlier = net.checkpoint(1);
    net.propose(20);

    // The third's answer has come, and raft has made up its message; it is not on its way yet.
    let is_made_up = |node: &Node| {
        let messages = &node.raw.raft.msgs;
        messages.iter().any(|message| message.get_msg_type() == MessageType::MsgSnapshot)
    };
    'outer: for _ in 0..ROUND_COUNT {
        net.node(1).tick();
        net.drain(1);
        while let Some((from, to, bytes)) = net.on_the_way.pop_front() {
            net.receive(from, to, &bytes);
            if is_made_up(&net.nodes[&1]) {
                break 'outer;
            }
            net.drain(to);
        }
    }
    assert!(is_made_up(&net.nodes[&1]));
    let later = net.checkpoint(1);
    assert!(later > earlier);
    assert_eq!(net.nodes[&1].newest_checkpoint().0, later);

    assert!(net.run(&mut |_, _, _| true, |net| net.has_caught_up(1)), "the third never caught up");
    assert_eq!(net.restored[&3], later);
}
