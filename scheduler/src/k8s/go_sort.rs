//! The order in which Go up to 1.18 leaves a slice that is sorted by a comparison that contradicts itself.
//!
//! kube-scheduler v1.20 sorts potential victims by start time, and reads the clock anew for every pod
//! that has none: each of two such pods is "earlier" than the other. What comes of that is decided by the
//! steps of the sort: quicksort around a median of three (of nine above 40 elements) down to 12 elements,
//! there one pass with a gap of 6 and then insertion; heapsort where it recurses too deeply. With a
//! comparison that makes sense the result is a sorted slice.
//!
//! Source: Go 1.15, package `sort`, by its behaviour.

/// Up to so many elements insertion is quicker.
const FEW: usize = 12;
/// The gap of the pass before insertion.
const GAP: usize = 6;
/// Above so many elements the pivot is a median of nine.
const MANY: usize = 40;

/// Sorts as Go would.
pub(super) fn sort<T>(items: &mut [T], less: impl FnMut(&T, &T) -> bool) {
    let bits = usize::BITS - items.len().leading_zeros();
    let end = items.len();
    Sorter { items, less }.quick(0, end, 2 * bits);
}

struct Sorter<'s, T, L> {
    items: &'s mut [T],
    less: L,
}

impl<T, L: FnMut(&T, &T) -> bool> Sorter<'_, T, L> {
    fn less(&mut self, a: usize, b: usize) -> bool {
        (self.less)(&self.items[a], &self.items[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
    }

    fn quick(&mut self, mut start: usize, mut end: usize, mut depth_left: u32) {
        while end - start > FEW {
            if depth_left == 0 {
                return self.heap(start, end);
            }
            depth_left -= 1;
            let (low_end, high_start) = self.partition(start, end);
            // The smaller part by recursion, the larger by going round.
            if low_end - start < end - high_start {
                self.quick(start, low_end, depth_left);
                start = high_start;
            } else {
                self.quick(high_start, end, depth_left);
                end = low_end;
            }
        }
        for index in start + GAP..end {
            if self.less(index, index - GAP) {
                self.swap(index, index - GAP);
            }
        }
        for index in start + 1..end {
            let mut at = index;
            while at > start && self.less(at, at - 1) {
                self.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    /// Puts the median of three elements into the first of the places given.
    fn median(&mut self, into: usize, low: usize, high: usize) {
        if self.less(into, low) {
            self.swap(into, low);
        }
        if self.less(high, into) {
            self.swap(high, into);
            if self.less(into, low) {
                self.swap(into, low);
            }
        }
    }

    /// Splits into what is below the pivot, equal to it, and above; returns where the equal part starts and
    /// ends.
    fn partition(&mut self, start: usize, end: usize) -> (usize, usize) {
        let middle = start.midpoint(end);
        if end - start > MANY {
            let step = (end - start) / 8;
            self.median(start, start + step, start + 2 * step);
            self.median(middle, middle - step, middle + step);
            self.median(end - 1, end - 1 - step, end - 1 - 2 * step);
        }
        self.median(start, middle, end - 1);
        let pivot = start;
        // Below the pivot: up to `a`; not yet known to be equal or below: `a..b`; above: from `c` on.
        let (mut a, mut c) = (start + 1, end - 1);
        while a < c && self.less(a, pivot) {
            a += 1;
        }
        let mut b = a;
        loop {
            while b < c && !self.less(pivot, b) {
                b += 1;
            }
            while b < c && self.less(pivot, c - 1) {
                c -= 1;
            }
            if b >= c {
                break;
            }
            self.swap(b, c - 1);
            b += 1;
            c -= 1;
        }
        // Few above the pivot: there are likely many equal to it, which are kept together.
        let mut has_equals = end - c < 5;
        if !has_equals && end - c < (end - start) / 4 {
            let mut equal_count = 0;
            if !self.less(pivot, end - 1) {
                self.swap(c, end - 1);
                c += 1;
                equal_count += 1;
            }
            if !self.less(b - 1, pivot) {
                b -= 1;
                equal_count += 1;
            }
            if !self.less(middle, pivot) {
                self.swap(middle, b - 1);
                b -= 1;
                equal_count += 1;
            }
            has_equals = equal_count > 1;
        }
        if has_equals {
            loop {
                while a < b && !self.less(b - 1, pivot) {
                    b -= 1;
                }
                while a < b && self.less(a, pivot) {
                    a += 1;
                }
                if a >= b {
                    break;
                }
                self.swap(a, b - 1);
                a += 1;
                b -= 1;
            }
        }
        self.swap(pivot, b - 1);
        (b - 1, c)
    }

    fn heap(&mut self, start: usize, end: usize) {
        let count = end - start;
        for root in (0..=(count - 1) / 2).rev() {
            self.sift(start, root, count);
        }
        for last in (0..count).rev() {
            self.swap(start, start + last);
            self.sift(start, 0, last);
        }
    }

    fn sift(&mut self, start: usize, mut root: usize, count: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= count {
                return;
            }
            if child + 1 < count && self.less(start + child, start + child + 1) {
                child += 1;
            }
            if !self.less(start + root, start + child) {
                return;
            }
            self.swap(start + root, start + child);
            root = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort;
    use proptest::prelude::{prop_assert_eq, proptest};

    #[test]
    fn up_to_six_that_are_each_before_the_other_are_turned_round() {
        let mut items = [1, 2, 3, 4, 5, 6];
        sort(&mut items, |_, _| true);
        assert_eq!(items, [6, 5, 4, 3, 2, 1]);
        // With seven the pass with the gap swaps the first and the last beforehand.
        let mut items = [1, 2, 3, 4, 5, 6, 7];
        sort(&mut items, |_, _| true);
        assert_eq!(items, [1, 6, 5, 4, 3, 2, 7]);
    }

    proptest! {
        #[test]
        fn what_can_be_sorted_is_sorted(items in proptest::collection::vec(0_u8..40, 0..200)) {
            let mut by_go = items.clone();
            sort(&mut by_go, |a, b| a < b);
            let mut sorted = items;
            sorted.sort_unstable();
            prop_assert_eq!(by_go, sorted);
        }

        #[test]
        fn nothing_is_lost_by_a_comparison_that_contradicts_itself(count in 0_usize..120) {
            let mut items: Vec<usize> = (0..count).collect();
            sort(&mut items, |_, _| true);
            items.sort_unstable();
            prop_assert_eq!(items, (0..count).collect::<Vec<_>>());
        }
    }
}
