//! Cache maintenance by address: what each instruction costs depends on where its line is and whether it is dirty.

use crate::cache::line_of;
use crate::core::Core;
use crate::counters::Wait;
use crate::directory::Holder;
use crate::latency::Overlap;
use crate::machine::Machine;
use crate::time::{Time, cycles};
use crate::topology::LOCAL;

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// DC CVAC: dirty data go to memory (the Point of Coherency).
    Clean,
    /// DC CIVAC: and the line leaves all caches.
    CleanInvalidate,
    /// DC IVAC: it leaves all caches without being written. The model keeps no data, so nothing is lost.
    Invalidate,
    /// DC CVAU, IC IVAU: to the Point of Unification. Instruction caches are not modelled: a fixed cost.
    Unification,
    /// DC ZVA: the line becomes zero and dirty, without being read.
    Zero,
}

impl Machine {
    /// Executes one. `None`: there is no memory.
    pub fn maintain(&mut self, core: &mut Core, physical: u64, what: Maintenance) -> Option<()> {
        let home = self.topology.home(physical)?;
        let line = line_of(physical);
        core.counters.maintenance += u64::from(what != Maintenance::Zero);
        let check = cycles(self.params.events.maintenance.into());
        match what {
            Maintenance::Unification => core.pay(Wait::Maintenance, Overlap::None, check, 0),
            Maintenance::Zero => self.zero(core, line, home),
            _ => {
                let holders = self.holders(core, line);
                let (dirty, farthest) = self.clean_everywhere(line, core, what != Maintenance::Clean);
                let mut latency = check;
                if holders {
                    let upgrade = cycles(self.params.memory.upgrade.into());
                    latency += upgrade * farthest / Time::from(LOCAL);
                }
                if dirty && what != Maintenance::Invalidate {
                    self.write_back(core, core.node, home);
                    latency += self.far(self.params.memory.latency, core.node, home);
                }
                core.pay(Wait::Maintenance, Overlap::None, latency, 0);
            }
        }
        Some(())
    }

    /// Whether anybody outside of this CPU has the line.
    fn holders(&self, core: &Core, line: u64) -> bool {
        let mut position = 0;
        while let Some((holder, next)) = self.directory.next(line, position) {
            if holder != Holder::Cpu(core.cpu) {
                return true;
            }
            position = next;
        }
        false
    }

    /// Cleans or removes a line wherever it is; whether it was dirty, and the distance of the farthest holder.
    fn clean_everywhere(&mut self, line: u64, core: &mut Core, remove: bool) -> (bool, u64) {
        let (mut dirty, mut farthest) = (false, 0);
        let mut position = 0;
        while let Some((holder, next)) = self.directory.next(line, position) {
            position = next;
            let node = match holder {
                Holder::Cpu(cpu) => {
                    let private = &mut self.privates[usize::from(cpu)];
                    dirty |= private.clean(line);
                    if remove {
                        private.l1.remove(line);
                        private.l2.remove(line);
                    }
                    // Also without removal: the next store has to make the line dirty again.
                    self.shared[usize::from(cpu)].bump();
                    self.topology.node(cpu)
                }
                Holder::Node(node) => {
                    dirty |= self.last[usize::from(node)].clean(line);
                    if remove {
                        self.last[usize::from(node)].remove(line);
                    }
                    node
                }
            };
            if remove {
                self.directory.remove(line, holder);
            }
            farthest = farthest.max(self.topology.distance(core.node, node));
        }
        if remove {
            self.directory.set_owner(line, None);
        }
        (dirty, farthest)
    }

    /// Becomes the owner of a dirty line without reading it. What it costs is the room it takes on its way to memory later.
    fn zero(&mut self, core: &mut Core, line: u64, home: u16) {
        core.counters.zeroed += 1;
        let cpu = usize::from(core.cpu);
        if self.privates[cpu].l1.find(line).is_none() {
            let known = self.directory.look(line, core.cpu, core.node);
            if !known.mine {
                core.not_before(known.stamp);
                self.directory.add(line, Holder::Cpu(core.cpu));
                let line_time = self.bandwidth.line_time(home, core.node);
                core.pay(Wait::Maintenance, Overlap::None, line_time, 0);
            }
            self.fill_first(core, line);
        }
        self.own(core, line, home);
        let l1 = &mut self.privates[cpu].l1;
        if let Some(slot) = l1.find(line) {
            l1.set_dirty(slot, true);
        }
    }
}
