//! What an application's threads do with memory, for replays with other placements (`skerry_replay`): the lines that they read from memory, and the time of
//! their own in between.
//!
//! A thread is told by its space (TTBR0) and the place of its UTCB (TPIDRRO_EL0, which the kernel loads at every switch). A space is an
//! application's once a thread in it has said so by a marker ([`skerry_abi::marker`]); kernels and servers never do.
//! Only what runs with addresses of user space counts, so neither time nor misses of kernels are in it.
//!
//! **Own time** is the CPU's clock less what depends on placement or on others: waits for memory and for room on the way to it, maintenance, sleep. Hits in
//! caches, lines from other CPUs' caches, upgrades and walks stay in: pages that lie elsewhere do not change them.
//!
//! A page is told by its virtual address; numbers in the trace are in that order.

use std::collections::{HashMap, HashSet};

use skerry_abi::layout::{PINNED_BASE, PINNED_END};
use skerry_cost_model::latency::Overlap;
use skerry_cost_model::{CYCLE, Time};
use skerry_replay::{Event, Item, Miss, Thread, Trace};

/// A thread, as a CPU sees it: the base of its tables, and where its UTCB is.
pub type Whom = (u64, u64);

/// Events of a recording; more are not kept, and the run says so. They take 512 MiB.
const MOST: usize = 1 << 26;
/// Lines that are put together in an event if they are of one page and of one kind.
const TOGETHER: u64 = 16;

/// An access that the first level did not answer, or that wrote.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// Its page, by virtual address.
    pub page: u64,
    /// Lines that came from memory for it.
    pub lines: u64,
    /// Those of them that came from the own node's.
    pub local: u64,
    /// Whether the first level lacked it.
    pub missed: bool,
    /// Whether it writes.
    pub write: bool,
    /// What the core can do meanwhile.
    pub overlap: Overlap,
}

/// What was recorded of a thread.
#[derive(Debug, Default)]
struct Tape {
    /// Where it began.
    first: u32,
    /// Where it is.
    cpu: u32,
    events: Vec<Event>,
    /// Own time since the last event.
    own: Time,
    /// The last miss: others may join it.
    pending: Option<Miss>,
    /// It waits for others.
    waits: bool,
    /// Pages that it has read, and written.
    known: [HashSet<u32>; 2],
}

/// A trace, and how many of its lines were local and remote in the recorded run; or why there is none.
pub type Made = Result<(Trace, [u64; 2]), String>;

/// All tapes.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Whether there is to be a trace; else it only knows who runs.
    traces: bool,
    spaces: HashSet<u64>,
    threads: HashMap<Whom, usize>,
    tapes: Vec<Tape>,
    numbers: HashMap<u64, u32>,
    /// Virtual pages in the order in which they were met.
    pages: Vec<u64>,
    events: usize,
    lost: u64,
    /// Lines in the tapes: local, remote.
    lines: [u64; 2],
    /// How long each tape was when the measured phase ended last, and the lines then.
    kept: Option<(Vec<usize>, [u64; 2])>,
}

impl Recorder {
    /// For a trace, or only to know who runs.
    pub fn new(traces: bool) -> Self {
        Self { traces, ..Self::default() }
    }

    /// Events that there was no room for.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A thread says that it begins, on a CPU.
    pub fn announce(&mut self, whom: Whom, cpu: u16) -> usize {
        self.spaces.insert(whom.0);
        // One that was in this place has ended.
        self.threads.insert(whom, self.tapes.len());
        self.tapes.push(Tape { first: cpu.into(), cpu: cpu.into(), ..Tape::default() });
        self.tapes.len() - 1
    }

    /// The thread that runs on a CPU, if it is an application's.
    pub fn find(&mut self, whom: Whom, cpu: u16) -> Option<usize> {
        if !self.spaces.contains(&whom.0) {
            return None;
        }
        let Some(&thread) = self.threads.get(&whom) else { return Some(self.announce(whom, cpu)) };
        if self.tapes[thread].cpu != u32::from(cpu) {
            self.tapes[thread].cpu = cpu.into();
            self.push(thread, Item::Move(cpu.into()));
        }
        Some(thread)
    }

    /// Time of its own has passed.
    pub fn spend(&mut self, thread: usize, time: Time) {
        let tape = &mut self.tapes[thread];
        if !tape.waits {
            tape.own += time;
        }
    }

    /// It waits for others from now on.
    pub fn waits(&mut self, thread: usize) {
        self.tapes[thread].waits = true;
    }

    /// It does something that others wait for, or has waited for them.
    pub fn sync(&mut self, thread: usize, item: Item) {
        self.tapes[thread].waits = false;
        self.push(thread, item);
    }

    /// It accesses memory.
    pub fn touch(&mut self, thread: usize, touch: Touch) {
        let address = touch.page << 12;
        if !self.traces || self.tapes[thread].waits || (PINNED_BASE..PINNED_END).contains(&address) {
            return;
        }
        self.lines[0] += touch.local;
        self.lines[1] += touch.lines - touch.local;
        let next = self.pages.len() as u32;
        let page = *self.numbers.entry(touch.page).or_insert(next);
        if page == next {
            self.pages.push(touch.page);
        }
        let tape = &mut self.tapes[thread];
        let [read, written] = &mut tape.known;
        let fresh = if touch.write { written.insert(page) } else { read.insert(page) };
        if touch.lines == 0 {
            // No line from memory, but who replays has to know that the page is used, and written.
            if !(fresh || touch.missed && touch.write) {
                return;
            }
            if let Some(last) = tape.pending.as_mut().filter(|last| last.page == page) {
                last.write |= touch.write;
                return;
            }
        }
        let lines = touch.lines.min(TOGETHER);
        let mut gap = tape.own / CYCLE;
        tape.own %= CYCLE;
        if let Some(last) = &mut tape.pending {
            let same = (last.page, last.write, last.overlap) == (page, touch.write, touch.overlap)
                || lines == 0 && last.page == page;
            let sum = u64::from(last.gap) + gap;
            if same && u64::from(last.lines) + lines <= TOGETHER && sum <= u16::MAX.into() {
                last.lines += lines as u8;
                last.gap = sum as u16;
                return;
            }
        }
        self.flush(thread);
        if gap > u16::MAX.into() {
            self.compute(thread, gap);
            gap = 0;
        }
        let (gap, lines) = (gap as u16, lines as u8);
        self.tapes[thread].pending =
            Some(Miss { page, lines, gap, write: touch.write, overlap: touch.overlap });
    }

    /// The measured phase has ended: unless there is another one, the rest is of no interest.
    pub fn measured(&mut self) {
        for thread in 0..self.tapes.len() {
            self.rest(thread);
        }
        self.kept = Some((self.tapes.iter().map(|tape| tape.events.len()).collect(), self.lines));
    }

    /// The trace, and how many of its lines were local and remote.
    ///
    /// # Errors
    /// If there is nothing in it.
    pub fn finish(mut self) -> Made {
        if self.kept.is_none() {
            self.measured();
        }
        let (kept, lines) = self.kept.unwrap_or_default();
        let mut threads = Vec::new();
        for (mut tape, kept) in self.tapes.into_iter().zip(kept) {
            tape.events.truncate(kept);
            if tape.events.iter().any(|event| event.miss().is_some()) {
                threads.push(Thread { cpu: tape.first, events: tape.events });
            }
        }
        if threads.is_empty() {
            return Err("no thread of an application has said that it begins, or none has missed".into());
        }
        let events = || threads.iter().flat_map(|thread| &thread.events);
        let used: HashSet<u32> = events().filter_map(|event| event.miss()).map(|miss| miss.page).collect();
        let mut used: Vec<u32> = used.into_iter().collect();
        used.sort_by_key(|&page| self.pages[page as usize]);
        let renamed: HashMap<u32, u32> = used.iter().copied().zip(0..).collect();
        for event in threads.iter_mut().flat_map(|thread| &mut thread.events) {
            if let Some(miss) = event.miss() {
                *event = Event::new(Item::Miss(Miss { page: renamed[&miss.page], ..miss }));
            }
        }
        let trace = Trace { pages: used.len() as u32, threads };
        trace.check().map(|()| (trace, lines))
    }

    /// All that a tape still holds back.
    fn rest(&mut self, thread: usize) {
        self.flush(thread);
        let own = &mut self.tapes[thread].own;
        let cycles = *own / CYCLE;
        *own %= CYCLE;
        if cycles > 0 {
            self.compute(thread, cycles);
        }
    }

    fn push(&mut self, thread: usize, item: Item) {
        self.rest(thread);
        self.keep(thread, item);
    }

    fn flush(&mut self, thread: usize) {
        if let Some(miss) = self.tapes[thread].pending.take() {
            self.keep(thread, Item::Miss(miss));
        }
    }

    fn compute(&mut self, thread: usize, mut cycles: u64) {
        while cycles > 0 {
            let part = cycles.min(u32::MAX.into());
            self.keep(thread, Item::Compute(part as u32));
            cycles -= part;
        }
    }

    fn keep(&mut self, thread: usize, item: Item) {
        if !self.traces {
            return;
        }
        if self.events == MOST {
            self.lost += 1;
            return;
        }
        self.events += 1;
        self.tapes[thread].events.push(Event::new(item));
    }
}
