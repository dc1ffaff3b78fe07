//! What is where: for tests, which compare it with what a naive machine has.

use crate::cache::{Cache, Victim, line_of};
use crate::directory::Holder;
use crate::machine::Machine;

impl Machine {
    /// Lines in the first and second level of a CPU and whether they are dirty, sorted.
    pub fn private_levels(&self, cpu: u16) -> [Vec<(u64, bool)>; 2] {
        let private = &self.privates[usize::from(cpu)];
        [&private.l1, &private.l2].map(sorted)
    }

    /// Lines in the last level of a node.
    pub fn last_level(&self, node: u16) -> Vec<(u64, bool)> {
        sorted(&self.last[usize::from(node)])
    }

    /// Whether the directory says what the caches hold.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_directory(&self) -> Result<(), String> {
        let (start, end) = self.topology.span();
        for line in line_of(start)..line_of(end) {
            let mut position = 0;
            let mut count = 0;
            while let Some((holder, next)) = self.directory.next(line, position) {
                position = next;
                count += 1;
                let holds = match holder {
                    Holder::Cpu(cpu) => self.privates[usize::from(cpu)].holds(line),
                    Holder::Node(node) => self.last[usize::from(node)].find(line).is_some(),
                };
                if !holds {
                    return Err(format!("line {line:#x}: {holder:?} does not have it"));
                }
            }
            let cpus = self.privates.iter().filter(|private| private.holds(line)).count();
            let nodes = self.last.iter().filter(|last| last.find(line).is_some()).count();
            if cpus + nodes != count {
                return Err(format!(
                    "line {line:#x}: {cpus} CPUs and {nodes} nodes have it, and {count} bits are set"
                ));
            }
            let dirty = self.privates.iter().any(|p| {
                let is = |cache: &Cache| cache.find(line).is_some_and(|slot| cache.is_dirty(slot));
                is(&p.l1) || is(&p.l2)
            });
            if dirty && self.directory.owner(line).is_none() {
                return Err(format!("line {line:#x}: dirty without an owner"));
            }
            if self.directory.owner(line).is_some() && cpus != 1 {
                return Err(format!("line {line:#x}: owned, but {cpus} CPUs have it"));
            }
        }
        Ok(())
    }
}

fn sorted(cache: &Cache) -> Vec<(u64, bool)> {
    let mut lines: Vec<_> = cache.lines().map(|Victim { line, dirty }| (line, dirty)).collect();
    lines.sort_unstable();
    lines
}
