//! Phases of a run: what the counters did between two markers.
//!
//! A marker is executed by one CPU and concerns all. The others do not look at it at once: they find it in the log at the next block
//! they execute, until when nothing of theirs has changed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use skerry_cost_model::{Counters, Time};

use crate::decode::Marker;

/// Clock and counters of a CPU at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Its clock.
    pub clock: Time,
    /// Its counters.
    pub counters: Counters,
}

/// All markers so far, with the clock of the CPU that executed each.
#[derive(Debug, Default)]
pub struct Log {
    markers: Mutex<Vec<(Marker, Time)>>,
    length: AtomicUsize,
}

/// A phase as a whole: how often it began, and the time between its markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// How often.
    pub times: u64,
    /// From the CPU that executed the first marker to the one that executed the last.
    pub elapsed: Time,
    begun: Option<Time>,
}

impl Log {
    /// A marker was executed.
    pub fn push(&self, marker: Marker, clock: Time) {
        let mut markers = self.lock();
        markers.push((marker, clock));
        self.length.store(markers.len(), Ordering::Release);
    }
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Those from `from` on.
    pub fn since(&self, from: usize) -> Vec<Marker> {
        self.lock().iter().skip(from).map(|(marker, _)| *marker).collect()
    }
    /// All phases, and how many of them were never ended or never begun.
    pub fn spans(&self) -> (BTreeMap<u16, Span>, u64) {
        let mut spans: BTreeMap<u16, Span> = BTreeMap::new();
        let mut unpaired = 0;
        for &(marker, clock) in self.lock().iter() {
            match marker {
                Marker::Begin(id) => {
                    let span = spans.entry(id).or_default();
                    span.times += 1;
                    unpaired += u64::from(span.begun.replace(clock).is_some());
                }
                Marker::End(id) => match spans.entry(id).or_default().begun.take() {
                    Some(begun) => spans.entry(id).or_default().elapsed += clock.saturating_sub(begun),
                    None => unpaired += 1,
                },
                Marker::Request(_) => {}
            }
        }
        unpaired += spans.values().filter(|span| span.begun.is_some()).count() as u64;
        (spans, unpaired)
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Marker, Time)>> {
        self.markers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What one CPU did in each phase.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    seen: usize,
    open: BTreeMap<u16, Sample>,
    done: BTreeMap<u16, Sample>,
}

impl Phases {
    /// Whether there are markers that this CPU has not looked at.
    #[inline]
    pub fn is_behind(&self, log: &Log) -> bool {
        self.seen != log.len()
    }

    /// The phases that it is in.
    pub fn running(&self) -> impl Iterator<Item = u16> + '_ {
        self.open.keys().copied()
    }

    /// Looks at them.
    pub fn catch_up(&mut self, log: &Log, now: Sample) {
        for marker in log.since(self.seen) {
            self.seen += 1;
            match marker {
                Marker::Begin(id) => drop(self.open.insert(id, now)),
                Marker::End(id) => {
                    let Some(start) = self.open.remove(&id) else { continue };
                    let sum = self.done.entry(id).or_default();
                    sum.clock += now.clock - start.clock;
                    sum.counters.add(&now.counters.since(&start.counters));
                }
                Marker::Request(_) => {}
            }
        }
    }

    /// The sums of a phase.
    pub fn get(&self, id: u16) -> Sample {
        self.done.get(&id).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: Time) -> Sample {
        Sample { clock, counters: Counters { instructions: clock / 10, ..Counters::default() } }
    }

    #[test]
    fn phases_are_sums_over_all_their_times() {
        let (log, mut cpu) = (Log::default(), Phases::default());
        for (marker, clock) in
            [(Marker::Begin(1), 100), (Marker::End(1), 250), (Marker::Begin(1), 300), (Marker::End(1), 310)]
        {
            log.push(marker, clock);
            assert!(cpu.is_behind(&log));
            cpu.catch_up(&log, at(clock));
        }
        assert!(!cpu.is_behind(&log));
        assert_eq!((cpu.get(1).clock, cpu.get(1).counters.instructions), (160, 16));
        let (spans, unpaired) = log.spans();
        assert_eq!((spans[&1].times, spans[&1].elapsed, unpaired), (2, 160, 0));
    }

    #[test]
    fn a_cpu_that_slept_through_a_phase_did_nothing_in_it() {
        let (log, mut cpu) = (Log::default(), Phases::default());
        log.push(Marker::Begin(1), 100);
        log.push(Marker::End(1), 200);
        cpu.catch_up(&log, at(50));
        assert_eq!(cpu.get(1).clock, 0);
    }

    #[test]
    fn markers_without_a_partner_are_counted() {
        let log = Log::default();
        log.push(Marker::End(3), 1);
        log.push(Marker::Begin(4), 2);
        log.push(Marker::Begin(4), 3);
        assert_eq!(log.spans().1, 3);
    }
}
