//! What was measured, by cell.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A record: the fields in their order.
pub type Record = Map<String, Value>;

/// The records of cells, by the cells' names.
#[derive(Clone, Debug, Default)]
pub struct Results {
    cells: HashMap<String, Vec<Record>>,
}

impl Results {
    /// Those of an evaluation's records: cells are told apart by `case`. A cell that several benches have counts once.
    pub fn of(records: &[Record]) -> Self {
        let mut cells: HashMap<String, (String, Vec<Record>)> = HashMap::new();
        for record in records {
            let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (bench, all) = cells.entry(text("case")).or_insert_with(|| (text("bench"), Vec::new()));
            if *bench == text("bench") {
                all.push(record.clone());
            }
        }
        Self { cells: cells.into_iter().map(|(name, (_, records))| (name, records)).collect() }
    }

    /// The records of a cell.
    pub fn cell(&self, name: &str) -> &[Record] {
        self.cells.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The values of a metric of a cell's part (`of`), with the records they are of.
    pub fn values<'a>(
        &'a self,
        cell: &str,
        of: &'a str,
        metric: &'a str,
    ) -> impl Iterator<Item = (&'a Record, f64)> {
        let is =
            |record: &Record, key: &str, word: &str| record.get(key).and_then(Value::as_str) == Some(word);
        let wanted = move |record: &&Record| is(record, "of", of) && is(record, "metric", metric);
        self.cell(cell)
            .iter()
            .filter(wanted)
            .filter_map(|record| Some((record, record.get("value")?.as_f64()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_of_two_benches_counts_once() {
        let record = |bench: &str| match json!({"bench": bench, "case": "c", "of": "walk", "metric": "m", "value": 3})
        {
            Value::Object(fields) => fields,
            _ => panic!(),
        };
        let results = Results::of(&[record("a"), record("b")]);
        let sum: f64 = results.values("c", "walk", "m").map(|(_, value)| value).sum();
        assert_eq!(sum, 3.0);
        assert_eq!(results.values("c", "walk", "other").count(), 0);
    }
}
