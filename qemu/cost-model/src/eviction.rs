//! Lines that come into a cache and those that have to leave for them.
//!
//! A line leaves each level by itself; a dirty one goes a level down. Whoever loses its last private copy leaves the directory.

use crate::LINE_BITS;
use crate::cache::Victim;
use crate::core::Core;
use crate::directory::Holder;
use crate::machine::Machine;

impl Machine {
    /// Puts a line that the second level or a miss has brought into the first one.
    pub(crate) fn fill_first(&mut self, core: &mut Core, line: u64) {
        let private = &mut self.privates[usize::from(core.cpu)];
        let Some(victim) = private.l1.insert(line, false) else { return };
        core.filter.forget(victim.line);
        if victim.dirty {
            self.directory.stored(victim.line, core.shared.last_store(victim.line));
        }
        if let Some(slot) = private.l2.find(victim.line) {
            if victim.dirty {
                private.l2.set_dirty(slot, true);
            }
        } else if victim.dirty {
            if let Some(next) = private.l2.insert(victim.line, true) {
                self.leave_second(core, next, line);
            }
        } else {
            self.left(core, victim.line);
        }
    }

    /// A line leaves the second level. `coming` is on its way into the first one.
    pub(crate) fn leave_second(&mut self, core: &mut Core, victim: Victim, coming: u64) {
        if victim.dirty {
            self.put_last(core, core.node, victim.line, true);
        }
        if victim.line != coming && self.privates[usize::from(core.cpu)].l1.find(victim.line).is_none() {
            self.left(core, victim.line);
        }
    }

    /// A line has left the private caches.
    fn left(&mut self, core: &Core, line: u64) {
        self.directory.leave(line, core.cpu);
    }

    /// Puts a line into a node's last level, or makes it dirty there.
    pub(crate) fn put_last(&mut self, core: &mut Core, node: u16, line: u64, dirty: bool) {
        let last = &mut self.last[usize::from(node)];
        if let Some(slot) = last.find(line) {
            if dirty {
                last.set_dirty(slot, true);
            }
            return;
        }
        if last.exists() {
            self.directory.add(line, Holder::Node(node));
        }
        self.insert_last(core, node, line, dirty);
    }

    /// Puts a line that is not there into a node's last level; the directory knows already.
    pub(crate) fn insert_last(&mut self, core: &mut Core, node: u16, line: u64, dirty: bool) {
        let Some(victim) = self.last[usize::from(node)].insert(line, dirty) else { return };
        self.directory.remove(victim.line, Holder::Node(node));
        if victim.dirty
            && let Some(home) = self.topology.home(victim.line << LINE_BITS)
        {
            self.write_back(core, node, home);
        }
    }

    /// A dirty line goes to memory; nobody waits for it.
    pub(crate) fn write_back(&mut self, core: &mut Core, from: u16, home: u16) {
        core.counters.writebacks += 1;
        self.bandwidth.write(core.clock(), home, from);
    }
}
