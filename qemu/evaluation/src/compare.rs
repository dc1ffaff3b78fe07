//! Two sets of records against each other: which cells became faster or slower, and where the cycles went.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::breakdown;
use crate::results::{Record, Results};

/// Below this difference two times are called equal, in percent: what another quantum may change.
pub const EQUAL: f64 = 2.0;

/// A cell in both sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The cell.
    pub case: String,
    /// Cycles of the first and of the second.
    pub cycles: [f64; 2],
    /// Where the difference is, the largest part first: part and cycles.
    pub parts: Vec<(&'static str, f64)>,
}

impl Difference {
    /// The second's time by the first's.
    pub fn ratio(&self) -> f64 {
        let [first, second] = self.cycles;
        if first == second { 1.0 } else { second / first }
    }
    /// In a word.
    pub fn verdict(&self) -> &'static str {
        let percent = (self.ratio() - 1.0) * 100.0;
        if percent.abs() <= EQUAL {
            "equal"
        } else if percent < 0.0 {
            "faster"
        } else {
            "slower"
        }
    }
}

/// What two sets have in common, in the first one's order; and what makes them hard to compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Cells of both.
    pub differences: Vec<Difference>,
    /// Cells of only one.
    pub lonely: usize,
    /// Fields in which the sets differ, with both values: machines, revisions, versions.
    pub warnings: Vec<String>,
}

/// The fields that two sets, and the records of one set, have to have in common to be one experiment.
const SAME: [&str; 4] = ["revision", "dirty", "qemu", "guest_compiler"];

fn values(records: &[Record], key: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    records.iter().filter_map(|record| record.get(key)).map(text).collect()
}

/// The hashes of each machine file by the machine's name.
fn machines(records: &[Record]) -> BTreeSet<String> {
    let text =
        |record: &Record, key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = records.iter().filter(|record| record.contains_key("machine"));
    all.map(|record| {
        format!("{} ({})", text(record, "machine").trim_end_matches('+'), text(record, "machine_hash"))
    })
    .collect()
}

/// What is wrong with taking these records for one experiment: one line for each field of which they have several values.
pub fn mixed(records: &[Record]) -> Vec<String> {
    let several = |key: &&str| values(records, key).len() > 1;
    let words = |key: &str| format!("records of several {key}: {}", join(&values(records, key)));
    SAME.iter().chain(&["set"]).filter(|key| several(key)).map(|key| words(key)).collect()
}

fn join(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Compares.
pub fn compare(first: &[Record], second: &[Record]) -> Comparison {
    let results = [Results::of(first), Results::of(second)];
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for record in first.iter().chain(second) {
        if let Some(name) = record.get("case").and_then(Value::as_str)
            && record.get("metric").and_then(Value::as_str) == Some("elapsed")
            && seen.insert(name)
        {
            names.push(name);
        }
    }
    let mut comparison = Comparison::default();
    for name in names {
        let of = |results: &Results| {
            let record = results.cell(name).iter().find(|record| {
                record.get("metric").and_then(Value::as_str) == Some("elapsed")
                    && record.get("of").and_then(Value::as_str).is_some_and(|of| of.ends_with(".measured"))
            })?;
            Some((record.get("value")?.as_f64()?, record.get("of")?.as_str()?.to_owned()))
        };
        match (of(&results[0]), of(&results[1])) {
            (Some((a, part)), Some((b, _))) => {
                let [one, other] = [0, 1].map(|index| breakdown::of(&results[index], name, &part));
                let parts = breakdown::differences(&other, &one);
                comparison.differences.push(Difference { case: name.to_owned(), cycles: [a, b], parts });
            }
            (None, None) => {}
            _ => comparison.lonely += 1,
        }
    }
    for key in SAME {
        let both = [values(first, key), values(second, key)];
        if both[0] != both[1] {
            comparison.warnings.push(format!("{key}: {} against {}", join(&both[0]), join(&both[1])));
        }
    }
    let both = [machines(first), machines(second)];
    if both[0] != both[1] {
        comparison.warnings.push(format!("machines: {} against {}", join(&both[0]), join(&both[1])));
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Core, NUMA};
    use crate::invented;
    use crate::setup::Setup;
    use serde_json::json;

    fn set(times: &[(u8, u64)], revision: &str) -> Vec<Record> {
        let setup = Setup { quick: true, paper: false };
        let of = |&(overlap, time): &(u8, u64)| {
            invented::records("overlap", &setup.walk(NUMA, Core::Blocking, overlap, 1), time)
        };
        let mut all: Vec<Record> = times.iter().flat_map(of).collect();
        all.iter_mut().for_each(|record| drop(record.insert("revision".into(), json!(revision))));
        all
    }

    #[test]
    fn ratio_verdict_and_where_the_cycles_went() {
        let found = compare(
            &set(&[(0, 1000), (5, 1000), (7, 100)], "a"),
            &set(&[(0, 1300), (5, 1010), (8, 100)], "b"),
        );
        let [slower, equal] = found.differences.as_slice() else { panic!("{found:?}") };
        assert_eq!((slower.ratio(), slower.verdict()), (1.3, "slower"));
        assert_eq!(slower.parts, [("instructions", 150.0), ("local memory", 150.0)]);
        assert_eq!(equal.verdict(), "equal");
        assert_eq!(found.lonely, 2);
        assert_eq!(found.warnings, ["revision: a against b"]);
    }

    #[test]
    fn records_of_several_revisions_are_noticed() {
        let mut records = set(&[(0, 1000)], "a");
        assert_eq!(mixed(&records), [""; 0]);
        records.extend(set(&[(1, 1000)], "b"));
        assert_eq!(mixed(&records), ["records of several revision: a, b"]);
    }
}
