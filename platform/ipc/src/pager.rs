//! `pager`: what a task asks of the app pager thread of its CPU (which also gets its page faults). Level 1.

use crate::{Chunk, Reader, Wire, Writer, level};

interface! {
    "pager", id 4, level level::Pager;
    /// A new thread of the task on any CPU of the machine, started at once with `argument` in x0. Returns its number.
    1 = ThreadCreate thread_create(cpu: u16, entry: u64, stack: u64, argument: u64) -> u32;
    /// Ends the calling thread; never answered. The task ends with its last thread.
    2 = ThreadExit thread_exit(code: u64) -> ();
    /// Waits until the thread with this number has ended.
    3 = ThreadJoin thread_join(number: u32) -> ThreadEnd;
    /// A new region of the task: `base` and `size` are multiples of the page size, `kind` a [`RegionKind`] with flags.
    4 = RegionCreate region_create(base: u64, size: u64, kind: u64) -> ();
    /// What the task's faults on measured regions cost on one node.
    5 = Stats stats(node: u16) -> Stats;
    /// How many of the `pages` pages from `base` on lie in frames of `node`.
    6 = FramesByNode frames_by_node(base: u64, pages: u64, node: u16) -> u64;
    /// Text for the console, as in the interface `console`.
    7 = Log log(last: bool, text: Chunk) -> ();
    /// Ends the whole task; never answered.
    8 = TaskEnd task_end(code: u64, reason: Chunk) -> ();
}

/// Who shares a region's frames. The word also carries [`MEASURED`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum RegionKind {
    /// The same frame on every node; readable and writable.
    Global = 0,
    /// A frame of its own on every node; readable and writable.
    Local = 1,
    /// One copy per node; never writable.
    ReadOnly = 2,
}

/// Flag of a region's kind word: its faults are counted in [`Stats`].
pub const MEASURED: u64 = 1 << 8;

impl RegionKind {
    /// Decodes a kind word into the kind and whether the region is measured.
    pub const fn decode(word: u64) -> Option<(Self, bool)> {
        let kind = match word & !MEASURED {
            0 => Self::Global,
            1 => Self::Local,
            2 => Self::ReadOnly,
            _ => return None,
        };
        Some((kind, word & MEASURED != 0))
    }
}

/// How a thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadEnd {
    /// It called exit with this code.
    Exited(u64),
    /// It died of a fault or an exception.
    Died,
}

impl Wire for ThreadEnd {
    const WORDS: usize = 2;
    fn put(&self, out: &mut Writer<'_>) {
        let (died, code) = match *self {
            Self::Exited(code) => (false, code),
            Self::Died => (true, 0),
        };
        died.put(out);
        code.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let died = bool::take(input)?;
        let code = u64::take(input)?;
        Some(if died { Self::Died } else { Self::Exited(code) })
    }
}

/// Counts of one task on one node, over its measured regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Page faults answered with a new mapping.
    pub faults: u64,
    /// Page faults on what was mapped already (another thread of the space was faster).
    pub spurious: u64,
    /// Questions to the master table.
    pub lookups: u64,
    /// Mappings taken over from the master table.
    pub takeovers: u64,
    /// Frames taken from the pool (including those given back after a lost race).
    pub allocations: u64,
}

impl Stats {
    /// As an array, in the order of the fields.
    pub const fn to_array(self) -> [u64; 5] {
        [self.faults, self.spurious, self.lookups, self.takeovers, self.allocations]
    }
    /// The inverse of [`Stats::to_array`].
    pub const fn from_array([faults, spurious, lookups, takeovers, allocations]: [u64; 5]) -> Self {
        Self { faults, spurious, lookups, takeovers, allocations }
    }
    /// Adds another node's or pager's counts.
    pub fn add(&mut self, other: Self) {
        let (mut sum, other) = (self.to_array(), other.to_array());
        sum.iter_mut().zip(other).for_each(|(sum, value)| *sum = sum.wrapping_add(value));
        *self = Self::from_array(sum);
    }
}

impl Wire for Stats {
    const WORDS: usize = 5;
    fn put(&self, out: &mut Writer<'_>) {
        self.to_array().iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let mut words = [0; 5];
        for word in &mut words {
            *word = input.take()?;
        }
        Some(Self::from_array(words))
    }
}
