//! Who holds which line: what keeps the caches of all CPUs and nodes coherent.
//!
//! An entry per line, in chunks of a page that are made on first use. It is precise: a bit is set exactly while the line is in the
//! CPU's private caches, or in the node's last level. Nothing limits the number of CPUs or nodes but memory: sets are words of bits.

use crate::cache::line_of;
use crate::time::Time;

/// Which kind of holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The private caches of a CPU.
    Cpu(u16),
    /// The last level of a node.
    Node(u16),
}

/// Lines of a chunk: 2 MiB of memory. So there are few chunks, and what no access has reached takes no memory of the host's.
const CHUNK_BITS: u32 = 15;
const CHUNK: usize = 1 << CHUNK_BITS;

/// The lines of a chunk. What belongs to a line lies together: a walk through memory that misses in the modelled caches misses in the
/// host's as well, once per entry. The first word holds the owner and the stamp, the others the set of holders: a bit per CPU, then a bit per node.
type Chunk = Box<[u64]>;

/// Bits of the owner in the first word: its number plus one, or 0. The others are the stamp, good for 10^12 cycles.
const OWNER_BITS: u32 = 16;
const OWNER: u64 = (1 << OWNER_BITS) - 1;

/// What there is to know of a line before it is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// When it was stored to.
    pub stamp: Time,
    /// Who may write it without asking.
    pub owner: Option<u16>,
    /// Whether the CPU that asks has it.
    pub mine: bool,
    /// Whether its node has it in its last level.
    pub in_last: bool,
    /// Whether anybody at all has it.
    pub anywhere: bool,
}

/// All lines of a range of memory.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The first line.
    first: u64,
    lines: usize,
    chunks: Vec<Option<Chunk>>,
    cpus: usize,
    /// Words per line.
    size: usize,
}

impl Directory {
    /// For the bytes from `start` to `end`.
    pub fn new((start, end): (u64, u64), cpus: usize, nodes: usize) -> Self {
        let lines = line_of(end).saturating_sub(line_of(start)) as usize;
        Self {
            first: line_of(start),
            lines,
            chunks: vec![None; lines.div_ceil(CHUNK)],
            cpus,
            size: 1 + (cpus + nodes).div_ceil(64),
        }
    }

    #[inline]
    fn place(&self, line: u64) -> Option<(usize, usize)> {
        let number = line.wrapping_sub(self.first) as usize;
        (number < self.lines).then_some((number >> CHUNK_BITS, number % CHUNK * self.size))
    }

    #[inline]
    fn entry(&self, line: u64) -> Option<&[u64]> {
        let (chunk, at) = self.place(line)?;
        self.chunks.get(chunk)?.as_ref()?.get(at..at + self.size)
    }

    #[inline]
    fn entry_mut(&mut self, line: u64) -> Option<&mut [u64]> {
        let (chunk, at) = self.place(line)?;
        let size = self.size;
        let chunk = self.chunks.get_mut(chunk)?.get_or_insert_with(|| vec![0; size * CHUNK].into());
        chunk.get_mut(at..at + size)
    }

    /// The CPU that may write the line without asking.
    #[inline]
    pub fn owner(&self, line: u64) -> Option<u16> {
        self.entry(line).and_then(|entry| owner(entry[0]))
    }

    /// Gives or takes that right.
    #[inline]
    pub fn set_owner(&mut self, line: u64, cpu: Option<u16>) {
        if let Some([first, ..]) = self.entry_mut(line) {
            *first = *first & !OWNER | named(cpu);
        }
    }

    /// When the line was stored to, as far as the directory was told.
    pub fn stamp(&self, line: u64) -> Time {
        self.entry(line).map_or(0, |entry| entry[0] >> OWNER_BITS)
    }

    /// It was stored to at this time.
    #[inline]
    pub fn stored(&mut self, line: u64, time: Time) {
        if let Some([first, ..]) = self.entry_mut(line) {
            *first = (*first >> OWNER_BITS).max(time) << OWNER_BITS | *first & OWNER;
        }
    }

    #[inline]
    fn bit(&self, holder: Holder) -> (usize, u64) {
        let position = match holder {
            Holder::Cpu(cpu) => usize::from(cpu),
            Holder::Node(node) => self.cpus + usize::from(node),
        };
        (1 + position / 64, 1 << (position % 64))
    }

    /// Notes that a holder has the line.
    pub fn add(&mut self, line: u64, holder: Holder) {
        let (word, bit) = self.bit(holder);
        if let Some(entry) = self.entry_mut(line) {
            entry[word] |= bit;
        }
    }

    /// Notes that it has it no more.
    #[inline]
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

    /// Everything that a CPU of `node` needs to know if the line is not in its first level.
    #[inline]
    pub fn look(&self, line: u64, cpu: u16, node: u16) -> Known {
        let (mine, here) = (self.bit(Holder::Cpu(cpu)), self.bit(Holder::Node(node)));
        let Some(entry) = self.entry(line) else { return Known::default() };
        Known {
            stamp: entry[0] >> OWNER_BITS,
            owner: owner(entry[0]),
            mine: entry[mine.0] & mine.1 != 0,
            in_last: entry[here.0] & here.1 != 0,
            anywhere: entry[1..].iter().any(|&word| word != 0),
        }
    }

    /// A line has come to a CPU, and to the last level of its node if there is one. If it came to be read, and nobody else has it, the CPU owns
    /// it. Whether the last level is new to it.
    #[inline]
    pub fn arrive(&mut self, line: u64, cpu: u16, node: u16, has_last: bool, read: bool) -> bool {
        let (mine, here) = (self.bit(Holder::Cpu(cpu)), self.bit(Holder::Node(node)));
        let Some(entry) = self.entry_mut(line) else { return false };
        let is_new = entry[here.0] & here.1 == 0;
        entry[mine.0] &= !mine.1;
        entry[here.0] &= !here.1;
        if read && entry[1..].iter().all(|&word| word == 0) {
            entry[0] = entry[0] & !OWNER | named(Some(cpu));
        }
        entry[mine.0] |= mine.1;
        if has_last || !is_new {
            entry[here.0] |= here.1;
        }
        is_new
    }

    /// A CPU has lost its last copy of a line.
    #[inline]
    pub fn leave(&mut self, line: u64, cpu: u16) {
        let (word, bit) = self.bit(Holder::Cpu(cpu));
        let Some(entry) = self.entry_mut(line) else { return };
        entry[word] &= !bit;
        if owner(entry[0]) == Some(cpu) {
            entry[0] &= !OWNER;
        }
    }

    /// The next holder at or behind `from`, in a fixed order: the CPUs, then the nodes. For loops that change the entry
    /// as they go: `while let Some((holder, next)) = …`.
    pub fn next(&self, line: u64, from: usize) -> Option<(Holder, usize)> {
        let words = &self.entry(line)?[1..];
        let mut position = from;
        while position < words.len() * 64 {
            let rest = words[position / 64] >> (position % 64);
            if rest == 0 {
                position = (position / 64 + 1) * 64;
                continue;
            }
            position += rest.trailing_zeros() as usize;
            let holder = match position.checked_sub(self.cpus) {
                None => Holder::Cpu(position as u16),
                Some(node) => Holder::Node(node as u16),
            };
            return Some((holder, position + 1));
        }
        None
    }
}

#[inline]
fn owner(first: u64) -> Option<u16> {
    (first as u16).checked_sub(1)
}

/// The bits of an owner. `Topology::check` refuses so many CPUs that the last one's number plus one would not fit.
fn named(cpu: Option<u16>) -> u64 {
    cpu.map_or(0, |cpu| u64::from(cpu) + 1)
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
    fn who_reads_a_line_alone_owns_it() {
        let mut directory = Directory::new((0, 0x1000), 2, 2);
        assert!(directory.arrive(5, 1, 0, true, true));
        let known = Known { stamp: 0, owner: Some(1), mine: true, in_last: true, anywhere: true };
        assert_eq!(directory.look(5, 1, 0), known);
        assert_eq!(directory.look(5, 0, 1), Known { mine: false, in_last: false, ..known });
        directory.leave(5, 0);
        assert_eq!(directory.owner(5), Some(1), "another CPU left");
        directory.leave(5, 1);
        assert_eq!((directory.owner(5), all(&directory, 5)), (None, vec![Holder::Node(0)]));
        assert!(!directory.arrive(5, 0, 0, true, true), "the last level had it");
        assert!(directory.arrive(5, 1, 1, false, true), "without a last level");
        assert_eq!(all(&directory, 5), [Holder::Cpu(0), Holder::Cpu(1), Holder::Node(0)]);
        assert_eq!(directory.owner(5), Some(0), "whoever comes second owns nothing");
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
