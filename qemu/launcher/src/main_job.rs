//! What happens without a command: the array-walk overlap benchmark on Skerry and on the two baselines.
//!
//! For every overlap the same walk runs on each named system. The result is a table, two checks that have to hold
//! (they follow from the design: a page that *n* nodes share is faulted *n* times in the NUMA system and once in a
//! single space), and a sentence computed from the numbers.

use std::time::Duration;

use comfy_table::Table;

use crate::app::ArrayWalk;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::machine::Machine;
use crate::parallel;
use crate::progress::Meter;
use crate::session::Session;
use crate::size;
use crate::supervisor::Finished;
use crate::system::SystemName;
use crate::table::{self, grouped};

/// Overlap goes from 0 to 1 in so many steps.
const STEPS: u32 = 10;

/// One measured cell of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Page faults of the task on its arrays.
    pub faults: u64,
    /// Lookups in the master table.
    pub lookups: u64,
    /// Frames of the arrays on each node.
    pub frames: Vec<u64>,
    /// Instructions of the measured phase.
    pub instructions: u64,
}

impl Cell {
    /// Takes what the table needs out of a run on a machine of `nodes` nodes.
    ///
    /// # Errors
    /// [`Error::Check`] if the guest did not send it.
    pub fn new(run: &Finished, nodes: usize) -> Result<Self> {
        let get = |case: &str, metric: &str| {
            let case = format!("array-walk.{case}");
            let value = run.sum(&case, metric);
            value
                .map(|value| value as u64)
                .ok_or_else(|| Error::Check(format!("the guest sent no {metric} of {case}")))
        };
        Ok(Self {
            faults: get("faults", "faults")?,
            lookups: get("lookups", "lookups")?,
            frames: (0..nodes)
                .map(|node| get("frames", &format!("frames.node{node}")))
                .collect::<Result<_>>()?,
            instructions: get("instructions", "instructions")?,
        })
    }
}

/// One row: an overlap, and the cell of each system in the order of [`SystemName::ALL`].
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The overlap.
    pub overlap: f64,
    /// The cells.
    pub cells: [Cell; 3],
}

impl Row {
    fn numa(&self) -> &Cell {
        &self.cells[0]
    }
    fn single_space(&self) -> &Cell {
        &self.cells[2]
    }
}

/// Bytes of an array at least: with fewer pages the parts of the nodes are a matter of chance.
const SMALLEST: u64 = 1 << 20;

/// All experiments of the job, in the order of the table.
///
/// # Errors
/// [`Error::Usage`] if the arrays do not fit, or are too small.
pub fn experiments(machine: &Machine, size: u64, silence: Duration) -> Result<Vec<Experiment>> {
    if size < SMALLEST {
        let (size, smallest) = (size::format(size), size::format(SMALLEST));
        return Err(Error::Usage(format!(
            "--size {size} is too small to compare placements: use at least {smallest}"
        )));
    }
    let mut all = Vec::new();
    for step in 0..=STEPS {
        let overlap = f64::from(step) / f64::from(STEPS);
        for system in SystemName::ALL {
            let walk = ArrayWalk { overlap, size, ..ArrayWalk::default() };
            all.push(Experiment::array_walk(machine.clone(), system.system(), walk, silence)?);
        }
    }
    Ok(all)
}

/// Runs experiments, a few at a time; stops at the first that does not pass.
///
/// # Errors
/// Of the first run that fails, after its last lines were shown.
pub fn run_all(experiments: &[Experiment], session: &Session) -> Result<Vec<Finished>> {
    let meter = Meter::new(experiments.len(), false);
    let finished = parallel::each(0..experiments.len(), |index| {
        let experiment = &experiments[index];
        meter.start(&experiment.describe());
        let run = experiment.run(session, &meter)?;
        let tail = run.tail.clone();
        let run = run.passed().inspect_err(|_| tail.iter().for_each(|line| meter.line(line)))?;
        meter.done(&experiment.describe());
        Ok(run)
    })?;
    Ok(finished.into_iter().map(|(_, run)| run).collect())
}

/// Makes rows of the runs of [`experiments`].
///
/// # Errors
/// [`Error::Check`] if a measurement is missing.
pub fn rows(experiments: &[Experiment], runs: &[Finished]) -> Result<Vec<Row>> {
    let systems = SystemName::ALL.len();
    let chunks = experiments.chunks_exact(systems).zip(runs.chunks_exact(systems));
    chunks
        .map(|(experiments, runs)| {
            let nodes = experiments[0].machine.nodes.len();
            let overlap = experiments[0].walk.as_ref().map_or(0.0, |walk| walk.overlap);
            let cell = |index: usize| Cell::new(&runs[index], nodes);
            Ok(Row { overlap, cells: [cell(0)?, cell(1)?, cell(2)?] })
        })
        .collect()
}

/// The comparison: a row per overlap, with a line per system.
pub fn comparison(rows: &[Row]) -> Table {
    let mut table = table::ruled([
        "overlap",
        "system",
        "page faults",
        "master lookups",
        "frames per node",
        "instructions",
    ]);
    for row in rows {
        let column =
            |show: &dyn Fn(&Cell) -> String| row.cells.iter().map(show).collect::<Vec<_>>().join("\n");
        table.add_row([
            format!("{:.1}", row.overlap),
            SystemName::ALL.map(|system| system.to_string()).join("\n"),
            column(&|cell| grouped(cell.faults)),
            column(&|cell| grouped(cell.lookups)),
            column(&|cell| cell.frames.iter().map(|&frames| grouped(frames)).collect::<Vec<_>>().join(" + ")),
            column(&|cell| grouped(cell.instructions)),
        ]);
    }
    table::align_numbers(&mut table, 2);
    table
}

/// What has to hold whatever the machine: one line per check, with whether it does.
pub fn checks(rows: &[Row], threads: u64) -> Vec<(bool, String)> {
    let mut checks = Vec::new();
    for row in rows {
        let (numa, single) = (row.numa().faults, row.single_space().faults);
        let factor = match row.overlap {
            0.0 => 1,
            1.0 => threads,
            _ => continue,
        };
        let line = format!(
            "overlap {:.1}: numa takes {} faults, {factor} x the {} of single-space",
            row.overlap,
            grouped(numa),
            grouped(single)
        );
        checks.push((numa == factor * single, line));
        for (system, cell) in SystemName::ALL.iter().zip(&row.cells) {
            checks.extend(placement_check(row.overlap, *system, cell, threads));
        }
    }
    checks
}

/// First touch puts an equal part on every node where nothing is shared, and between two nodes that share everything a fair
/// part on each.
fn placement_check(overlap: f64, system: SystemName, cell: &Cell, threads: u64) -> Option<(bool, String)> {
    let all: u64 = cell.frames.iter().sum();
    let part = |frames: u64| 100 * frames / all.max(1);
    let (least, most) =
        (cell.frames.iter().min().map(|&f| part(f))?, cell.frames.iter().max().map(|&f| part(f))?);
    let expected = match (system, overlap == 0.0) {
        (SystemName::NonNuma, _) => return None,
        (_, true) => (100 / threads, 100 / threads),
        (_, false) if threads == 2 && cell.frames.len() == 2 => (35, 65),
        _ => return None,
    };
    let line = format!(
        "overlap {overlap:.1}: {system} has {least} to {most} % of the frames on each node, within {} to {} %",
        expected.0, expected.1
    );
    Some((least >= expected.0 && most <= expected.1, line))
}

/// One sentence that says what the numbers mean.
pub fn meaning(rows: &[Row]) -> String {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return String::new() };
    let ratio = |a: u64, b: u64| a as f64 / (b.max(1)) as f64;
    let change = (ratio(last.numa().instructions, last.single_space().instructions) - 1.0) * 100.0;
    let share = |cell: &Cell| {
        let largest = cell.frames.iter().copied().max().unwrap_or(0);
        100.0 * ratio(largest, cell.frames.iter().sum())
    };
    format!(
        "A kernel and an address space per node cost {:.2} times the page faults of a single space where nothing is \
         shared and {:.2} times where everything is ({:+.1} % instructions there), because a shared page is mapped \
         once per node, lazily, {} of these faults being answered from the master table; in return page tables are \
         local to each node, and where nothing is shared the fullest node holds {:.0} % of the frames, against {:.0} % in \
         the non-NUMA baseline.",
        ratio(first.numa().faults, first.single_space().faults),
        ratio(last.numa().faults, last.single_space().faults),
        change,
        grouped(last.numa().faults.saturating_sub(last.numa().frames.iter().sum())),
        share(first.numa()),
        share(&first.cells[1]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(faults: u64, frames: [u64; 2]) -> Cell {
        Cell { faults, lookups: faults, frames: frames.to_vec(), instructions: 1_000_000 + faults * 100 }
    }
    fn rows_with(numa_faults_at_one: u64) -> Vec<Row> {
        vec![
            Row { overlap: 0.0, cells: [cell(20, [10, 10]), cell(20, [20, 0]), cell(20, [10, 10])] },
            Row { overlap: 0.5, cells: [cell(20, [8, 7]), cell(15, [15, 0]), cell(15, [8, 7])] },
            Row {
                overlap: 1.0,
                cells: [cell(numa_faults_at_one, [5, 5]), cell(10, [10, 0]), cell(10, [5, 5])],
            },
        ]
    }

    #[test]
    fn the_checks_are_about_the_ends() {
        let good = checks(&rows_with(20), 2);
        assert_eq!(good.len(), 6, "faults, and placement of the two systems that place, at both ends");
        assert!(good.iter().all(|(holds, _)| *holds), "{good:?}");
        assert!(!checks(&rows_with(19), 2)[3].0);
        let four = checks(&rows_with(40), 4);
        assert!(
            four.iter().any(|(holds, line)| *holds && line.contains("4 x")),
            "four threads fault four times"
        );
    }

    #[test]
    fn the_sentence_follows_the_numbers() {
        let sentence = meaning(&rows_with(20));
        assert!(sentence.contains("1.00 times") && sentence.contains("2.00 times"), "{sentence}");
        assert!(sentence.contains("10 of these faults"), "{sentence}");
        assert!(meaning(&rows_with(30)).contains("3.00 times"));
    }

    #[test]
    fn the_table_has_a_line_per_system() {
        let text = comparison(&rows_with(20)).to_string();
        for word in ["0.5", "non-numa", "single-space", "8 + 7", "1,002,000"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
