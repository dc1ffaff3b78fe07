//! What the measuring instrument records besides its counters: misses of an application's threads (`run --record`, for `replay`), and lines from memory by page (`run
//! --pages`).

use std::fs::File;
use std::io::Write;
use std::path::Path;

use comfy_table::Table;
use serde_json::Value;
use skerry_abi::marker::MEASURED;
use skerry_replay::{Trace, format};

use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::plugin::Files;
use crate::table;

/// Pages that a table shows.
const SHOWN: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// A trace of misses.
    pub trace: bool,
    /// Lines by page.
    pub pages: bool,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The trace, as it is in a file.
    pub trace: Option<Vec<u8>>,
    /// The table, as CSV.
    pub pages: Option<String>,
    /// Lines of the trace that came from the own node's memory, and from others', in the recorded run.
    pub lines: [u64; 2],
}

/// Files for what will be recorded. Made before anything is run, so that a place where nobody can write is told at once.
///
/// # Errors
/// [`Error::Host`].
pub fn create(paths: [Option<&Path>; 2]) -> Result<[Option<File>; 2]> {
    let [trace, pages] = paths.map(|path| {
        let create =
            |path: &Path| File::create(path).map_err(Error::host(format!("writing {}", path.display())));
        path.map(create).transpose()
    });
    Ok([trace?, pages?])
}

impl Recorded {
    /// Reads what a run has left.
    ///
    /// # Errors
    /// [`Error::Check`] if there is no trace because no thread said that it is an application's.
    pub(crate) fn read(asked: Recording, files: &Files, report: &Value) -> Result<Self> {
        if let Some(why) = report["recorded"]["failed"].as_str() {
            return Err(Error::Check(format!("there is nothing to record: {why}")));
        }
        let lines = ["local", "remote"].map(|which| report["recorded"][which].as_u64().unwrap_or(0));
        let trace = asked.trace.then(|| files.beside(".trace")).transpose()?;
        let pages = asked.pages.then(|| files.beside(".pages")).transpose()?;
        Ok(Self { trace, pages: pages.map(|text| String::from_utf8_lossy(&text).into_owned()), lines })
    }

    /// The trace.
    ///
    /// # Errors
    /// [`Error::Check`] if there is none, or it does not make sense.
    pub fn trace(&self) -> Result<Trace> {
        let bytes = self.trace.as_deref().ok_or_else(|| Error::Check("nothing was recorded".into()))?;
        format::read(&mut &*bytes).map_err(|why| Error::Check(format!("the recorded trace: {why}")))
    }

    /// Share of the trace's lines that were local.
    pub fn local_share(&self) -> f64 {
        let [local, remote] = self.lines;
        local as f64 / (local + remote).max(1) as f64
    }

    /// Writes it to the files, and says what is in them.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn keep(&self, files: [Option<File>; 2], experiment: &Experiment) -> Result<Vec<String>> {
        let [trace, pages] = files;
        let mut shown = Vec::new();
        if let (Some(mut file), Some(bytes)) = (trace, &self.trace) {
            file.write_all(bytes).map_err(Error::host("writing the trace"))?;
            let made = self.trace()?;
            let model = experiment.modelling.and_then(|modelling| serde_json::to_value(modelling.core).ok());
            shown.push(format!(
                "recorded: {} misses of {} threads on {} pages, {:.1} % local; replay it with --machine {} --nodes {} --cpus {} --model {}",
                table::grouped(made.misses()),
                made.threads.len(),
                table::grouped(made.pages.into()),
                self.local_share() * 100.0,
                experiment.machine.name.trim_end_matches('+'),
                experiment.machine.nodes.len(),
                experiment.machine.cpus(),
                model.as_ref().and_then(Value::as_str).unwrap_or("blocking"),
            ));
        }
        if let (Some(mut file), Some(text)) = (pages, &self.pages) {
            file.write_all(text.as_bytes()).map_err(Error::host("writing the lines by page"))?;
            shown.push(most_remote(text).to_string());
        }
        Ok(shown)
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The phase.
    pub phase: u16,
    /// Address of the page, `more` or `system`.
    pub page: String,
    /// The node where the lines came from; `own` and `other` where pages are put together.
    pub home: String,
    /// Lines, by the node that read them.
    pub lines: Vec<u64>,
}

impl Row {
    /// Lines that came from the reader's own node, and others.
    pub fn split(&self) -> [u64; 2] {
        let all = self.lines.iter().sum::<u64>();
        let own = match (self.home.as_str(), self.home.parse::<usize>()) {
            ("own", _) => all,
            (_, Ok(home)) => self.lines.get(home).copied().unwrap_or(0),
            _ => 0,
        };
        [own, all - own]
    }
}

/// The rows of the table.
pub fn rows(csv: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut fields = line.split(',');
        let (phase, page, home) =
            (fields.next()?.parse().ok()?, fields.next()?.to_owned(), fields.next()?.to_owned());
        let lines = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
        Some(Row { phase, page, home, lines })
    };
    csv.lines().filter_map(row).collect()
}

/// The pages with most remote lines in the measured phase, or in the first one if nothing is measured.
fn most_remote(csv: &str) -> Table {
    let all = rows(csv);
    let phases = || all.iter().map(|row| row.phase);
    let phase = phases().find(|&phase| phase == MEASURED).or(phases().next());
    let mut all: Vec<&Row> = all.iter().filter(|row| Some(row.phase) == phase).collect();
    all.sort_by_key(|row| std::cmp::Reverse(row.split()[1]));
    let nodes = all.first().map_or(0, |row| row.lines.len());
    let names: Vec<String> = (0..nodes).map(|node| format!("node {node}")).collect();
    let mut shown =
        table::new(["page", "home", "lines remote"].into_iter().chain(names.iter().map(String::as_str)));
    for row in all.into_iter().take(SHOWN) {
        let numbers = std::iter::once(row.split()[1]).chain(row.lines.iter().copied()).map(table::grouped);
        shown.add_row([row.page.clone(), row.home.clone()].into_iter().chain(numbers));
    }
    table::align_numbers(&mut shown, 2);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_begins_with_what_is_most_remote() {
        let csv = "phase,page,home,node0,node1\n0,0x1000,0,9,99\n1,0x1000,0,9,5\n1,0x2000,1,7,1\n1,system,other,3,0\n";
        let all = rows(csv);
        assert_eq!(all.len(), 4);
        assert_eq!([1, 2, 3].map(|row: usize| all[row].split()), [[9, 5], [1, 7], [0, 3]]);
        let table = most_remote(csv).to_string();
        let places = ["0x2000", "0x1000", "system"].map(|page| table.find(page).unwrap());
        assert!(places.is_sorted() && !table.contains("99"), "{table}");
    }

    #[test]
    fn where_nobody_can_write_is_told_at_once() {
        let error = create([Some(Path::new("/nowhere/at/all")), None]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
