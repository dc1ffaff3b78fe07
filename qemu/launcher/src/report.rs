//! `report` and `compare`: what is done with records once they are there.

use std::path::{Path, PathBuf};

use comfy_table::Table;
use serde_json::json;
use skerry_evaluation::compare::{self, Comparison, Difference};
use skerry_evaluation::csv;
use skerry_evaluation::report::Report;

use crate::cli::{CompareArgs, Format, ReportArgs};
use crate::commands::{print_line, print_records};
use crate::error::{Error, Result};
use crate::evaluation::files;
use crate::record::Record;
use crate::table::{self, grouped};

/// Writes the report: a page, SVGs, a table of all numbers.
///
/// # Errors
/// [`Error::Usage`] if there are no records, or they do not belong together.
pub fn write(args: &ReportArgs) -> Result<()> {
    let source = match &args.records {
        Some(path) => path.clone(),
        None => newest(&files::folder()?).ok_or_else(|| {
            Error::Usage("there are no records yet: `cargo run -- bench --quick` makes some".into())
        })?,
    };
    let out = args.out.clone().map_or_else(|| Ok(files::folder()?.join("report")), Ok)?;
    let records = files::read(&source)?;
    let report = Report::new(&records).map_err(|why| Error::Usage(format!("{}: {why}", source.display())))?;
    let page = out.join("report.html");
    put(&page, &report.html())?;
    for (name, svg) in report.svgs() {
        put(&out.join("figures").join(name), &svg)?;
    }
    put(&out.join("records.csv"), &csv::render(&records))?;
    eprintln!("skerry: {} figures from {}", report.figures(), source.display());
    print_line(&page.display().to_string())
}

/// The file of records that was written last.
fn newest(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let records = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    records.max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok())
}

fn put(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("writing {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::host(failed()))?;
    }
    std::fs::write(path, text).map_err(Error::host(failed()))
}

/// Compares two files of records.
///
/// # Errors
/// [`Error::Usage`] if they have no run in common.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let [first, second] = [files::read(&args.first)?, files::read(&args.second)?];
    let comparison = compare::compare(&first, &second);
    if comparison.differences.is_empty() {
        return Err(Error::Usage("the two files have no run in common".into()));
    }
    for (path, records) in [(&args.first, &first), (&args.second, &second)] {
        for line in compare::mixed(records) {
            eprintln!("skerry: {}: {line}", path.display());
        }
    }
    comparison.warnings.iter().for_each(|line| eprintln!("skerry: they differ in {line}"));
    match args.format {
        Format::Json => print_records(&comparison.differences.iter().map(record).collect::<Vec<_>>()),
        Format::Table => {
            print_line(&differences(&comparison).to_string())?;
            print_line(&summary(&comparison))
        }
    }
}

fn record(difference: &Difference) -> Record {
    let [first, second] = difference.cycles;
    let fields = json!({
        "bench": "compare", "case": difference.case, "metric": "ratio", "value": difference.ratio(), "unit": "ratio", "kind": "modelled",
        "first": first, "second": second, "verdict": difference.verdict(),
        "parts": difference.parts.iter().map(|(part, cycles)| ((*part).to_owned(), json!(cycles))).collect::<Record>(),
    });
    match fields {
        serde_json::Value::Object(record) => record,
        _ => Record::new(),
    }
}

fn differences(comparison: &Comparison) -> Table {
    let mut table =
        table::new(["run", "first", "second", "ratio", "verdict", "where the cycles went (slowest CPU)"]);
    for difference in &comparison.differences {
        let [first, second] = difference.cycles.map(|cycles| grouped(cycles as u64));
        let largest = difference.parts.iter().take(2);
        let parts: Vec<String> = largest.map(|(part, cycles)| format!("{part} {cycles:+.0}")).collect();
        let parts = if difference.verdict() == "equal" { String::new() } else { parts.join(", ") };
        let ratio = format!("{:.3}", difference.ratio());
        table.add_row([
            difference.case.clone(),
            first,
            second,
            ratio,
            difference.verdict().to_owned(),
            parts,
        ]);
    }
    table
}

fn summary(comparison: &Comparison) -> String {
    let count = |verdict: &str| comparison.differences.iter().filter(|d| d.verdict() == verdict).count();
    let lonely = match comparison.lonely {
        0 => String::new(),
        lonely => format!("; {lonely} runs are in one of the files only"),
    };
    format!(
        "of {} runs {} are faster, {} slower, {} equal (within {} %){lonely}",
        comparison.differences.len(),
        count("faster"),
        count("slower"),
        count("equal"),
        compare::EQUAL
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_evaluation::invented;

    #[test]
    fn a_report_is_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let records = folder.path().join("records.jsonl");
        files::write(&records, &invented::all()).unwrap();
        let out = folder.path().join("out");
        write(&ReportArgs { records: Some(records.clone()), out: Some(out.clone()) }).unwrap();
        assert!(out.join("report.html").is_file() && out.join("figures/figure-5-17.svg").is_file());
        let lines = std::fs::read_to_string(out.join("records.csv")).unwrap().lines().count();
        assert_eq!(lines, invented::all().len() + 1);
        assert_eq!(newest(folder.path()), Some(records.clone()));
        std::fs::write(&records, "").unwrap();
        let nothing = write(&ReportArgs { records: Some(records), out: Some(out) }).unwrap_err().to_string();
        assert!(nothing.contains("no records"), "{nothing}");
    }

    #[test]
    fn a_comparison_ends_with_a_summary() {
        let difference =
            |case: &str, cycles| Difference { case: case.into(), cycles, parts: vec![("bandwidth", 7.0)] };
        let differences_of = vec![difference("a", [100.0, 150.0]), difference("b", [100.0, 101.0])];
        let comparison = Comparison { differences: differences_of, lonely: 1, warnings: Vec::new() };
        assert_eq!(
            summary(&comparison),
            "of 2 runs 0 are faster, 1 slower, 1 equal (within 2 %); 1 runs are in one of the files only"
        );
        let text = differences(&comparison).to_string();
        assert!(text.contains("1.500") && text.contains("bandwidth +7"), "{text}");
        assert_eq!(record(&comparison.differences[0])["verdict"], "slower");
    }
}
