//! What everything costs: the `[model]` part of a machine file.
//!
//! All latencies are cycles that the CPU waits *in addition* to the instruction's own time. The defaults describe no machine in
//! particular: a server core of about 2020 with a small last-level cache, so that workloads of some ten MiB reach memory. Where a
//! default has a source, its field says so.

use serde::{Deserialize, Serialize};

use crate::LINE;
use crate::time::{Time, cycles};

/// One level of cache. `kib = 0`: there is no such level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Size in KiB.
    pub kib: u64,
    /// Associativity. The number of sets has to be a power of two.
    pub ways: u32,
    /// Cycles of a hit. A hit in the first level is part of the instruction's time, so this has to be 0 there.
    #[serde(default)]
    pub latency: u32,
}

/// The translation look-aside buffer: one level, all page sizes, FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tlb {
    /// Entries. Default: the second level of a Neoverse N1 (Arm's technical reference manual: 1280 entries, 5 ways).
    pub entries: u32,
    /// Associativity.
    pub ways: u32,
}

/// Memory and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Cycles of a read of DRAM at distance 10; at distance *d* it is *d*/10 of that. Published: local 80 to 110 ns.
    pub latency: u32,
    /// Cycles to take a line out of another CPU's cache, at distance 10.
    pub transfer: u32,
    /// Cycles to become the only holder of a line that one has already, at distance 10.
    pub upgrade: u32,
    /// MB/s of each memory controller (one per node).
    pub controller_mb_s: u32,
    /// MB/s of each directed link (one per ordered pair of nodes).
    pub link_mb_s: u32,
}

/// The instructions that maintain caches and TLBs, and interrupts between CPUs. Estimates: nobody publishes these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Cycles of a DC or IC instruction whose line needs nothing.
    pub maintenance: u32,
    /// Cycles of a TLB invalidation for this CPU.
    pub tlbi_local: u32,
    /// Cycles of a broadcast one for the CPU that asks.
    pub tlbi_broadcast: u32,
    /// Cycles of a broadcast one for every other CPU.
    pub tlbi_receive: u32,
    /// Cycles from sending an interrupt to another CPU until that CPU runs its first instruction.
    pub interrupt: u32,
}

/// What the `prefetching` core model does better than the `blocking` one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prefetching {
    /// Streams that are followed at the same time.
    pub streams: u32,
    /// Lines of a stream that are on their way at the same time.
    pub stream_parallel: u32,
    /// Independent misses that overlap.
    pub parallel: u32,
}

/// All parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Clock of the cores: turns MB/s into bytes per cycle.
    pub clock_mhz: u32,
    /// Instructions that start per cycle when nothing waits.
    pub instructions_per_cycle: u32,
    /// The private first level (data).
    pub l1: Cache,
    /// The private second level.
    pub l2: Cache,
    /// The last level, one per node.
    pub llc: Cache,
    /// The TLB.
    pub tlb: Tlb,
    /// Memory.
    pub memory: Memory,
    /// Events.
    pub events: Events,
    /// The better core.
    pub prefetching: Prefetching,
    /// Read latency under load: pairs of load (percent of the peak bandwidth) and latency (percent of the idle one), linear in
    /// between. Default: a Skylake NUMA link as measured for the Mess simulator: 133 ns idle, 145 at 17.5 of 35.1
    /// GB/s, 176 at 29.6, 228 at 34.0, 440 saturated.
    pub load_curve: Vec<[u32; 2]>,
    /// Cycles over which load is averaged.
    pub window: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { latency: 200, transfer: 80, upgrade: 40, controller_mb_s: 40_000, link_mb_s: 20_000 }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { maintenance: 10, tlbi_local: 20, tlbi_broadcast: 150, tlbi_receive: 40, interrupt: 500 }
    }
}

impl Default for Prefetching {
    fn default() -> Self {
        Self { streams: 16, stream_parallel: 10, parallel: 4 }
    }
}

impl Default for Params {
    fn default() -> Self {
        Self {
            clock_mhz: 2_600,
            instructions_per_cycle: 1,
            // Neoverse N1 (Arm's technical reference manual): 64 KiB, 4 ways; 512 KiB or 1 MiB, 8 ways.
            l1: Cache { kib: 64, ways: 4, latency: 0 },
            l2: Cache { kib: 512, ways: 8, latency: 12 },
            llc: Cache { kib: 4_096, ways: 16, latency: 40 },
            tlb: Tlb { entries: 1_280, ways: 5 },
            memory: Memory::default(),
            events: Events::default(),
            prefetching: Prefetching::default(),
            load_curve: vec![[0, 100], [50, 109], [84, 132], [97, 171], [100, 331]],
            window: 10_000,
        }
    }
}

impl Params {
    /// Refuses what the model cannot represent.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<(), String> {
        for (name, cache) in [("l1", self.l1), ("l2", self.l2), ("llc", self.llc)] {
            let lines = cache.kib.saturating_mul(1024) / LINE;
            if cache.kib > 1 << 20 || sets(lines, cache.ways).is_none() && cache.kib > 0 {
                return Err(format!("model.{name}: {} KiB in {} ways", cache.kib, cache.ways)
                    + " (the number of sets has to be a power of two)");
            }
        }
        if self.l2.kib > 0 && self.l2.latency == 0 || self.llc.kib > 0 && self.llc.latency == 0 {
            return Err("model.l2 and model.llc need a latency".into());
        }
        if self.l1.kib == 0 || self.l1.latency != 0 {
            return Err("model.l1: it has to exist and has no latency of its own".into());
        }
        if sets(self.tlb.entries.into(), self.tlb.ways).is_none() || self.tlb.entries > 1 << 20 {
            return Err("model.tlb: the number of sets has to be a power of two".into());
        }
        let Prefetching { streams, stream_parallel, parallel } = self.prefetching;
        let positive = [
            ("clock_mhz", self.clock_mhz),
            ("instructions_per_cycle", self.instructions_per_cycle),
            ("memory.controller_mb_s", self.memory.controller_mb_s),
            ("memory.link_mb_s", self.memory.link_mb_s),
            ("prefetching.streams", streams),
            ("prefetching.stream_parallel", stream_parallel),
            ("prefetching.parallel", parallel),
            ("window", self.window),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("model.{name} is 0"));
        }
        if self.instructions_per_cycle > 16 {
            return Err("model.instructions_per_cycle is more than 16".into());
        }
        let Memory { controller_mb_s, link_mb_s, .. } = self.memory;
        if bytes_per_window(controller_mb_s.min(link_mb_s), self) < LINE {
            return Err("model.window is too short for a single line".into());
        }
        let rising =
            self.load_curve.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]);
        if self.load_curve.first() != Some(&[0, 100]) || !rising {
            return Err("model.load_curve has to begin with [0, 100] and to rise".into());
        }
        Ok(())
    }

    /// The time of an instruction that waits for nothing.
    pub fn instruction(&self) -> Time {
        cycles(1) / Time::from(self.instructions_per_cycle.max(1))
    }
}

/// Bytes that a resource of this bandwidth moves in a window.
pub fn bytes_per_window(mb_s: u32, params: &Params) -> u64 {
    u64::from(mb_s) * u64::from(params.window) / u64::from(params.clock_mhz.max(1))
}

/// The number of sets of `lines` lines in `ways` ways, if that works.
pub fn sets(lines: u64, ways: u32) -> Option<u64> {
    let sets = lines.checked_div(ways.into())?;
    (sets * u64::from(ways) == lines && sets.is_power_of_two()).then_some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(Params::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_modelled_is_named() {
        let wrong = |change: fn(&mut Params)| {
            let mut params = Params::default();
            change(&mut params);
            params.check().unwrap_err()
        };
        assert!(wrong(|p| p.l2.ways = 7).contains("model.l2"));
        assert!(wrong(|p| p.l2.ways = 0).contains("model.l2"));
        assert!(wrong(|p| p.l2.kib = u64::MAX).contains("model.l2"));
        assert!(wrong(|p| p.llc.latency = 0).contains("latency"));
        assert!(wrong(|p| p.l1.latency = 4).contains("model.l1"));
        assert!(wrong(|p| p.tlb.entries = 1_000).contains("model.tlb"));
        assert!(wrong(|p| p.window = 0).contains("model.window"));
        assert!(wrong(|p| p.window = 1).contains("model.window"));
        assert!(wrong(|p| p.load_curve[1] = [50, 90]).contains("load_curve"));
        assert!(wrong(|p| p.load_curve.clear()).contains("load_curve"));
        let mut none = Params::default();
        none.llc.kib = 0;
        assert_eq!(none.check(), Ok(()), "a level may be missing");
    }
}
