//! The floor: what a walk takes if every access is local and page faults cost nothing. No placement of pages can be faster.
//!
//! It is computed by the cost model alone, without a guest. Every thread walks an array in its node's memory. The instructions are those of a run in
//! which the pages were there before. A page is cleared when it is touched for the first time, which costs here what it costs everywhere
//! (comparisons have the same clearing on both sides), and its lines are in the CPU's caches then. Translations cost their walks, through local tables.

use skerry_cost_model::maintenance::Maintenance;
use skerry_cost_model::walk::Walk;
use skerry_cost_model::{Access, CYCLE, Core, LINE, LINES_PER_PAGE, Machine};

use crate::app::ArrayWalk;
use crate::error::{Error, Result};
use crate::plugin::{self, Modelling};

const PAGE: u64 = LINE * LINES_PER_PAGE as u64;
/// Where a node's memory has page tables and arrays, from its beginning on.
const TABLES: u64 = 16 << 20;
const ARRAYS: u64 = 64 << 20;
/// Words of a line that the walk reads.
const WORDS: u64 = LINE / 4;
/// Instructions that clear a page (`page.zero` of the kernel's ledger: a loop of `DC ZVA`).
const CLEARING: u64 = 138;

/// A thread on its way through its array.
struct Walker {
    core: Core,
    base: u64,
    /// Lines done, of all iterations.
    done: u64,
    instructions: u64,
}

/// Cycles until the last thread is through. `instructions`: what each thread executes in all.
///
/// # Errors
/// [`Error::Usage`] if the machine cannot be modelled, or the arrays do not fit into it.
pub fn cycles(
    machine: &crate::machine::Machine,
    modelling: Modelling,
    walk: &ArrayWalk,
    instructions: &[u64],
) -> Result<u64> {
    let config = plugin::config(machine, modelling);
    let memory = config.topology.memory.clone();
    let nodes = config.topology.cpus.clone();
    let (mut model, cores) =
        Machine::new(config.topology, config.params, config.core).map_err(Error::Usage)?;
    let mut walkers: Vec<Walker> = Vec::new();
    for ((core, node), &instructions) in cores.into_iter().zip(nodes).zip(instructions) {
        let range = memory[usize::from(node)];
        if walk.size + ARRAYS > range.size {
            return Err(Error::Usage(format!("the floor needs {} bytes on node {node}", walk.size + ARRAYS)));
        }
        walkers.push(Walker { core, base: range.base, done: 0, instructions });
    }
    let lines = walk.size / LINE;
    let all = lines * u64::from(walk.iterations);
    // Who is behind goes on: bandwidth is shared.
    while let Some(walker) =
        walkers.iter_mut().filter(|walker| walker.done < all).min_by_key(|walker| walker.core.clock())
    {
        walker.line(&mut model, lines, all);
    }
    let ends = walkers.iter().map(|walker| walker.core.clock());
    Ok(ends.max().unwrap_or(0) / CYCLE)
}

impl Walker {
    /// Reads a line, and whatever that needs.
    fn line(&mut self, model: &mut Machine, lines: u64, all: u64) {
        let (iteration, index) = (self.done / lines, self.done % lines);
        let line = if iteration.is_multiple_of(2) { index } else { lines - 1 - index };
        let address = ARRAYS + line * LINE;
        let physical = self.base + address;
        let core = &mut self.core;
        let is_new_page = index.is_multiple_of(LINES_PER_PAGE as u64);
        if is_new_page && iteration == 0 {
            let first = physical / PAGE * PAGE;
            core.execute(CLEARING, 0);
            for line in 0..LINES_PER_PAGE as u64 {
                // `None` would be no memory: the array is inside of it.
                let _ = model.maintain(core, first + line * LINE, Maintenance::Zero);
            }
        }
        if core.translate(1, address).is_none()
            && let Some(walk) = translation(self.base, address)
        {
            model.walk(core, 1, address, &walk);
        }
        let share = |done: u64| self.instructions * done / all;
        core.execute(share(self.done + 1) - share(self.done), WORDS);
        let _ = model.access(core, address, physical, Access { store: false, dependent: false });
        self.done += 1;
    }
}

/// The walk for an address through tables at [`TABLES`] of the node's memory, three levels of them.
fn translation(base: u64, address: u64) -> Option<Walk> {
    const BITS: u32 = 39;
    let root = base + TABLES;
    let read = |place: u64| {
        let offset = place - root;
        Some(match offset / PAGE {
            // The first level, the second, and those of the third one behind the other.
            0 => root + PAGE + 3,
            1 => root + (2 + (offset % PAGE) / 8) * PAGE + 3,
            table => base + ((table - 2) * 512 + (offset % PAGE) / 8) * PAGE + 3,
        })
    };
    Walk::new(address, root, BITS, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Overrides;
    use crate::plugin::QUANTUM;
    use skerry_cost_model::CoreModel;

    fn floor(core: CoreModel, iterations: u32, instructions: u64) -> u64 {
        let machine = crate::machine::Machine::load(
            &crate::session::machines().unwrap(),
            "opteron",
            Overrides::default(),
        )
        .unwrap();
        let walk = ArrayWalk { size: 4 << 20, iterations, ..ArrayWalk::default() };
        cycles(&machine, Modelling { core, quantum: QUANTUM, sanitize: false }, &walk, &[instructions; 2])
            .unwrap()
    }

    #[test]
    fn the_first_pass_finds_what_the_fault_left_and_others_wait_for_local_memory() {
        let instructions = 3 << 20;
        let once = floor(CoreModel::Blocking, 1, instructions);
        let lines = (4 << 20) / LINE;
        assert!(
            (instructions + lines * 22..instructions * 11 / 10 + lines * (22 + 138 / 64 + 12))
                .contains(&once),
            "{once}"
        );
        let twice = floor(CoreModel::Blocking, 2, 2 * instructions);
        // The last 1 MiB is still in the second level when the walk turns round.
        let (least, most) = (lines * 3 / 4 * 140, lines * 190);
        assert!((least..most).contains(&(twice - once - instructions)), "{}", twice - once);
        assert!(floor(CoreModel::Prefetching, 2, 2 * instructions) < twice);
    }

    #[test]
    fn translations_are_those_of_the_page() {
        let walk = translation(1 << 30, ARRAYS + 5 * PAGE).unwrap();
        assert_eq!((walk.physical, walk.bits), ((1 << 30) + ARRAYS + 5 * PAGE, 12));
    }
}
