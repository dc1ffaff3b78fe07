//! `bench` for the evaluation: boots the cells that benchmarks need, keeps what is finished, and makes records of it.
//!
//! Which cells there are and what they show is the business of the crate `skerry-evaluation`; here they meet the machine.

pub mod cells;
pub mod files;
pub mod floor;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use comfy_table::Table;
use serde_json::json;
use skerry_evaluation::benches::{BENCHES, Bench};
use skerry_evaluation::cell::Cell;
use skerry_evaluation::goals::{self, Outcome};
use skerry_evaluation::results::Results;
use skerry_evaluation::resume::Basis;
use skerry_evaluation::setup::Setup;

use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::parallel::{self, PARALLEL};
use crate::progress::Meter;
use crate::record::{self, Record};
use crate::session::Session;
use crate::{quanta, table};

/// Seconds of one unit of [`Cell::cost`], before anything was measured.
const UNIT: f64 = 0.9;

/// Which benchmarks, and how.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The benchmarks, in their order.
    pub benches: Vec<&'static Bench>,
    /// Size and kind.
    pub setup: Setup,
    /// Runs everything again, whatever is there.
    pub fresh: bool,
    /// Runs every cell with all quanta that are compared.
    pub quanta: bool,
    /// How long without output is too long.
    pub silence: Duration,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// The records of all benchmarks, in their order, goals last.
    pub records: Vec<Record>,
    /// The goals whose cells were run.
    pub goals: Vec<Outcome>,
    /// Cells that did not pass, with the reason.
    pub failed: Vec<(String, String)>,
    /// Where the records are.
    pub file: PathBuf,
}

impl Evaluation {
    /// All benchmarks, or the one with this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none.
    pub fn benches(name: Option<&str>) -> Result<Vec<&'static Bench>> {
        match name {
            None => Ok(BENCHES.iter().collect()),
            Some(name) => Bench::find(name).map(|bench| vec![bench]).ok_or_else(|| {
                let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
                let suites: Vec<_> = crate::bench::names().collect();
                Error::Usage(format!(
                    "unknown bench `{name}`; there are {}, and of the evaluation {}",
                    suites.join(", "),
                    known.join(", ")
                ))
            }),
        }
    }

    /// The cells, each once.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for cell in self.benches.iter().flat_map(|bench| bench.cells(self.setup)) {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }

    /// Runs what is not there yet.
    ///
    /// # Errors
    /// If files cannot be read or written, or the user interrupts. A cell that does not pass is part of the outcome.
    pub fn run(&self, session: &Session, verbose: bool) -> Result<Outcomes> {
        let basis = basis(session)?;
        let store = files::Store::open(basis.clone())?;
        let cells = self.cells();
        let mut done: Vec<Option<Vec<Record>>> = Vec::with_capacity(cells.len());
        for cell in &cells {
            let kept = if self.fresh { None } else { store.load(cell)? };
            done.push(kept.filter(|records| !self.quanta || quanta::is_noted(records)));
        }
        let missing: VecDeque<usize> = (0..cells.len()).filter(|&index| done[index].is_none()).collect();
        let failed = self.run_missing(session, &store, &cells, missing, &mut done, verbose)?;
        let by_cell = |cell: &Cell| {
            let index = cells.iter().position(|other| other == cell)?;
            done[index].as_deref()
        };
        let mut records = Vec::new();
        for bench in &self.benches {
            for cell in bench.cells(self.setup) {
                let named = by_cell(&cell)
                    .unwrap_or_default()
                    .iter()
                    .map(|record| of_bench(bench, self.setup, &basis, record));
                records.extend(named);
            }
        }
        let goals: Vec<Outcome> = goals::outcomes(self.setup, &Results::of(&records))
            .into_iter()
            .filter(|outcome| self.benches.iter().any(|bench| bench.name == outcome.goal.bench))
            .collect();
        let mut common: Record = [("set", json!(self.setup.name())), ("basis", json!(basis.text()))]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect();
        common.extend(session.provenance.fields());
        records.extend(goals.iter().map(|outcome| outcome.record(&common)));
        let file = files::merge(self.setup, &records)?;
        Ok(Outcomes { records, goals, failed, file })
    }

    /// Boots the missing cells, a few at a time. Returns those that did not pass.
    fn run_missing(
        &self,
        session: &Session,
        store: &files::Store,
        cells: &[Cell],
        missing: VecDeque<usize>,
        done: &mut [Option<Vec<Record>>],
        verbose: bool,
    ) -> Result<Vec<(String, String)>> {
        let runs = if self.quanta { quanta::QUANTA.len() as f64 } else { 1.0 };
        let total: f64 = missing.iter().map(|&index| cells[index].cost() * runs).sum();
        let count = missing.len();
        eprintln!(
            "skerry: {} runs, {} of them kept from before; about {}",
            cells.len(),
            cells.len() - count,
            minutes(total * UNIT / PARALLEL as f64)
        );
        if count > 0 {
            // Built before workers ask for it at the same time.
            session.plugin()?;
        }
        let meter = Meter::new(count, verbose);
        let begun = Instant::now();
        let spent = Mutex::new(0.0);
        let finished = parallel::each(missing, |index| {
            let cell = &cells[index];
            meter.start(&cell.name());
            let result = match cells::run(cell, session, self.silence, self.quanta, &meter) {
                Ok(records) => {
                    store.save(cell, &records)?;
                    Ok(records)
                }
                Err(error @ (Error::Ended { ending: Ending::Interrupted, .. } | Error::Host(..))) => {
                    return Err(error);
                }
                Err(error) => {
                    meter.line(&format!("skerry: {}: {error}", cell.name()));
                    Err(error.to_string())
                }
            };
            let part = spent.lock().map_or(1.0, |mut spent| {
                *spent += cell.cost() * runs;
                *spent / total
            });
            let left = begun.elapsed().as_secs_f64() * (1.0 - part) / part;
            meter.done(&format!("{}; about {} left", cell.name(), minutes(left)));
            Ok(result)
        });
        meter.finish();
        let mut failed = Vec::new();
        for (index, result) in finished? {
            match result {
                Ok(records) => done[index] = Some(records),
                Err(reason) => failed.push((cells[index].name(), reason)),
            }
        }
        Ok(failed)
    }
}

/// Everything that the records of all cells depend on: the programs, the instrument, the emulator, the revision.
fn basis(session: &Session) -> Result<Basis> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(Error::host(format!("reading {}", path.display())))
    };
    let (boot, modules, plugin) =
        (read(&session.boot_image)?, read(&session.modules)?, read(session.plugin()?)?);
    let provenance = &session.provenance;
    let dirty = if provenance.dirty { "dirty" } else { "" };
    let words =
        [&provenance.revision, &provenance.qemu, &provenance.guest_compiler].map(|word| word.as_bytes());
    Ok(Basis::of(words.into_iter().chain([dirty.as_bytes(), boot.as_slice(), &modules, &plugin])))
}

/// A cell's record as one of a benchmark's.
fn of_bench(bench: &Bench, setup: Setup, basis: &Basis, record: &Record) -> Record {
    let mut named = record.clone();
    named.insert("bench".into(), json!(bench.name));
    named.insert("set".into(), json!(setup.name()));
    named.insert("basis".into(), json!(basis.text()));
    named
}

/// What a run measured, as records of the cell.
fn records_of(
    cell: &Cell,
    parameters: &Record,
    session: &Session,
    runs: &[crate::supervisor::Finished],
) -> Vec<Record> {
    let series = record::series(runs);
    // The other phases are for warming up.
    let wanted = series.into_iter().filter(|series| !series.measurement.case.contains(".phase"));
    let records = record::records(parameters, &session.provenance, &wanted.collect::<Vec<_>>());
    let name = cell.name();
    let rename = |mut record: Record| {
        let of = record.insert("case".into(), json!(name));
        record.insert("of".into(), of.unwrap_or_default());
        record
    };
    records.into_iter().map(rename).collect()
}

fn minutes(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{:.0} s", seconds.ceil())
    } else {
        format!("{:.0} min", (seconds / 60.0).ceil())
    }
}

/// The goals, for people.
pub fn goals_table(goals: &[Outcome]) -> Table {
    let mut table = table::new(["goal", "core", "at most", "value", "met", "why not"]);
    for outcome in goals {
        let goal = &outcome.goal;
        let unit = if goal.unit == "ratio" { String::new() } else { format!(" {}", goal.unit) };
        let digits = if goal.unit == "ratio" { 3 } else { 1 };
        table.add_row([
            goal.name.clone(),
            goal.core.name().to_owned(),
            format!("{}{unit}", goal.bound),
            format!("{:.digits$}{unit}", outcome.value),
            if outcome.met { "yes" } else { "NO" }.to_owned(),
            if outcome.met { String::new() } else { outcome.why.clone() },
        ]);
    }
    table
}

/// The figures of benchmarks, for people: the sentence of each.
pub fn conclusions(benches: &[&Bench], setup: Setup, records: &[Record]) -> Vec<String> {
    let results = Results::of(records);
    let mut lines = Vec::new();
    for figure in benches.iter().flat_map(|bench| bench.figures(setup)) {
        lines.push(format!("{}: {} ({})", figure.id, figure.title, figure.kind()));
        lines.extend(figure.conclusions(&results).into_iter().map(|sentence| format!("  {sentence}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_an_experiment() {
        for (quick, paper) in [(false, false), (true, false), (true, true)] {
            let setup = Setup { quick, paper };
            let benches = Evaluation::benches(None).unwrap();
            let evaluation =
                Evaluation { benches, setup, fresh: false, quanta: false, silence: Duration::from_secs(1) };
            for cell in evaluation.cells() {
                let experiment = cells::experiment(&cell, Duration::from_secs(1));
                let line = experiment.and_then(|experiment| experiment.command_line());
                assert!(line.is_ok(), "{}: {line:?}", cell.name());
            }
        }
        assert!(
            Evaluation::benches(Some("overlaps"))
                .unwrap_err()
                .to_string()
                .contains("array-walk, local-global")
        );
    }

    #[test]
    fn times_are_told_in_minutes_when_they_are_long() {
        assert_eq!([minutes(0.2), minutes(89.0), minutes(91.0)], ["1 s", "89 s", "2 min"]);
    }
}
