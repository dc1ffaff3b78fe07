//! What is read off a cell.

use serde_json::Value;

use crate::cell::{Cell, Work};
use crate::results::Results;

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Modelled cycles from the beginning of what is measured to its end.
    Elapsed,
    /// Lines that came from another node: from its memory, or out of its caches.
    Remote,
    /// The same of one CPU.
    RemoteOf(u64),
    /// Modelled cycles per load of the list of this size in the memory of a node.
    PerLoad {
        /// The node.
        home: u64,
        /// Bytes of the list.
        bytes: u64,
    },
    /// [`Metric::Elapsed`] per round: a round trip, or a page that is taken away.
    PerRound,
    /// [`Metric::Remote`] per round.
    RemotePerRound,
    /// Cycles that the first CPU was awake, per round.
    CallerPerRound,
    /// Modelled cycles of the same walk with every access local and faults for nothing but clearing, of a cell whose pages were touched before.
    Floor,
    /// Page faults.
    Faults,
}

/// Round trips that [`Work::PingPong`] measures.
pub const ROUND_TRIPS: f64 = 64.0;
/// Rounds that [`Work::Unmap`] measures, and pages of a call with many.
const UNMAPS: f64 = 64.0;
const BATCH: f64 = 63.0;

fn rounds(work: &Work) -> f64 {
    match work {
        Work::PingPong => ROUND_TRIPS,
        Work::Unmap { batch, .. } => UNMAPS * if *batch { BATCH } else { 1.0 },
        Work::ArrayWalk { .. } | Work::Latency { .. } => 1.0,
    }
}

/// The part of a program that its phase is about, as records say in `of`.
pub fn measured(work: &Work) -> &'static str {
    match work {
        Work::ArrayWalk { .. } => "array-walk.measured",
        Work::Latency { .. } => "latency.modelled",
        Work::PingPong => "kernel-bench.measured",
        Work::Unmap { .. } => "unmap.measured",
    }
}

impl Metric {
    /// Its value, if the cell was run.
    pub fn value(self, results: &Results, cell: &Cell) -> Option<f64> {
        let name = cell.name();
        let of = measured(&cell.work);
        let sum = |metric: &str, cpu: Option<u64>| {
            let number = |record: &crate::results::Record, key: &str| record.get(key).and_then(Value::as_u64);
            results
                .values(&name, of, metric)
                .filter(|(record, _)| cpu.is_none() || number(record, "cpu") == cpu)
                .map(|(_, value)| value)
                .reduce(|a, b| a + b)
        };
        let remote = |cpu| Some(sum("dram_remote", cpu)? + sum("transfers_remote", cpu)?);
        let rounds = rounds(&cell.work);
        match self {
            Self::Elapsed => sum("elapsed", None),
            Self::Floor => {
                results.values(&name, "array-walk.floor", "elapsed").map(|(_, value)| value).next()
            }
            Self::Remote => remote(None),
            Self::RemoteOf(cpu) => remote(Some(cpu)),
            Self::PerLoad { home, bytes } => {
                results.values(&name, of, "cycles-per-load").find_map(|(record, value)| {
                    let is = |key: &str, number| record.get(key).and_then(Value::as_u64) == Some(number);
                    (is("home", home) && is("bytes", bytes)).then_some(value)
                })
            }
            Self::PerRound => Some(sum("elapsed", None)? / rounds),
            Self::RemotePerRound => Some(remote(None)? / rounds),
            Self::CallerPerRound => {
                Some((sum("cycles", Some(0))? - sum("idle", Some(0)).unwrap_or(0.0)) / rounds)
            }
            Self::Faults => {
                results.values(&name, "array-walk.faults", "faults").map(|(_, value)| value).next()
            }
        }
    }

    /// In what.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Elapsed | Self::Floor | Self::PerLoad { .. } | Self::PerRound | Self::CallerPerRound => {
                "cycles"
            }
            Self::Remote | Self::RemoteOf(_) | Self::RemotePerRound => "accesses",
            Self::Faults => "faults",
        }
    }

    /// `modelled` or `exact`.
    pub const fn kind(self) -> &'static str {
        if matches!(self, Self::Faults) { "exact" } else { "modelled" }
    }
}
