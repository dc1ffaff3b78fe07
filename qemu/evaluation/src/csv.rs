//! Tidy CSV: one number per line, with what tells it from others.

use serde_json::Value;

use crate::results::Record;

/// The columns: those of the number itself, and what a plot groups by.
const COLUMNS: [&str; 18] = [
    "bench",
    "case",
    "system",
    "model",
    "overlap",
    "iterations",
    "size",
    "machine",
    "set",
    "of",
    "cpu",
    "node",
    "home",
    "bytes",
    "metric",
    "value",
    "unit",
    "kind",
];
/// Where the numbers come from.
const PROVENANCE: [&str; 4] = ["revision", "dirty", "machine_hash", "qemu"];

/// The records as CSV, with a heading. What a record does not have is empty.
pub fn render(records: &[Record]) -> String {
    let columns = || COLUMNS.into_iter().chain(PROVENANCE);
    let mut text = columns().map(rename).collect::<Vec<_>>().join(",") + "\n";
    for record in records {
        let cells: Vec<String> =
            columns().map(|column| record.get(column).map_or_else(String::new, field)).collect();
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

/// The first columns are called as tables of tests usually call them.
fn rename(column: &str) -> &str {
    match column {
        "bench" => "test",
        "case" => "variant",
        other => other,
    }
}

fn field(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_number_per_line() {
        let Value::Object(record) = json!({"bench": "b", "case": "a,\"c\"", "metric": "m", "value": 1.5, "unit": "cycles", "dirty": false})
        else {
            panic!()
        };
        let text = render(&[record]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("test,variant,system,"), "{text}");
        assert_eq!(lines[1], "b,\"a,\"\"c\"\"\",,,,,,,,,,,,,m,1.5,cycles,,,false,,");
        assert_eq!(lines[0].split(',').count(), COLUMNS.len() + PROVENANCE.len());
    }
}
