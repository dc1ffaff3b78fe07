//! Ring memory between kernels: coherent, or with a cache per cluster that nobody keeps coherent.
//!
//! Such a cache holds everything from the start on, and keeps what it holds until it is told: the worst that a real one can do, but for the
//! lines that a real one also loses or loads at any moment. With a seed, it does that too.

use crate::ring::{BELL_WORDS, RING_WORDS};
use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// A cache that is not coherent with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caching {
    /// Words of a line.
    pub(super) line: usize,
    /// Whether lines come and go by themselves, and when.
    pub(super) seed: Option<u64>,
}

std::thread_local! {
    static CACHING: Cell<Option<Caching>> = const { Cell::new(None) };
}

/// What the machines that this thread builds have. `None`: coherent memory.
pub(super) fn caching() -> Option<Caching> {
    CACHING.get()
}

/// Runs a test on machines with such caches.
pub(super) fn with_caching<T>(caching: Caching, test: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CACHING.set(None);
        }
    }
    CACHING.set(Some(caching));
    let _reset = Reset;
    test()
}

/// Words by the cluster that receives and the cluster that sends.
type Words = Vec<Vec<Vec<AtomicU64>>>;

fn words(clusters: usize) -> Words {
    let count = |to, from| if to == from { BELL_WORDS } else { RING_WORDS };
    let ring = |to, from| (0..count(to, from)).map(|_| AtomicU64::new(0)).collect();
    (0..clusters).map(|to| (0..clusters).map(|from| ring(to, from)).collect()).collect()
}

/// A line: the receiving and the sending cluster of its ring, and which of its lines.
type Line = (usize, usize, usize);

/// A cluster's cache: what it holds, and what that was when it was loaded.
struct Cache {
    held: Words,
    loaded: Words,
}

/// All ring memory of a machine.
pub(super) struct Store {
    memory: Words,
    caches: Vec<Cache>,
    line: usize,
    /// Whose lines are on their way to memory from now on, until somebody else cleans one; and which.
    slow: Mutex<(Option<usize>, Vec<Line>)>,
}

impl Store {
    pub(super) fn new(clusters: usize) -> Arc<Self> {
        let caches = if caching().is_some() { clusters } else { 0 };
        let cache = |_| Cache { held: words(clusters), loaded: words(clusters) };
        let line = caching().map_or(8, |caching| caching.line);
        let (memory, caches, slow) = (words(clusters), (0..caches).map(cache).collect(), Mutex::default());
        Arc::new(Self { memory, caches, line, slow })
    }
    pub(super) fn clusters(&self) -> usize {
        self.memory.len()
    }
    /// The ring from one cluster to another in memory.
    pub(super) fn memory(&self, from: usize, to: usize) -> &[AtomicU64] {
        &self.memory[to][from]
    }
    /// The same as a cluster sees it.
    pub(super) fn seen_by(&self, cluster: usize, from: usize, to: usize) -> &[AtomicU64] {
        self.caches.get(cluster).map_or(&self.memory[to][from], |cache| &cache.held[to][from])
    }

    /// The ring that these words, as the cluster sees them, are part of, and which of its lines they touch.
    fn find(&self, cluster: usize, words: &[AtomicU64]) -> Option<(usize, usize, core::ops::Range<usize>)> {
        let cache = self.caches.get(cluster)?;
        for (to, rings) in cache.held.iter().enumerate() {
            for (from, ring) in rings.iter().enumerate() {
                if ring.as_ptr_range().contains(&words.as_ptr()) {
                    let first = (words.as_ptr().addr() - ring.as_ptr().addr()) / size_of::<AtomicU64>();
                    return Some((to, from, first / self.line..(first + words.len()).div_ceil(self.line)));
                }
            }
        }
        panic!("maintenance of what is no ring");
    }

    fn each_word(&self, ring: &[AtomicU64], line: usize) -> core::ops::Range<usize> {
        line * self.line..((line + 1) * self.line).min(ring.len())
    }
    fn is_written(&self, cluster: usize, to: usize, from: usize, line: usize) -> bool {
        let cache = &self.caches[cluster];
        let (held, loaded) = (&cache.held[to][from], &cache.loaded[to][from]);
        self.each_word(held, line).any(|word| held[word].load(Relaxed) != loaded[word].load(Relaxed))
    }
    fn write_back(&self, cluster: usize, to: usize, from: usize, line: usize) {
        if self.is_written(cluster, to, from, line) {
            let cache = &self.caches[cluster];
            for word in self.each_word(&cache.held[to][from], line) {
                let value = cache.held[to][from][word].load(Relaxed);
                self.memory[to][from][word].store(value, Relaxed);
                cache.loaded[to][from][word].store(value, Relaxed);
            }
        }
    }
    fn load(&self, cluster: usize, to: usize, from: usize, line: usize) {
        let cache = &self.caches[cluster];
        for word in self.each_word(&cache.held[to][from], line) {
            let value = self.memory[to][from][word].load(Relaxed);
            cache.held[to][from][word].store(value, Relaxed);
            cache.loaded[to][from][word].store(value, Relaxed);
        }
    }

    /// What this cluster cleans comes to memory only just before another one cleans something: as if both did so at the same time.
    pub(super) fn slow_down(&self, cluster: usize) {
        self.slow.lock().expect("one thread").0 = Some(cluster);
    }

    pub(super) fn clean(&self, cluster: usize, words: &[AtomicU64]) -> u64 {
        let Some((to, from, lines)) = self.find(cluster, words) else { panic!("this memory is coherent") };
        let mut slow = self.slow.lock().expect("one thread");
        match slow.0 {
            Some(late) if late == cluster => {
                slow.1.extend(lines.clone().map(|line| (to, from, line)));
                return lines.len() as u64;
            }
            Some(late) => {
                slow.0 = None;
                slow.1.drain(..).for_each(|(to, from, line)| self.write_back(late, to, from, line));
            }
            None => {}
        }
        lines.clone().for_each(|line| self.write_back(cluster, to, from, line));
        lines.len() as u64
    }
    /// # Panics
    /// If something that was written here would be lost.
    pub(super) fn invalidate(&self, cluster: usize, words: &[AtomicU64]) -> u64 {
        let Some((to, from, lines)) = self.find(cluster, words) else { panic!("this memory is coherent") };
        for line in lines.clone() {
            assert!(
                !self.is_written(cluster, to, from, line),
                "line {line} of ring {from} to {to} was written"
            );
            self.load(cluster, to, from, line);
        }
        lines.len() as u64
    }
    /// Lines come and go.
    pub(super) fn drift(&self, cluster: usize, random: &mut u64) {
        let clusters = self.clusters();
        for (to, from) in (0..clusters).flat_map(|to| (0..clusters).map(move |from| (to, from))) {
            // What the control words and the first packets are in.
            for line in 0..self.memory[to][from].len().div_ceil(self.line).min(64) {
                // xorshift64*
                *random ^= *random >> 12;
                *random ^= *random << 25;
                *random ^= *random >> 27;
                if random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 62 == 0 {
                    self.write_back(cluster, to, from, line);
                    self.load(cluster, to, from, line);
                }
            }
        }
    }
}
