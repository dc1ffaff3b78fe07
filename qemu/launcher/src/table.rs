//! Tables for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent, presets};

use crate::record::Series;

/// An empty table in the house style, with lines between rows.
pub fn ruled<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    // As wide as its contents, unless a terminal is narrower.
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// An empty table in the house style, one line per row.
pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = ruled(header);
    for part in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(part);
    }
    table
}

/// Puts the columns from `first` on to the right.
pub fn align_numbers(table: &mut Table, first: usize) {
    table.column_iter_mut().skip(first).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The measurements of one experiment; the spread only where there is one.
pub fn measurements(all: &[Series]) -> Table {
    let repeated = all.iter().any(|series| series.sorted.len() > 1);
    let spread = if repeated { &["n", "min", "max"][..] } else { &[] };
    let mut table = new(["case", "metric", "median", "unit", "kind"].iter().chain(spread).copied());
    let show = |number: &serde_json::Number| number.as_u64().map_or_else(|| number.to_string(), grouped);
    for series in all {
        let m = &series.measurement;
        let metric = match m.parameters.get("cpu") {
            Some(cpu) => format!("{}, CPU {cpu}", m.metric),
            None => m.metric.clone(),
        };
        let mut row = vec![m.case.clone(), metric, show(&series.median()), m.unit.clone(), m.kind.clone()];
        if repeated {
            row.extend([series.sorted.len().to_string(), show(series.min()), show(series.max())]);
        }
        table.add_row(row);
    }
    for column in [2, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
