//! How much modelled numbers depend on the quantum: the order in which CPUs' accesses are modelled is one that could happen, not the only one. A
//! number that another quantum changes by more than [`LIMIT`] is about that order as much as about the machine, and its record says so.

use serde_json::{Value, json};

use crate::console::Measurement;
use crate::error::Result;
use crate::experiment::Experiment;
use crate::record::{self, Record, Series};
use crate::session::Session;
use crate::supervisor::{Finished, Observer};

/// The quanta that are compared, in cycles.
pub const QUANTA: [u64; 4] = [100, 300, 1_000, 3_000];
/// What a number may differ, from its smallest to its largest value, in percent of the largest.
pub const LIMIT: f64 = 2.0;

/// Runs a modelled experiment once with every quantum.
///
/// # Errors
/// Of the first run that does not pass.
pub fn run(experiment: &Experiment, session: &Session, observer: &dyn Observer) -> Result<Vec<Finished>> {
    let with = |quantum| {
        let mut experiment = experiment.clone();
        experiment.modelling =
            experiment.modelling.map(|modelling| crate::plugin::Modelling { quantum, ..modelling });
        experiment.run(session, observer)?.passed()
    };
    QUANTA.into_iter().map(with).collect()
}

/// By how many percent values differ. A number that some of `runs` do not have differs completely.
pub fn spread(values: &[f64], runs: usize) -> f64 {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(0.0, f64::max);
    match values.len() == runs {
        _ if largest == 0.0 => 0.0,
        true => (largest - smallest) / largest * 100.0,
        false => 100.0,
    }
}

fn spread_of(series: &Series, runs: usize) -> f64 {
    let values: Vec<f64> = series.sorted.iter().filter_map(serde_json::Number::as_f64).collect();
    spread(&values, runs)
}

/// Says in the record of every modelled number how much it depends on the quantum, according to these runs; without any, that nobody knows. `case`: the
/// field of the records that has a measurement's case.
pub fn note(records: &mut [Record], case: &str, runs: &[Finished]) {
    let all = record::series(runs);
    for record in records.iter_mut().filter(|record| record.get("kind") == Some(&json!("modelled"))) {
        let same = |m: &Measurement| {
            let has = |key: &str, value: &str| record.get(key) == Some(&json!(value));
            has(case, &m.case)
                && has("metric", &m.metric)
                && m.parameters.iter().all(|(key, value)| record.get(key) == Some(value))
        };
        let found =
            all.iter().find(|series| same(&series.measurement)).map(|series| spread_of(series, runs.len()));
        let spread = if runs.is_empty() { None } else { Some(found.unwrap_or(100.0)) };
        let rounded = spread.map(|spread| (spread * 100.0).round() / 100.0);
        record.insert("quantum_spread".into(), rounded.map_or(Value::Null, |spread| json!(spread)));
        record.insert("quantum_sensitive".into(), spread.map_or(Value::Null, |spread| json!(spread > LIMIT)));
    }
}

/// How many numbers were compared between quanta, and how many of them depend on it.
pub fn count(records: &[Record]) -> (usize, usize) {
    let flags = || records.iter().filter_map(|record| record.get("quantum_sensitive")?.as_bool());
    (flags().count(), flags().filter(|is_sensitive| *is_sensitive).count())
}

/// Whether records of modelled numbers say how much they depend on the quantum.
pub fn is_noted(records: &[Record]) -> bool {
    let mut modelled = records.iter().filter(|record| record.get("kind") == Some(&json!("modelled")));
    modelled.all(|record| record.get("quantum_sensitive").is_some_and(Value::is_boolean))
}

/// The modelled numbers that depend on the quantum: case, metric, CPU if it is one's, and percent.
pub fn sensitive(runs: &[Finished]) -> Vec<(String, f64)> {
    let all = record::series(runs);
    let modelled = all.iter().filter(|series| series.measurement.kind == "modelled");
    let spreads = modelled.map(|series| {
        let m = &series.measurement;
        let cpu = m.parameters.get("cpu").map_or(String::new(), |cpu| format!(", CPU {cpu}"));
        (format!("{} {}{cpu}", m.case, m.metric), spread_of(series, runs.len()))
    });
    spreads.filter(|(_, spread)| *spread > LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;
    use serde_json::{Map, Number};

    fn run(values: &[(&str, u64)]) -> Finished {
        let measurement = |&(metric, value): &(&str, u64)| Measurement {
            bench: "walk".into(),
            case: "walk.measured".into(),
            metric: metric.into(),
            value: Number::from(value),
            unit: "events".into(),
            kind: if metric == "faults" { "exact" } else { "modelled" }.into(),
            parameters: Map::new(),
        };
        Finished {
            ending: Ending::Pass,
            reason: String::new(),
            measurements: values.iter().map(measurement).collect(),
            tail: vec![],
            coherence: None,
            recorded: crate::recording::Recorded::default(),
        }
    }

    #[test]
    fn what_another_quantum_changes_is_said() {
        let runs = [
            run(&[("cycles", 1_000), ("transfers", 50), ("faults", 7), ("zero", 0)]),
            run(&[("cycles", 1_019), ("transfers", 52), ("faults", 9), ("zero", 0), ("rare", 1)]),
        ];
        let record = |metric: &str, kind: &str| -> Record {
            [("case", "walk.measured"), ("metric", metric), ("kind", kind)]
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .into_iter()
                .collect()
        };
        let mut records =
            ["cycles", "transfers", "zero", "rare"].map(|metric| record(metric, "modelled")).to_vec();
        records.push(record("faults", "exact"));
        let flags = |records: &[Record]| -> Vec<Option<Value>> {
            records.iter().map(|record| record.get("quantum_sensitive").cloned()).collect()
        };
        note(&mut records, "case", &runs);
        assert_eq!(
            flags(&records),
            [Some(json!(false)), Some(json!(true)), Some(json!(false)), Some(json!(true)), None]
        );
        assert_eq!(records[0]["quantum_spread"], json!(1.86));
        assert_eq!((count(&records), is_noted(&records)), ((4, 2), true));
        assert_eq!(sensitive(&runs).len(), 2);
        note(&mut records, "case", &[]);
        assert_eq!(flags(&records)[0], Some(Value::Null), "nobody looked");
        assert_eq!((count(&records), is_noted(&records)), ((0, 0), false));
    }
}
