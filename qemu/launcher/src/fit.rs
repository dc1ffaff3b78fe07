//! Does the experiment fit the machine? Refusing before the boot gives a better line than running out of memory.
//!
//! These are *necessary* conditions only: what cannot work is refused here, and what merely goes wrong (one node takes
//! more than its part of the shared pages) ends as `out-of-memory` in the guest.

use crate::app::ArrayWalk;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::size::MIB;
use crate::system::{Kernel, Placement, System};

/// Memory of a kernel instance that does not depend on the machine: image, stacks, tables, rings, first heap.
const KERNEL_FIXED: u64 = 6 * MIB;
/// Rings and tables for one more cluster, in every kernel.
const KERNEL_PER_CLUSTER: u64 = 28 << 10;
/// Boot loader, in the memory of the first node that has any; and the archive, if that is there, too.
const BOOT_FIXED: u64 = 4 * MIB;
/// Archive and device tree, on the node where the emulator puts them: at half of the memory, or 128 MiB behind its beginning. Each
/// begins at a multiple of 2 MiB.
const ARCHIVE: u64 = 6 * MIB;
const ARCHIVE_AT: u64 = 128 * MIB;
/// What the servers of a pool need for themselves.
const PAGER_FIXED: u64 = 3 * MIB;

/// What is left of each node's memory for applications.
///
/// # Errors
/// [`Error::Usage`] if a kernel or a pager does not even fit.
pub fn pools(machine: &Machine, system: System) -> Result<Vec<u64>> {
    let mut needed = vec![0; machine.nodes.len()];
    if let Some(first) = machine.nodes.iter().position(|node| node.mem > 0) {
        needed[first] += BOOT_FIXED;
    }
    let (mut end, at) = (0, (machine.mem() / 2).min(ARCHIVE_AT));
    let holds = |node: &crate::machine::Node| {
        end += node.mem;
        at < end
    };
    if let Some(archive) = machine.nodes.iter().position(holds)
        && needed[archive] == 0
    {
        needed[archive] += ARCHIVE;
    }
    let homes: Vec<usize> = match system.kernel {
        Kernel::PerNode => machine.nodes_with_cpus().collect(),
        Kernel::One => machine.nodes_with_cpus().take(1).collect(),
    };
    let kernels = homes.len() as u64;
    // The kernel's bookkeeping is a share of the machine's RAM, as in `skerry_topology::kernel_memory`.
    let share = (4 * kernels).clamp(64, 256);
    let per_kernel = KERNEL_FIXED + kernels * KERNEL_PER_CLUSTER + machine.mem() / share;
    for home in homes {
        if let Some(memory) = machine.nearest(home, |node| node.mem > 0) {
            needed[memory] += per_kernel + PAGER_FIXED;
        }
    }
    let pool = |(node, needed): (usize, u64)| match machine.nodes[node].mem.checked_sub(needed) {
        Some(pool) => Ok(pool),
        None => Err(Error::Usage(format!(
            "memory too small: node {node} has {} MiB, its kernel and pager need {} MiB",
            machine.nodes[node].mem / MIB,
            needed.div_ceil(MIB)
        ))),
    };
    needed.into_iter().enumerate().map(pool).collect()
}

/// Refuses an array-walk whose arrays cannot be placed.
///
/// # Errors
/// [`Error::Usage`].
pub fn array_walk(machine: &Machine, system: System, walk: &ArrayWalk) -> Result<()> {
    let pools = pools(machine, system)?;
    let per_node = if walk.per_cpu { machine.cpus().div_ceil(machine.nodes_with_cpus().count()) } else { 1 };
    let threads = machine.nodes_with_cpus().count() * per_node;
    let footprint = (walk.size as f64 * (1.0 + (threads - 1) as f64 * (1.0 - walk.overlap))).ceil() as u64;
    let refuse = |place: String, need: u64, have: u64| {
        Err(Error::Usage(format!(
            "memory too small: the arrays need {} MiB {place}, which has {} MiB left for applications",
            need.div_ceil(MIB),
            have / MIB
        )))
    };
    match system.placement {
        Placement::Node0 if footprint > pools[0] => refuse("on node 0".into(), footprint, pools[0]),
        Placement::FirstTouch if footprint > pools.iter().sum() => {
            refuse("on the machine".into(), footprint, pools.iter().sum())
        }
        Placement::FirstTouch if system.kernel == Kernel::PerNode => {
            // The pages that only one thread touches come from its own pager; others may come from anywhere.
            let mut reachable = vec![0; machine.nodes.len()];
            for (node, pool) in pools.iter().enumerate() {
                if let Some(pager) = machine.nearest(node, |node| node.cpus > 0) {
                    reachable[pager] += pool;
                }
            }
            for (thread, node) in machine.nodes_with_cpus().enumerate().filter(|_| !walk.per_cpu) {
                let neighbours = u64::from(thread > 0) + u64::from(thread + 1 < threads);
                let private =
                    walk.size.saturating_sub((walk.size as f64 * walk.overlap).ceil() as u64 * neighbours);
                if machine.nodes[node].mem > 0 && private > reachable[node] {
                    return refuse(format!("on node {node}"), private, reachable[node]);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{DEFAULT, Overrides};
    use crate::system::SystemName;
    use std::path::Path;

    fn machine(name: &str, overrides: Overrides) -> Machine {
        Machine::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines"), name, overrides).unwrap()
    }
    fn fits(machine: &Machine, system: SystemName, size: u64, overlap: f64) -> bool {
        let walk = ArrayWalk { size: size * MIB, overlap, ..ArrayWalk::default() };
        array_walk(machine, system.system(), &walk).is_ok()
    }

    #[test]
    fn the_default_job_fits_every_system() {
        let machine = machine(DEFAULT, Overrides::default());
        for system in SystemName::ALL {
            assert!(fits(&machine, system, 50, 0.0) && fits(&machine, system, 50, 1.0));
        }
    }

    #[test]
    fn node0_has_to_hold_everything() {
        let machine = machine(DEFAULT, Overrides::default());
        assert!(!fits(&machine, SystemName::NonNuma, 150, 0.0));
        assert!(fits(&machine, SystemName::NonNuma, 150, 1.0));
        assert!(fits(&machine, SystemName::SingleSpace, 150, 0.0));
        assert!(fits(&machine, SystemName::Numa, 150, 0.0));
        assert!(!fits(&machine, SystemName::Numa, 250, 0.0));
    }

    #[test]
    fn kernels_have_to_fit_their_nodes() {
        let machine =
            machine(DEFAULT, Overrides { nodes: Some(4), mem: Some(16 * MIB), ..Overrides::default() });
        let error = pools(&machine, SystemName::Numa.system()).unwrap_err().to_string();
        assert!(error.starts_with("memory too small: node 0 has 4 MiB"), "{error}");
    }

    #[test]
    fn odd_nodes_are_no_obstacle() {
        for name in ["cpuless", "memless", "uneven", "eight-node"] {
            let machine = machine(name, Overrides::default());
            assert!(fits(&machine, SystemName::Numa, 4, 0.5), "{name}");
        }
        // 300 MiB on node 1 only works because the pool of the CPU-less node 2 belongs to its pager.
        let machine = machine("cpuless", Overrides::default());
        assert!(fits(&machine, SystemName::SingleSpace, 230, 0.0));
    }
}
