//! Mapping trees as text, for tests and for people.

use core::fmt;

use skerry_abi::Rights;

use crate::MappingDb;
use crate::arena::NIL;
use crate::walk::PAGE_BITS;

/// Prints the mapping tree below one mapping: a line per mapping, indented by depth.
pub struct Dump<'d, 'a> {
    db: &'d MappingDb<'a>,
    top: u32,
}

impl<'a> MappingDb<'a> {
    /// The mapping tree that begins with what is mapped at `va`; prints nothing if that is nothing.
    ///
    /// ```text
    /// 0: space=0 vaddr=0x40000000 size=2M rwx
    /// 1: => space=1 vaddr=0x2000 size=4K rw-
    /// 2:   => space=2 vaddr=0x5000 size=4K r--
    /// ```
    pub fn dump(&self, slot: u16, va: u64) -> Dump<'_, 'a> {
        let place = self.live_root(slot).ok().map(|root| self.descend(root, va, PAGE_BITS));
        Dump { db: self, top: place.filter(|place| place.is_mapping()).map_or(NIL, |place| place.node) }
    }
}

impl Dump<'_, '_> {
    fn line(&self, f: &mut fmt::Formatter<'_>, depth: usize, index: u32) -> fmt::Result {
        let node = self.db.nodes.get(index);
        write!(f, "{depth}: ")?;
        if depth > 0 {
            write!(f, "{:1$}=> ", "", (depth - 1) * 2)?;
        }
        let size = match node.bits() {
            12 => "4K",
            16 => "64K",
            21 => "2M",
            _ => "1G",
        };
        write!(f, "space={} vaddr={:#x} size={size} ", node.space(), node.va())?;
        let (mut pages, mut all, mut va) = (0, Rights::NONE, node.va());
        let root = self.db.root(node.space());
        let mut whole = false;
        while va < node.va() + node.size() {
            let place = self.db.descend(root, va, PAGE_BITS);
            if place.is_mapping() && place.node == index {
                whole = place.slot.bits == node.bits();
                pages += 1u64 << (place.slot.bits - PAGE_BITS);
                all = all | place.entry.rights();
            }
            va = place.end(va);
        }
        write!(f, "{all:?}")?;
        if !whole {
            write!(f, " split, {pages} pages left")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Dump<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.top == NIL {
            return Ok(());
        }
        let (nodes, tables) = (&self.db.nodes, &self.db.tables);
        let (mut node, mut depth) = (self.top, 0);
        loop {
            self.line(f, depth, node)?;
            let mut next = nodes.first_child(tables, node, 0, nodes.get(node).size());
            depth += 1;
            while next == NIL {
                depth -= 1;
                if node == self.top {
                    return Ok(());
                }
                let parent = nodes.get(node).parent;
                next = nodes.next_child(tables, node, 0, nodes.get(parent).size());
                node = parent;
            }
            node = next;
        }
    }
}
