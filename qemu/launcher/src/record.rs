//! JSON records: one per measurement, with statistics over repetitions, parameters and provenance.

use serde_json::{Map, Number, Value, json};

use crate::console::Measurement;
use crate::provenance::Provenance;
use crate::supervisor::Finished;

/// One record: the fields in the order in which they are printed.
pub type Record = Map<String, Value>;

/// The same measurement in all repetitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The measurement, with the value of the first repetition.
    pub measurement: Measurement,
    /// All values, sorted.
    pub sorted: Vec<Number>,
}

impl Series {
    /// The middle value, or the mean of the two in the middle.
    pub fn median(&self) -> Number {
        let middle = self.sorted.len() / 2;
        let upper = self.sorted[middle].clone();
        if !self.sorted.len().is_multiple_of(2) || self.sorted[middle - 1] == upper {
            return upper;
        }
        let mean = (as_f64(&self.sorted[middle - 1]) + as_f64(&upper)) / 2.0;
        Number::from_f64(mean).unwrap_or(upper)
    }

    /// The smallest value.
    pub fn min(&self) -> &Number {
        &self.sorted[0]
    }

    /// The largest value.
    pub fn max(&self) -> &Number {
        &self.sorted[self.sorted.len() - 1]
    }

    /// Whether a measurement has the same value in each of `runs` repetitions, which all but the host's time have to.
    pub fn is_reproducible(&self, runs: usize) -> bool {
        self.measurement.kind == "wall"
            || (self.min() == self.max() && self.sorted.len().is_multiple_of(runs))
    }
}

fn as_f64(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

/// Brings together what belongs together, in the order of the first run.
pub fn series(runs: &[Finished]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for measurement in runs.iter().flat_map(|run| &run.measurements) {
        let same = |other: &&mut Series| {
            let (a, b) = (&other.measurement, measurement);
            (&a.bench, &a.case, &a.metric, &a.unit, &a.kind, &a.parameters)
                == (&b.bench, &b.case, &b.metric, &b.unit, &b.kind, &b.parameters)
        };
        match all.iter_mut().find(same) {
            Some(series) => series.sorted.push(measurement.value.clone()),
            None => {
                all.push(Series { measurement: measurement.clone(), sorted: vec![measurement.value.clone()] })
            }
        }
    }
    for series in &mut all {
        series.sorted.sort_by(|a, b| as_f64(a).total_cmp(&as_f64(b)));
    }
    all
}

/// The records of runs with these parameters.
pub fn records(parameters: &Record, provenance: &Provenance, series: &[Series]) -> Vec<Record> {
    let common = || parameters.clone().into_iter().chain(provenance.fields());
    // Without counted instructions CPUs run as the host lets them, and nothing is the same in every run.
    let free = parameters.get("icount") == Some(&json!(false));
    series
        .iter()
        .map(|series| {
            let m = &series.measurement;
            let mut record = Record::new();
            let mut put = |key: &str, value: Value| drop(record.insert(key.into(), value));
            put("bench", json!(m.bench));
            put("case", json!(m.case));
            put("metric", json!(m.metric));
            put("value", json!(series.median()));
            put("unit", json!(m.unit));
            put("kind", json!(if free { "wall" } else { &m.kind }));
            put("n", json!(series.sorted.len()));
            put("median", json!(series.median()));
            put("min", json!(series.min()));
            put("max", json!(series.max()));
            for (key, value) in m.parameters.clone().into_iter().chain(common()) {
                // The measurement's own fields, and what the guest says of a parameter, come first and win.
                record.entry(key).or_insert(value);
            }
            record
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Line;
    use crate::ending::Ending;

    fn run(values: &[(&str, u64)]) -> Finished {
        let measurements = values.iter().map(|(metric, value)| {
            let line = format!(
                r#"{{"bench":"b","case":"b.{metric}","metric":"{metric}","value":{value},"unit":"u"}}"#
            );
            match Line::parse(&line) {
                Line::Measurement(measurement) => measurement,
                other => panic!("{other:?}"),
            }
        });
        Finished {
            ending: Ending::Pass,
            reason: String::new(),
            measurements: measurements.collect(),
            tail: vec![],
            coherence: None,
            recorded: crate::recording::Recorded::default(),
        }
    }

    #[test]
    fn repetitions_become_statistics() {
        let all =
            series(&[run(&[("a", 3), ("b", 7)]), run(&[("a", 1), ("b", 7)]), run(&[("a", 2), ("b", 7)])]);
        let a = &all[0];
        assert_eq!((a.median(), a.min(), a.max()), (2.into(), &1.into(), &3.into()));
        assert!(!a.is_reproducible(3) && all[1].is_reproducible(3));
        let even = series(&[run(&[("a", 1)]), run(&[("a", 2)])]);
        assert_eq!(even[0].median().as_f64(), Some(1.5));
    }

    #[test]
    fn a_measurement_that_one_run_lacks_is_not_reproducible() {
        let all = series(&[run(&[("a", 1), ("b", 1)]), run(&[("a", 1)])]);
        assert!(all[0].is_reproducible(2) && !all[1].is_reproducible(2));
    }

    #[test]
    fn nothing_is_exact_without_counted_instructions() {
        let provenance = Provenance::collect(std::path::Path::new("/"), "8", "rustc");
        let kind = |icount: bool| {
            let parameters = [("icount".to_owned(), json!(icount))].into_iter().collect();
            records(&parameters, &provenance, &series(&[run(&[("a", 1)])]))[0]["kind"].clone()
        };
        assert_eq!((kind(true), kind(false)), (json!("exact"), json!("wall")));
    }
}
