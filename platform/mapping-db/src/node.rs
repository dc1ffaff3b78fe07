//! Map nodes: one per mapping, linked into the tree of the mapping it was derived from.
//!
//! A node says *who got what from whom*; what is really there (frame, rights, state) is said by the page-table
//! entries alone. A node covers one leaf of 4 KiB, 2 MiB or 1 GiB, or a group of 64 KiB, as it was mapped. If part of that is taken away later,
//! the leaf is split in the page table but the node stays one: the hole is simply not there any more. So splitting touches
//! no other mapping, and a hole can be used for another mapping.
//!
//! Children of the parent's own size are in the list `child`. Smaller ones hang off the parent's *bucket table*, one list
//! head for each 1/512 of the parent, so that taking 4 KiB out of 2 MiB need not look at the rest. The bucket
//! table is the shadow of the table that is reserved for splitting the parent: one table serves both purposes.
//! (Rejected: a node per piece of a split mapping. 513 times the nodes would have to be reserved.)
//!
//! A *group* of 64 KiB below a block is in the bucket of its first page, and a bit of the block's node says that there is one, for
//! those who look for what was derived from another page of it. A bucket lives as long as its piece, so a group that loses its first
//! page becomes *loose* and moves to the list `child`, before the block can lose that piece. What was derived from a group, of
//! whatever size, is in its list `child`: sixteen times as much as below a page at most.

use crate::arena::{GROUP_PAGES, NIL, Nodes, Tables};
use crate::walk::{BLOCK_BITS, GROUP_BITS, PAGE_BITS, TOP_BITS};

/// log2 of the leaf sizes by size code.
const SIZES: [u32; 4] = [PAGE_BITS, BLOCK_BITS, TOP_BITS, GROUP_BITS];
const GROUP_CODE: u64 = 3;
/// In the key of a group: it is in its parent's list `child`, though it is smaller.
const LOOSE: u64 = 1 << 63;

/// A node of the mapping tree: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Node {
    /// What it was derived from; NIL for a root.
    pub(crate) parent: u32,
    /// First child of the same size, or loose; of a group: first child.
    pub(crate) child: u32,
    /// Next in the list of the parent that it is in. In a free node: the next free one.
    pub(crate) next: u32,
    /// Previous in that list; NIL: it is the head.
    pub(crate) prev: u32,
    /// Reserved split table, whose shadow heads the lists of smaller children. Roots never split and get it with the first
    /// smaller child; 4 KiB mappings and groups have none.
    pub(crate) bucket: u32,
    /// 4 KiB, groups: the table with its entries (which stays there as long as they do). 2 MiB: a bit for each 64 KiB whose first bucket
    /// can have groups in it. 1 GiB: list of 512 tables to split its 2 MiB pieces with, linked through shadow word 0.
    pub(crate) more: u32,
    /// Page number (27 bits), size code (2), offset in the parent in pages (18), space (16), [`LOOSE`].
    pub(crate) key: u64,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    pub(crate) fn new(space: u16, va: u64, bits: u32, parent: u32, offset: u64) -> Self {
        let size = if bits == GROUP_BITS { GROUP_CODE } else { u64::from((bits - PAGE_BITS) / 9) };
        let key = (va >> PAGE_BITS) & 0x7ff_ffff
            | size << 27
            | ((offset >> PAGE_BITS) & 0x3_ffff) << 29
            | u64::from(space) << 47;
        Self { parent, key, ..Self::default() }
    }
    /// The node of a page.
    #[inline(always)]
    pub(crate) const fn page(space: u16, va: u64, parent: u32, offset: u64, table: u32, next: u32) -> Self {
        let key = va >> PAGE_BITS | (offset >> PAGE_BITS) << 29 | (space as u64) << 47;
        Self { parent, child: NIL, next, prev: NIL, bucket: NIL, more: table, key }
    }
    /// It is in another place now; what it was derived from stays.
    pub(crate) fn relocate(&mut self, space: u16, va: u64) {
        self.key = self.key & 0x7fff_f800_0000 | va >> PAGE_BITS | u64::from(space) << 47;
    }
    /// Whether it is the node of a page.
    #[inline(always)]
    pub(crate) const fn is_page(&self) -> bool {
        self.key & 3 << 27 == 0
    }
    #[inline]
    pub(crate) const fn is_group(&self) -> bool {
        self.key >> 27 & 3 == GROUP_CODE
    }
    /// Whether `more` is the table with its entries.
    #[inline]
    pub(crate) const fn is_in_last_table(&self) -> bool {
        self.is_page() || self.is_group()
    }
    /// Whether it is a group without its first page, below a block.
    #[inline]
    pub(crate) const fn is_loose(&self) -> bool {
        self.key & LOOSE != 0
    }
    /// The bucket that `child` is in; `None`: it is in the list `child`.
    #[inline]
    pub(crate) const fn bucket_with(&self, child: &Self) -> Option<usize> {
        if child.bits() == self.bits() || self.is_group() || child.is_loose() {
            return None;
        }
        Some(bucket_of(self.bits(), child.offset()))
    }
    /// The first bucket that can have children at offset `low` or behind.
    #[inline]
    pub(crate) const fn first_bucket(&self, low: u64) -> usize {
        let bucket = bucket_of(self.bits(), low);
        let first = bucket / GROUP_PAGES * GROUP_PAGES;
        if self.bits() == BLOCK_BITS && self.has_groups(low) { first } else { bucket }
    }
    /// Of a block: whether groups can cover the page at this offset (or address).
    #[inline(always)]
    pub(crate) const fn has_groups(&self, offset: u64) -> bool {
        self.more >> (offset >> GROUP_BITS & 31) & 1 != 0
    }
    #[inline]
    pub(crate) const fn va(&self) -> u64 {
        (self.key & 0x7ff_ffff) << PAGE_BITS
    }
    /// log2 of its size in bytes.
    #[inline]
    pub(crate) const fn bits(&self) -> u32 {
        SIZES[((self.key >> 27) & 3) as usize]
    }
    #[inline]
    pub(crate) const fn size(&self) -> u64 {
        1 << self.bits()
    }
    /// The first address behind it.
    pub(crate) const fn end(&self) -> u64 {
        self.va() + self.size()
    }
    /// Where in the parent it begins.
    #[inline]
    pub(crate) const fn offset(&self) -> u64 {
        ((self.key >> 29) & 0x3_ffff) << PAGE_BITS
    }
    #[inline]
    pub(crate) const fn space(&self) -> u16 {
        (self.key >> 47) as u16
    }
    #[inline]
    pub(crate) const fn is_root(&self) -> bool {
        self.parent == NIL
    }
}

/// Which bucket of a node of 2^`bits` bytes an offset falls into.
#[inline]
pub(crate) const fn bucket_of(bits: u32, offset: u64) -> usize {
    (offset >> (bits - 9)) as usize
}

impl Tables<'_> {
    /// The first child of `parent` in one of its buckets.
    #[inline]
    pub(crate) fn head(&self, parent: &Node, bucket: usize) -> u32 {
        let entry = self.load(parent.bucket, bucket);
        if entry.is_valid() && !entry.is_piece() {
            return NIL; // split, and another mapping in the hole: the shadow word is not a list head
        }
        self.shadow(parent.bucket, bucket)
    }
    /// The first child in one of the buckets `from..end`, or NIL, and the bucket behind.
    pub(crate) fn next_head(&self, parent: &Node, from: usize, end: usize) -> (u32, usize) {
        let heads = (from..end).map(|bucket| self.head(parent, bucket));
        let mut heads = heads.zip(from + 1..);
        heads.find(|&(head, _)| head != NIL).unwrap_or((NIL, end))
    }
}

impl Nodes<'_> {
    /// Makes `index` a child of its parent, which has a bucket table if it is larger.
    pub(crate) fn link(&mut self, tables: &mut Tables<'_>, index: u32) {
        let node = *self.get(index);
        let parent = self.get_mut(node.parent);
        let next = match parent.bucket_with(&node) {
            None => core::mem::replace(&mut parent.child, index),
            Some(bucket) => {
                if node.is_group() && parent.bits() == BLOCK_BITS {
                    parent.more |= 1 << (bucket / GROUP_PAGES);
                }
                let head = tables.shadow(parent.bucket, bucket);
                tables.set_shadow(parent.bucket, bucket, index);
                head
            }
        };
        let node = self.get_mut(index);
        (node.next, node.prev) = (next, NIL);
        if next != NIL {
            self.get_mut(next).prev = index;
        }
    }
    /// Undoes [`Nodes::link`]; roots are in no list.
    pub(crate) fn unlink(&mut self, tables: &mut Tables<'_>, index: u32) {
        let node = *self.get(index);
        if node.is_root() {
            return;
        }
        if node.next != NIL {
            self.get_mut(node.next).prev = node.prev;
        }
        if node.prev != NIL {
            self.get_mut(node.prev).next = node.next;
            return;
        }
        let parent = self.get_mut(node.parent);
        match parent.bucket_with(&node) {
            None => parent.child = node.next,
            Some(bucket) => {
                if parent.bits() == BLOCK_BITS && node.next == NIL && bucket % GROUP_PAGES == 0 {
                    parent.more &= !(1 << (bucket / GROUP_PAGES));
                }
                tables.set_shadow(parent.bucket, bucket, node.next);
            }
        }
    }
    /// A group is about to lose its first page.
    pub(crate) fn loosen(&mut self, tables: &mut Tables<'_>, index: u32) {
        let node = *self.get(index);
        if self.get(node.parent).bits() == BLOCK_BITS && !node.is_loose() {
            self.unlink(tables, index);
            self.get_mut(index).key |= LOOSE;
            self.link(tables, index);
        }
    }
    /// The first child of `parent` that overlaps the offsets `low..high` of it, or NIL.
    #[inline]
    pub(crate) fn first_child(&self, tables: &Tables<'_>, parent: u32, low: u64, high: u64) -> u32 {
        let node = self.get(parent);
        let listed = self.overlapping(node.child, low, high);
        if listed != NIL { listed } else { self.in_buckets(tables, node, None, low, high) }
    }
    /// The child of the same parent that follows `child` and overlaps `low..high`, or NIL.
    #[inline]
    pub(crate) fn next_child(&self, tables: &Tables<'_>, child: u32, low: u64, high: u64) -> u32 {
        let node = self.get(child);
        let parent = self.get(node.parent);
        let next = self.overlapping(node.next, low, high);
        if next != NIL {
            return next;
        }
        self.in_buckets(tables, parent, parent.bucket_with(node), low, high)
    }
    /// The first overlapping child in a bucket behind `after`.
    fn in_buckets(
        &self,
        tables: &Tables<'_>,
        parent: &Node,
        after: Option<usize>,
        low: u64,
        high: u64,
    ) -> u32 {
        if parent.bucket == NIL || low >= high {
            return NIL;
        }
        let first = after.map_or(0, |bucket| bucket + 1).max(parent.first_bucket(low));
        for bucket in first..=bucket_of(parent.bits(), high - 1) {
            let child = self.overlapping(tables.head(parent, bucket), low, high);
            if child != NIL {
                return child;
            }
        }
        NIL
    }
    /// `child` or the first one behind it in its list that overlaps `low..high`.
    #[inline]
    fn overlapping(&self, mut child: u32, low: u64, high: u64) -> u32 {
        while child != NIL {
            let node = self.get(child);
            if node.offset() < high && node.offset() + node.size() > low {
                break;
            }
            child = node.next;
        }
        child
    }
}
