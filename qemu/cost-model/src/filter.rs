//! The lines that a CPU may use without asking: what makes the instrument fast.
//!
//! 64 entries, direct-mapped by the line's place in its page, which is the same in virtual and physical addresses: so a line that
//! leaves the first-level cache has exactly one entry to clear. An entry says that the line is in the first level, its page in the
//! TLB, and, if writable, that the line is dirty there already; then an access changes nothing, as replacement is FIFO. What *others* do
//! bumps the CPU's generation, which makes all entries worthless at once.

use crate::{LINE_BITS, LINES_PER_PAGE};

const NOTHING: u64 = !0;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Virtual line, shifted by one; the lowest bit says writable.
    tag: u64,
    /// Physical line.
    line: u64,
}

/// The filter of one CPU.
#[derive(Clone, Debug)]
pub struct Filter {
    entries: [Entry; LINES_PER_PAGE],
    generation: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { entries: [Entry { tag: NOTHING, line: NOTHING }; LINES_PER_PAGE], generation: 0 }
    }
}

/// The entry that a line has, by virtual or physical number.
pub(crate) const fn index(line: u64) -> usize {
    line as usize % LINES_PER_PAGE
}

impl Filter {
    /// Whether the access is known to change nothing.
    #[inline]
    pub fn hits(&self, address: u64, store: bool, generation: u64) -> bool {
        let line = address >> LINE_BITS;
        let tag = self.entries[index(line)].tag;
        // A store needs the very tag that says writable; a load takes either.
        (tag | u64::from(!store)) == (line << 1 | 1) && self.generation == generation
    }

    /// Remembers a line. `generation` is that from before the access that found it.
    pub fn remember(&mut self, address: u64, line: u64, writable: bool, generation: u64) {
        if self.generation != generation {
            self.clear();
            self.generation = generation;
        }
        self.entries[index(line)] = Entry { tag: address >> LINE_BITS << 1 | u64::from(writable), line };
    }

    /// Forgets a physical line.
    pub fn forget(&mut self, line: u64) {
        let entry = &mut self.entries[index(line)];
        if entry.line == line {
            entry.tag = NOTHING;
        }
    }

    /// Forgets all: another address space, or translations that are gone.
    pub fn clear(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.tag = NOTHING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_generation_and_line_all_count() {
        let mut filter = Filter::default();
        filter.remember(0x7fc0, 0x1234_5fc0 >> 6, false, 3);
        assert!(filter.hits(0x7fff, false, 3));
        assert!(!filter.hits(0x7fff, true, 3), "read only");
        assert!(!filter.hits(0x7fff, false, 4), "something was taken away");
        assert!(!filter.hits(0x8fc0, false, 3), "another page");
        filter.forget(0x1_5fc0 >> 6);
        assert!(filter.hits(0x7fc0, false, 3), "another line in the same place");
        filter.forget(0x1234_5fc0 >> 6);
        assert!(!filter.hits(0x7fc0, false, 3));
    }

    #[test]
    fn a_new_generation_forgets_the_old_entries() {
        let mut filter = Filter::default();
        filter.remember(0x40, 1, true, 0);
        filter.remember(0x80, 2, true, 1);
        assert!(!filter.hits(0x40, false, 1) && filter.hits(0x80, true, 1));
    }
}
