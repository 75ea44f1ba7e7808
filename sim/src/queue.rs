//! What is to happen, in the order of its time; what is due at the same time, in the order in which it was
//! planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The order is kept apart from the events, which are large and stay where they are.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// When, as which, and where in `events`.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<T>>,
    free: Vec<usize>,
    pushed: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        let order = BinaryHeap::new();
        Self { order, events: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: u64, event: T) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.pushed += 1;
        self.order.push(Reverse((at, self.pushed, place)));
    }

    /// What is due next, and when.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }

    /// All that is to happen, in no certain order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.events.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_equals_in_the_order_in_which_they_were_planned() {
        let mut queue = Queue::new();
        for (at, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (1, 'd')] {
            queue.push(at, name);
        }
        assert_eq!(queue.pop(), Some((1, 'd')));
        queue.push(3, 'e');
        let mut left: Vec<char> = queue.iter().copied().collect();
        left.sort_unstable();
        assert_eq!(left, ['a', 'b', 'c', 'e']);
        let rest: Vec<(u64, char)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, 'b'), (3, 'e'), (5, 'a'), (5, 'c')]);
        assert_eq!(queue.iter().count(), 0);
    }
}
