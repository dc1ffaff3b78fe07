//! Map nodes: one per mapping, linked into the tree of the mapping it was derived from.
//!
//! A node says *who got what from whom*; what is really there (frame, rights, state) is said by the page-table
//! entries alone. A node covers one leaf of 4 KiB, 2 MiB or 1 GiB as it was mapped. If part of that is taken away later,
//! the leaf is split in the page table but the node stays one: the hole is simply not there any more. So splitting touches
//! no other mapping, and a hole can be used for another mapping.
//!
//! Children of the parent's own size are in the list `child`. Smaller ones hang off the parent's *bucket table*, one list
//! head for each 1/512 of the parent, so that taking 4 KiB out of 2 MiB need not look at the rest. The bucket
//! table is the shadow of the table that is reserved for splitting the parent: one table serves both purposes.
//! (Rejected: a node per piece of a split mapping. 513 times the nodes would have to be reserved.)

use crate::arena::{NIL, Nodes, Tables};

const PAGE_BITS: u32 = 12;
/// log2 of the leaf sizes by size code.
const SIZES: [u32; 4] = [12, 21, 30, 30];

/// A node of the mapping tree: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Node {
    /// What it was derived from; NIL for a root.
    pub(crate) parent: u32,
    /// First child of the same size.
    pub(crate) child: u32,
    /// Next in the list of the parent that it is in. In a free node: the next free one.
    pub(crate) next: u32,
    /// Previous in that list; NIL: it is the head.
    pub(crate) prev: u32,
    /// Reserved split table, whose shadow heads the lists of smaller children. Roots never split and get it with the first
    /// smaller child; 4 KiB mappings have none.
    pub(crate) bucket: u32,
    /// 4 KiB: the table with its entry (which stays there as long as the entry). 1 GiB: list of 512 tables to split its
    /// 2 MiB pieces with, linked through shadow word 0.
    pub(crate) more: u32,
    /// Page number (27 bits), size code (2), offset in the parent in pages (18), space (16).
    pub(crate) key: u64,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    pub(crate) fn new(space: u16, va: u64, bits: u32, parent: u32, offset: u64) -> Self {
        let size = u64::from((bits - PAGE_BITS) / 9);
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
        let parent = *self.get(node.parent);
        let next = if parent.bits() == node.bits() {
            core::mem::replace(&mut self.get_mut(node.parent).child, index)
        } else {
            let bucket = bucket_of(parent.bits(), node.offset());
            let head = tables.shadow(parent.bucket, bucket);
            tables.set_shadow(parent.bucket, bucket, index);
            head
        };
        self.get_mut(index).next = next;
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
        let parent = *self.get(node.parent);
        if parent.bits() == node.bits() {
            self.get_mut(node.parent).child = node.next;
        } else {
            tables.set_shadow(parent.bucket, bucket_of(parent.bits(), node.offset()), node.next);
        }
    }
    /// The first child of `parent` that overlaps the offsets `low..high` of it, or NIL.
    #[inline]
    pub(crate) fn first_child(&self, tables: &Tables<'_>, parent: u32, low: u64, high: u64) -> u32 {
        let node = self.get(parent);
        if node.child != NIL {
            return node.child; // as large as the parent: it always overlaps
        }
        self.in_buckets(tables, node, None, low, high)
    }
    /// The child of the same parent that follows `child` and overlaps `low..high`, or NIL.
    #[inline]
    pub(crate) fn next_child(&self, tables: &Tables<'_>, child: u32, low: u64, high: u64) -> u32 {
        let node = self.get(child);
        let parent = self.get(node.parent);
        if node.bits() != parent.bits() {
            let next = self.overlapping(node.next, low, high);
            if next != NIL {
                return next;
            }
            return self.in_buckets(tables, parent, Some(bucket_of(parent.bits(), node.offset())), low, high);
        }
        if node.next != NIL {
            return node.next;
        }
        self.in_buckets(tables, parent, None, low, high)
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
        let first = after.map_or(0, |bucket| bucket + 1).max(bucket_of(parent.bits(), low));
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
