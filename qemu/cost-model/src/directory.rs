//! Who holds which line: what keeps the caches of all CPUs and nodes coherent.
//!
//! An entry per line, in chunks of a page that are made on first use. It is precise: a bit is set exactly while the line is in the
//! CPU's private caches, or in the node's last level. Nothing limits the number of CPUs or nodes but memory: sets are words of bits.

use crate::LINES_PER_PAGE;
use crate::time::Time;

const NOBODY: u16 = u16::MAX;
const PAGE_LINE_BITS: u32 = LINES_PER_PAGE.trailing_zeros();

/// Which kind of holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The private caches of a CPU.
    Cpu(u16),
    /// The last level of a node.
    Node(u16),
}

/// The lines of one page. What belongs to a line lies together: a walk through memory that misses in the modelled caches misses in the
/// host's as well, once per entry. The first word holds the owner and the stamp, the others the sets of CPUs and of nodes.
type Page = Box<[u64]>;

/// Bits of the owner in the first word; the others are the stamp, good for 10^12 cycles.
const OWNER_BITS: u32 = 16;
const NEW: u64 = NOBODY as u64;

/// All lines of a range of memory.
#[derive(Clone, Debug)]
pub struct Directory {
    first: u64,
    pages: Vec<Option<Page>>,
    cpu_words: usize,
    /// Words of sets per line.
    words: usize,
}

impl Directory {
    /// For the bytes from `start` to `end`.
    pub fn new((start, end): (u64, u64), cpus: usize, nodes: usize) -> Self {
        let pages = (end.saturating_sub(start)).div_ceil(4096) as usize;
        let cpu_words = cpus.div_ceil(64);
        Self {
            first: start >> 12,
            pages: vec![None; pages],
            cpu_words,
            words: cpu_words + nodes.div_ceil(64),
        }
    }

    fn place(&self, line: u64) -> (usize, usize) {
        ((line >> PAGE_LINE_BITS).wrapping_sub(self.first) as usize, line as usize % LINES_PER_PAGE)
    }

    fn entry(&self, line: u64) -> Option<&[u64]> {
        let (page, index) = self.place(line);
        let size = self.words + 1;
        self.pages.get(page)?.as_ref()?.get(index * size..(index + 1) * size)
    }

    fn entry_mut(&mut self, line: u64) -> Option<&mut [u64]> {
        let (page, index) = self.place(line);
        let size = self.words + 1;
        let page = self.pages.get_mut(page)?.get_or_insert_with(|| {
            let mut page = vec![0; size * LINES_PER_PAGE];
            page.iter_mut().step_by(size).for_each(|first| *first = NEW);
            page.into()
        });
        page.get_mut(index * size..(index + 1) * size)
    }

    /// The CPU that may write the line without asking.
    pub fn owner(&self, line: u64) -> Option<u16> {
        self.entry(line).map(|entry| entry[0] as u16).filter(|&cpu| cpu != NOBODY)
    }

    /// Gives or takes that right.
    pub fn set_owner(&mut self, line: u64, cpu: Option<u16>) {
        if let Some([first, ..]) = self.entry_mut(line) {
            *first = *first >> OWNER_BITS << OWNER_BITS | u64::from(cpu.unwrap_or(NOBODY));
        }
    }

    /// When the line was stored to, as far as the directory was told.
    pub fn stamp(&self, line: u64) -> Time {
        self.entry(line).map_or(0, |entry| entry[0] >> OWNER_BITS)
    }

    /// It was stored to at this time.
    pub fn stored(&mut self, line: u64, time: Time) {
        if let Some([first, ..]) = self.entry_mut(line) {
            *first = (*first >> OWNER_BITS).max(time) << OWNER_BITS | *first & NEW;
        }
    }

    fn bit(&self, holder: Holder) -> (usize, u64) {
        let (first, number) = match holder {
            Holder::Cpu(cpu) => (0, cpu),
            Holder::Node(node) => (self.cpu_words, node),
        };
        (1 + first + usize::from(number / 64), 1 << (number % 64))
    }

    /// Notes that a holder has the line.
    pub fn add(&mut self, line: u64, holder: Holder) {
        let (word, bit) = self.bit(holder);
        if let Some(entry) = self.entry_mut(line) {
            entry[word] |= bit;
        }
    }

    /// Notes that it has it no more.
    pub fn remove(&mut self, line: u64, holder: Holder) {
        let (word, bit) = self.bit(holder);
        if let Some(entry) = self.entry_mut(line) {
            entry[word] &= !bit;
        }
    }

    /// Whether it has it.
    pub fn has(&self, line: u64, holder: Holder) -> bool {
        let (word, bit) = self.bit(holder);
        self.entry(line).is_some_and(|entry| entry[word] & bit != 0)
    }

    /// The next holder at or behind `from`, in a fixed order: the CPUs, then the nodes. For loops that change the entry
    /// as they go: `while let Some((holder, next)) = …`.
    pub fn next(&self, line: u64, from: usize) -> Option<(Holder, usize)> {
        let words = &self.entry(line)?[1..];
        let mut position = from;
        while position < self.words * 64 {
            let rest = words[position / 64] >> (position % 64);
            if rest == 0 {
                position = (position / 64 + 1) * 64;
                continue;
            }
            position += rest.trailing_zeros() as usize;
            let holder = match position.checked_sub(self.cpu_words * 64) {
                None => Holder::Cpu(position as u16),
                Some(node) => Holder::Node(node as u16),
            };
            return Some((holder, position + 1));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(directory: &Directory, line: u64) -> Vec<Holder> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((holder, next)) = directory.next(line, from) {
            found.push(holder);
            from = next;
        }
        found
    }

    #[test]
    fn any_number_of_cpus_and_nodes() {
        let mut directory = Directory::new((0x4000_0000, 0x4010_0000), 512, 128);
        let line = 0x4000_0040 >> 6;
        let holders = [
            Holder::Cpu(0),
            Holder::Cpu(63),
            Holder::Cpu(64),
            Holder::Cpu(511),
            Holder::Node(0),
            Holder::Node(127),
        ];
        for holder in holders.into_iter().rev() {
            directory.add(line, holder);
        }
        assert_eq!(all(&directory, line), holders);
        assert!(directory.has(line, Holder::Cpu(511)) && !directory.has(line + 1, Holder::Cpu(511)));
        directory.remove(line, Holder::Cpu(64));
        assert_eq!(all(&directory, line).len(), 5);
    }

    #[test]
    fn stamps_never_go_back_and_owners_do() {
        let mut directory = Directory::new((0, 0x1000), 2, 1);
        assert_eq!((directory.owner(3), directory.stamp(3)), (None, 0));
        directory.stored(3, 50);
        directory.stored(3, 40);
        directory.set_owner(3, Some(1));
        assert_eq!((directory.owner(3), directory.stamp(3)), (Some(1), 50));
        directory.set_owner(3, None);
        assert_eq!(directory.owner(3), None);
    }

    #[test]
    fn outside_of_memory_is_nothing() {
        let mut directory = Directory::new((0x1000, 0x2000), 1, 1);
        for line in [0, 0x2000 >> 6, u64::MAX >> 6] {
            directory.add(line, Holder::Cpu(0));
            directory.set_owner(line, Some(0));
            assert_eq!((directory.owner(line), all(&directory, line).len()), (None, 0));
        }
    }
}
