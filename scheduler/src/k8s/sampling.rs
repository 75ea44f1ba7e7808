//! How many nodes one scheduling attempt examines, and with which it starts.
//!
//! With `n` nodes and the setting `percentageOfNodesToScore` `p` (0: adaptive), and `div` the integer
//! division:
//!
//! ```text
//! limit = n                                 if n < 100
//!       = max(100, (n · q) div 100)         otherwise, with q = p, or max(5, 50 - n div 125) if p = 0
//! ```
//!
//! Nodes are visited from a rotating start; the visit that finds feasible node number `limit + 1` ends
//! the search, and that node is dropped. The next attempt starts behind the last node that counted.

/// How many feasible nodes an attempt on `node_count` nodes looks for.
#[must_use]
pub fn feasible_limit(node_count: usize, percentage: usize) -> usize {
    if node_count < 100 {
        return node_count;
    }
    let share = if percentage > 0 {
        percentage.min(100)
    } else {
        50_usize.saturating_sub(node_count / 125).max(5)
    };
    (node_count * share / 100).max(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_cells_are_sampled() {
        let check = |nodes, percentage, expected| {
            assert_eq!(feasible_limit(nodes, percentage), expected, "{nodes} at {percentage} %");
        };
        check(99, 0, 99);
        check(99, 10, 99);
        check(100, 0, 100); // 50 % would be 50: at least 100
        check(1000, 0, 420); // 50 - 8 = 42 %
        check(5000, 0, 500); // 50 - 40 = 10 %
        check(12_477, 0, 623); // 5 % at least: 62385 div 100
        check(12_477, 100, 12_477);
        check(200, 30, 100);
    }
}
