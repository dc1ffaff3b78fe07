//! Where the cycles of a run went: those of its slowest CPU, by what they were spent on.

use serde_json::Value;

use crate::cell::Cell;
use crate::metric::measured;
use crate::results::{Record, Results};

/// What cycles are spent on: metric, and how a sentence calls it.
const PARTS: [(&str, &str); 12] = [
    ("instructions", "instructions"),
    ("wait_l2", "second-level cache"),
    ("wait_llc", "last-level cache"),
    ("wait_transfer_local", "other caches of the node"),
    ("wait_transfer_remote", "caches of other nodes"),
    ("wait_dram_local", "local memory"),
    ("wait_dram_remote", "remote memory"),
    ("wait_upgrade", "becoming the only holder of lines"),
    ("wait_bandwidth", "bandwidth"),
    ("wait_walk", "page-table walks"),
    ("wait_maintenance", "maintenance and TLB invalidation"),
    ("idle", "sleeping"),
];

/// Cycles of the CPU that took longest, in the order of the parts; empty if the cell was not run.
pub fn of(results: &Results, name: &str, of: &str) -> Vec<(&'static str, f64)> {
    let cpu = |record: &Record| record.get("cpu").and_then(Value::as_u64);
    let total = |record: &Record, value: f64| {
        let idle = results.values(name, of, "idle").find(|(other, _)| cpu(other) == cpu(record));
        value + idle.map_or(0.0, |(_, idle)| idle)
    };
    let slowest = results
        .values(name, of, "cycles")
        .max_by(|a, b| total(a.0, a.1).total_cmp(&total(b.0, b.1)))
        .and_then(|(record, _)| cpu(record));
    let Some(slowest) = slowest else { return Vec::new() };
    let part = |(metric, called): (&'static str, &'static str)| {
        let value = results.values(name, of, metric).find(|(record, _)| cpu(record) == Some(slowest));
        value.map(|(_, value)| (called, value))
    };
    PARTS.into_iter().filter_map(part).collect()
}

/// What the first has more of than the second: the parts with the largest differences first.
pub fn differences(
    first: &[(&'static str, f64)],
    second: &[(&'static str, f64)],
) -> Vec<(&'static str, f64)> {
    let of = |parts: &[(&str, f64)], name: &str| {
        parts.iter().find(|(part, _)| *part == name).map_or(0.0, |(_, value)| *value)
    };
    let mut all: Vec<(&'static str, f64)> =
        PARTS.iter().map(|&(_, name)| (name, of(first, name) - of(second, name))).collect();
    all.retain(|(_, difference)| *difference != 0.0);
    all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    all
}

/// The three largest differences of two cells, in words.
pub fn sentence(results: &Results, first: &Cell, second: &Cell) -> String {
    let parts = |cell: &Cell| of(results, &cell.name(), measured(&cell.work));
    let (a, b) = (parts(first), parts(second));
    let all: f64 = b.iter().map(|(_, value)| value).sum();
    if all == 0.0 {
        return String::new();
    }
    let largest = differences(&a, &b).into_iter().take(3);
    let words: Vec<String> =
        largest.map(|(name, difference)| format!("{name} {:+.1} %", difference / all * 100.0)).collect();
    format!("of the other's cycles on the slowest CPU: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_comes_first() {
        let first = [("instructions", 100.0), ("local memory", 10.0), ("sleeping", 5.0)];
        let second = [("instructions", 90.0), ("local memory", 60.0), ("sleeping", 5.0)];
        assert_eq!(differences(&first, &second), [("local memory", -50.0), ("instructions", 10.0)]);
    }
}
