//! Default requests: what Kubernetes' scores assume for a container that states no CPU or no RAM.
//!
//! 100 m and 200 MiB; a stated zero stays zero. They count in the scores of `NodeResourcesFit` alone,
//! never in its filter nor in `NodeResourcesBalancedAllocation`. A task is one container here.

use cell::Resources;

use crate::snapshot::Amounts;

/// CPU assumed where none is stated, in milli-cores.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// RAM assumed where none is stated, in bytes.
pub const DEFAULT_RAM_BYTES: i64 = 200 * 1024 * 1024;

/// What the scores add to a task's plain request.
pub(crate) fn defaults(limit: Resources) -> Amounts {
    Amounts {
        cpu: if limit.unstated.cpu { DEFAULT_MILLI_CPU } else { 0 },
        ram: if limit.unstated.ram { DEFAULT_RAM_BYTES } else { 0 },
        disk: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::{Bytes, MilliCpu, Unstated};

    #[test]
    fn only_what_is_not_stated_gets_a_default() {
        let stated = Resources { cpu: MilliCpu(0), ram: Bytes(0), ..Resources::default() };
        assert_eq!(defaults(stated), Amounts::default());
        let unstated = Resources { unstated: Unstated { cpu: true, ram: false }, ..stated };
        assert_eq!(defaults(unstated), Amounts { cpu: 100, ram: 0, disk: 0 });
        let unstated = Resources { unstated: Unstated { cpu: true, ram: true }, ..stated };
        assert_eq!(defaults(unstated).ram, 209_715_200);
    }
}
