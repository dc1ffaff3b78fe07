//! Page tables and the mapping database of one cluster.
//!
//! For every frame the database knows the tree of spaces it was mapped to: `map` delegates from one space to another, `unmap`
//! revokes the whole subtree. Tables have three levels (39-bit addresses, 4 KiB granule) with leaves of 4 KiB, 2 MiB and
//! 1 GiB, and groups of sixteen pages with the contiguous hint: 64 KiB. Everything lives in arenas that are handed in once; a page table and a map node are charged to
//! the space they are made for. All calls run under the cluster's lock.
//!
//! The guarantees, each tested against a naive model in `tests/database/`:
//! - **Unmap never allocates and never fails.** A large mapping reserves the tables to split it when it is made:
//!   none for 64 KiB, one for 2 MiB, 513 for 1 GiB (what the same memory in 2 MiB mappings would reserve). Roots do not split.
//! - **Everything ends in bounded steps** ([`Budget`]): what can take long stops in between, and whoever comes then helps.
//! - **Map does all or nothing**, and takes from no account but the two spaces'.
//! - **W^X**: a mapping with W and X can be delegated, but is installed as RW; if W is revoked, X comes into effect.
//! - **Break before make**: an entry's frame, size, hint or cacheability never changes without invalidation in between. Rights
//!   change in place, as the architecture allows, so that no access or dirty state of the hardware is lost.
//!
//! ```
//! use skerry_abi::{Fpage, Rights};
//! use skerry_mapping_db::{Attr, HwTable, MappingDb, Node, SpaceTables, Tlb};
//!
//! struct NoTlb;
//! impl Tlb for NoTlb {
//!     fn publish(&mut self) {}
//!     fn invalidate(&mut self, _space: u16, _va: u64, _bits: u32) {}
//!     fn invalidate_space(&mut self, _space: u16) {}
//!     fn sync(&mut self) {}
//! }
//!
//! let tables: Vec<HwTable> = (0..16).map(|_| HwTable::new()).collect();
//! let (mut shadow, mut nodes) = (vec![[0; 512]; 16], vec![Node::default(); 16]);
//! let mut spaces = [SpaceTables::default(); 4];
//! let mut db = MappingDb::new(&tables, 0x4000_0000, &mut shadow, &mut nodes, &mut spaces);
//! db.space_create(0, 16)?;
//! db.space_create(1, 16)?;
//! db.map_root(0, 0x8000_0000, 0x8000_0000, 30, Rights::RWX, Attr::Normal)?;
//! let page = Fpage::new(0x8000_3000, 12, Rights::RW).unwrap();
//! db.map(&mut NoTlb, 0, page, 1, 0x1000, Attr::Normal)?;
//! assert_eq!(db.lookup(1, 0x1234).unwrap().pa, 0x8000_3234);
//! db.unmap(&mut NoTlb, 0, page.with_rights(Rights::RWX), false);
//! assert_eq!(db.lookup(1, 0x1234), None);
//! # Ok::<(), skerry_abi::Error>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod apply;
mod arena;
mod audit;
mod budget;
mod commit;
mod descriptor;
mod dump;
mod fast;
mod fast_group;
mod fast_pages;
mod grant;
mod group;
mod held;
mod items;
mod map;
mod node;
mod quick;
mod revoke;
mod space;
mod unmap;
mod walk;

pub use arena::{HwTable, Quota, SpaceTables};
pub use audit::{Found, Leaf, Question};
pub use budget::Budget;
pub use descriptor::Attr;
pub use dump::Dump;
pub use fast_pages::Pairs;
pub use held::Helped;
pub use items::{MAX_ITEMS, Outcome, Transfer};
pub use map::Mapped;
pub use node::Node;
pub use space::Pinned;
pub use walk::Translation;

use arena::{NIL, Nodes, Tables};
use held::Progress;
use skerry_abi::{Error, Rights};

/// How many addresses, a page apart, [`Tlb::invalidate`] is about: a TLB may hold the pages of a group one by one.
#[inline(always)]
pub const fn pages(bits: u32) -> u32 {
    if bits == walk::GROUP_BITS { arena::GROUP_PAGES as u32 } else { 1 }
}

/// The TLBs of all CPUs that use these tables.
pub trait Tlb {
    /// Entries went from invalid to valid: DSB ISHST, ISB.
    fn publish(&mut self);
    /// One entry, of 2^`bits` bytes at `va`, was removed or restricted: a leaf, or the descriptor of a table that is
    /// gone. So a last-level-only form (`TLBI VALE1`) is not enough. Of a group, each of the [`pages`] is to be invalidated.
    fn invalidate(&mut self, space: u16, va: u64, bits: u32);
    /// All entries of a space are gone.
    fn invalidate_space(&mut self, space: u16);
    /// Returns when all invalidations so far are complete: DSB ISH.
    fn sync(&mut self);
}

/// What [`MappingDb::unmap`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// R: something that was taken away, or asked after, had been accessed. W: it had been written.
    pub seen: Rights,
    /// How many entries were removed or restricted.
    pub touched: u32,
}

impl Status {
    pub(crate) fn add(&mut self, other: Self) {
        self.seen = self.seen | other.seen;
        self.touched += other.touched;
    }
}

/// Free kernel memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Free page tables.
    pub free_tables: u32,
    /// Free map nodes.
    pub free_nodes: u32,
}

/// The page tables and mapping trees of one cluster.
pub struct MappingDb<'a> {
    tables: Tables<'a>,
    nodes: Nodes<'a>,
    spaces: &'a mut [SpaceTables],
    progress: Progress,
}

impl<'a> MappingDb<'a> {
    /// An empty database in these arenas, which it initializes. Table *i* has the physical address `tables_pa + i * 4096`;
    /// `shadow` has as many elements as `tables`. Element 0 of tables and nodes is not used.
    pub fn new(
        tables: &'a [HwTable],
        tables_pa: u64,
        shadow: &'a mut [[u32; 512]],
        nodes: &'a mut [Node],
        spaces: &'a mut [SpaceTables],
    ) -> Self {
        spaces.fill(SpaceTables::default());
        Self {
            tables: Tables::new(tables, shadow, tables_pa),
            nodes: Nodes::new(nodes),
            spaces,
            progress: Progress::NONE,
        }
    }

    /// Physical address of the space's root table, for TTBR0_EL1. An unknown space has one that maps nothing.
    pub fn root_table(&self, slot: u16) -> u64 {
        self.tables.pa(self.live_root(slot).unwrap_or(NIL))
    }

    /// Free tables and nodes of the arenas.
    pub fn stats(&self) -> Stats {
        Stats { free_tables: self.tables.free(), free_nodes: self.nodes.free() }
    }

    /// What a space uses of its quota; nothing if there is no such space.
    pub fn used(&self, slot: u16) -> Quota {
        self.spaces.get(usize::from(slot)).map_or(Quota::default(), |space| space.used)
    }

    /// The root table of a space that exists.
    #[inline]
    pub(crate) fn live_root(&self, slot: u16) -> Result<u32, Error> {
        match self.spaces.get(usize::from(slot)) {
            Some(space) if space.root != NIL => Ok(space.root),
            _ => Err(Error::NoSuchSpace),
        }
    }
    /// The root table of a space that has a node.
    #[inline]
    pub(crate) fn root(&self, slot: u16) -> u32 {
        self.spaces[usize::from(slot)].root
    }
    #[inline]
    pub(crate) fn account(&mut self, slot: u16) -> &mut SpaceTables {
        &mut self.spaces[usize::from(slot)]
    }
}
