//! A trace: per thread, the misses of its caches in order, with the time in between, and what orders threads among each other.
//!
//! A miss is what the last level of the caches did not have; which lines miss hardly depends on where pages lie, so a trace can be replayed with other
//! placements. Times are not recorded: a replay makes them anew, from the time between misses, what a miss costs where the page lies, and
//! barriers and locks.

use skerry_cost_model::latency::Overlap;
use skerry_policy::Advice;

/// Misses of a thread on one page, one right behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Miss {
    /// The page: its number in the trace, from 0.
    pub page: u32,
    /// How many lines.
    pub lines: u8,
    /// Cycles before the first one in which the thread did not wait for memory.
    pub gap: u16,
    /// Whether they are written.
    pub write: bool,
    /// What the core can do meanwhile.
    pub overlap: Overlap,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// It misses.
    Miss(Miss),
    /// It computes for so many cycles.
    Compute(u32),
    /// It waits until all threads that go on are here.
    Barrier,
    /// It takes a lock.
    Lock(u32),
    /// It gives it back.
    Unlock(u32),
    /// It moves to another CPU.
    Move(u32),
    /// It advises all pages.
    Advise(Advice),
}

/// An [`Item`] in a word: a replay reads millions of them per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event(u64);

const MISS: u64 = 0;
const COMPUTE: u64 = 1;
const BARRIER: u64 = 2;
const LOCK: u64 = 3;
const UNLOCK: u64 = 4;
const MOVE: u64 = 5;
const ADVISE: u64 = 6;

impl Event {
    /// Packs it.
    pub const fn new(item: Item) -> Self {
        const fn with(kind: u64, argument: u32) -> u64 {
            kind | (argument as u64) << 32
        }
        Self(match item {
            Item::Miss(Miss { page, lines, gap, write, overlap }) => {
                let overlap = match overlap {
                    Overlap::None => 0,
                    Overlap::Independent => 1,
                    Overlap::Stream => 2,
                };
                let low =
                    MISS | (write as u64) << 3 | overlap << 4 | (lines as u64) << 8 | (gap as u64) << 16;
                low | (page as u64) << 32
            }
            Item::Compute(cycles) => with(COMPUTE, cycles),
            Item::Barrier => BARRIER,
            Item::Lock(lock) => with(LOCK, lock),
            Item::Unlock(lock) => with(UNLOCK, lock),
            Item::Move(cpu) => with(MOVE, cpu),
            Item::Advise(advice) => with(ADVISE, advice_number(advice)),
        })
    }

    /// The miss, if it is one.
    #[inline]
    pub const fn miss(self) -> Option<Miss> {
        if self.0 & 7 != MISS {
            return None;
        }
        let overlap = match self.0 >> 4 & 3 {
            0 => Overlap::None,
            1 => Overlap::Independent,
            _ => Overlap::Stream,
        };
        let (lines, gap) = ((self.0 >> 8) as u8, (self.0 >> 16) as u16);
        Some(Miss { page: (self.0 >> 32) as u32, lines, gap, write: self.0 >> 3 & 1 != 0, overlap })
    }

    /// Unpacks it.
    pub const fn item(self) -> Item {
        if let Some(miss) = self.miss() {
            return Item::Miss(miss);
        }
        let argument = (self.0 >> 32) as u32;
        match self.0 & 7 {
            COMPUTE => Item::Compute(argument),
            LOCK => Item::Lock(argument),
            UNLOCK => Item::Unlock(argument),
            MOVE => Item::Move(argument),
            ADVISE => Item::Advise(match argument {
                1 => Advice::NextTouch,
                2 => Advice::ReadMostly,
                _ => Advice::Normal,
            }),
            _ => Item::Barrier,
        }
    }
}

const fn advice_number(advice: Advice) -> u32 {
    match advice {
        Advice::Normal => 0,
        Advice::NextTouch => 1,
        Advice::ReadMostly => 2,
    }
}

/// A thread.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Thread {
    /// Where it starts; on a machine with fewer CPUs, modulo their number.
    pub cpu: u32,
    /// What it does.
    pub events: Vec<Event>,
}

impl Thread {
    /// On a CPU.
    pub const fn on(cpu: u32) -> Self {
        Self { cpu, events: Vec::new() }
    }
    /// Adds something.
    pub fn push(&mut self, item: Item) {
        self.events.push(Event::new(item));
    }
}

/// A trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// How many pages it is about.
    pub pages: u32,
    /// The threads.
    pub threads: Vec<Thread>,
}

impl Trace {
    /// Misses of all threads.
    pub fn misses(&self) -> u64 {
        let events = self.threads.iter().flat_map(|thread| &thread.events);
        events.filter_map(|event| event.miss()).map(|miss| u64::from(miss.lines)).sum()
    }

    /// Refuses what cannot be replayed.
    ///
    /// # Errors
    /// What is wrong, in a line.
    pub fn check(&self) -> Result<(), String> {
        if self.threads.is_empty() || self.threads.len() > 1024 {
            return Err(format!("{} threads", self.threads.len()));
        }
        if self.pages > 1 << 26 {
            return Err(format!("{} pages", self.pages));
        }
        let pages = self.threads.iter().flat_map(|thread| &thread.events).filter_map(|event| event.miss());
        match pages.map(|miss| miss.page).find(|&page| page >= self.pages) {
            Some(page) => Err(format!("page {page} of {}", self.pages)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_every_item() {
        for overlap in [Overlap::None, Overlap::Independent, Overlap::Stream] {
            for write in [false, true] {
                let miss = Miss { page: u32::MAX, lines: 64, gap: u16::MAX, write, overlap };
                assert_eq!(Event::new(Item::Miss(miss)).item(), Item::Miss(miss));
            }
        }
        let advice = [Advice::Normal, Advice::NextTouch, Advice::ReadMostly].map(Item::Advise);
        let others = [Item::Compute(u32::MAX), Item::Barrier, Item::Lock(7), Item::Unlock(7), Item::Move(3)];
        for item in others.into_iter().chain(advice) {
            assert_eq!(Event::new(item).item(), item);
        }
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let mut trace = Trace { pages: 1, threads: vec![Thread::on(0)] };
        assert_eq!(trace.check(), Ok(()));
        let miss = Miss { page: 1, lines: 1, gap: 0, write: false, overlap: Overlap::None };
        trace.threads[0].push(Item::Miss(miss));
        assert!(trace.check().unwrap_err().contains("page 1"));
        assert!(Trace::default().check().is_err());
    }
}
