//! Goals: bounds for numbers of the evaluation, and whether they are met.

use serde_json::{Value as Json, json};

use crate::benches::{floor, many, unmap_cell};
use crate::breakdown;
use crate::cell::{Cell, Core, NON_NUMA, NUMA, SINGLE_SPACE, Work};
use crate::metric::Metric;
use crate::results::{Record, Results};
use crate::setup::Setup;

/// How a goal's number comes out of cells.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The largest of these ratios.
    Worst(Metric, Vec<(Cell, Cell)>),
    /// The first one's time by the floor that comes with the second.
    Floor(Box<[Cell; 2]>),
    /// What each further sharer adds, from the first cell to the second.
    PerFurther(Metric, Box<[Cell; 2]>, f64),
    /// How many percent the largest is above the first.
    Growth(Metric, Vec<Cell>),
}

impl Value {
    /// The runs it needs.
    pub fn cells(&self) -> Vec<Cell> {
        match self {
            Self::Worst(_, pairs) => pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect(),
            Self::Floor(cells) => cells.to_vec(),
            Self::PerFurther(_, cells, _) => cells.to_vec(),
            Self::Growth(_, cells) => cells.clone(),
        }
    }

    /// Its number, and the two cells that decide it (of a floor, the run that it was computed from), if they were run.
    pub fn get<'a>(&'a self, results: &Results) -> Option<(f64, [&'a Cell; 2])> {
        match self {
            Self::Worst(metric, pairs) => {
                let mut worst: Option<(f64, [&Cell; 2])> = None;
                for (a, b) in pairs {
                    let ratio = metric.value(results, a)? / metric.value(results, b)?;
                    if worst.is_none_or(|(value, _)| ratio > value) {
                        worst = Some((ratio, [a, b]));
                    }
                }
                worst
            }
            Self::Floor(cells) => {
                let [cell, floor] = cells.as_ref();
                let ratio = Metric::Elapsed.value(results, cell)? / Metric::Floor.value(results, floor)?;
                Some((ratio, [cell, floor]))
            }
            Self::PerFurther(metric, cells, further) => {
                let [few, many] = cells.as_ref();
                let more = metric.value(results, many)? - metric.value(results, few)?;
                Some((more / further, [many, few]))
            }
            Self::Growth(metric, cells) => {
                let first = cells.first()?;
                let base = metric.value(results, first)?;
                let mut largest = (base, first);
                for cell in cells {
                    let value = metric.value(results, cell)?;
                    if value > largest.0 {
                        largest = (value, cell);
                    }
                }
                Some(((largest.0 / base - 1.0) * 100.0, [largest.1, first]))
            }
        }
    }
}

/// A goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// The benchmark that measures it.
    pub bench: &'static str,
    /// What it is about.
    pub name: String,
    /// For which core model.
    pub core: Core,
    /// The largest good value.
    pub bound: f64,
    /// In what.
    pub unit: &'static str,
    /// How the value comes about.
    pub value: Value,
}

/// A goal with its value.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The goal.
    pub goal: Goal,
    /// Its value.
    pub value: f64,
    /// Whether it is within the bound.
    pub met: bool,
    /// Where the cycles are that the deciding run takes more than the other.
    pub why: String,
}

/// All goals, for both cores.
pub fn goals(setup: Setup) -> Vec<Goal> {
    Core::ALL.into_iter().flat_map(|core| of_core(setup, core)).collect()
}

fn of_core(setup: Setup, core: Core) -> Vec<Goal> {
    let by_core = |blocking: f64, prefetching: f64| match core {
        Core::Blocking => blocking,
        Core::Prefetching => prefetching,
    };
    let walk = |system, overlap, iterations| setup.walk(system, core, overlap, iterations);
    let against =
        |other, overlap, iterations| (walk(NUMA, overlap, iterations), walk(other, overlap, iterations));
    let time = |pairs| Value::Worst(Metric::Elapsed, pairs);
    let goal = |bench, name: String, bound, unit, value| Goal { bench, name, core, bound, unit, value };
    let mut all = vec![goal(
        "array-walk",
        "overlap 1, one iteration: numa / non-numa".into(),
        by_core(0.92, 1.0),
        "ratio",
        time(vec![against(NON_NUMA, 10, 1)]),
    )];
    for iterations in [1, 4, 10] {
        let pairs = (0..=10).map(|overlap| against(NON_NUMA, overlap, iterations)).collect();
        let name = format!("every overlap, iterations {iterations}: numa / non-numa, the worst");
        all.push(goal("overlap", name, 1.0, "ratio", time(pairs)));
    }
    for (iterations, bound) in [(1, by_core(1.06, 1.10)), (4, by_core(1.02, 1.03)), (10, by_core(1.02, 1.03))]
    {
        let pair = [walk(NUMA, 0, iterations), floor(setup, core, iterations)];
        let name = format!("overlap 0, iterations {iterations}: numa / floor");
        all.push(goal("remote", name, bound, "ratio", Value::Floor(Box::new(pair))));
    }
    for overlap in [0, 10] {
        let name = format!("overlap {}, iterations 4: numa / one space with first touch", overlap / 10);
        all.push(goal("single-space", name, 1.02, "ratio", time(vec![against(SINGLE_SPACE, overlap, 4)])));
    }
    all.extend(unmap(setup, core));
    for (cpus, bound) in [(1, by_core(3.0, 5.0)), (4, by_core(10.0, 15.0))] {
        let cells = [2, 4, 8, 16].map(|nodes| many(setup, NUMA, core, nodes, cpus)).into();
        let name = format!("2 to 16 nodes, {cpus} CPU{} per node: growth", if cpus == 1 { "" } else { "s" });
        all.push(goal("scaling", name, bound, "percent", Value::Growth(Metric::Elapsed, cells)));
    }
    all
}

fn unmap(setup: Setup, core: Core) -> Vec<Goal> {
    let cell =
        |system, sharers, batch, polling| unmap_cell(setup, system, core, sharers, batch, polling, None);
    let ratio = |name: &str, bound, sharers, batch, polling| {
        // The baseline is asked the same, on as many nodes.
        let pair = (cell(NUMA, sharers, batch, polling), cell(NON_NUMA, sharers, batch, polling));
        let value = Value::Worst(Metric::PerRound, vec![pair]);
        Goal { bench: "unmap", name: name.into(), core, bound, unit: "ratio", value }
    };
    let (two, eight) = (cell(NUMA, 2, false, false), cell(NUMA, 8, false, false));
    vec![
        ratio("unmap, one node: numa / non-numa", 1.1, 1, false, false),
        ratio("unmap, both nodes, polling: numa / non-numa", 2.2, 2, false, true),
        ratio("unmap, both nodes, sleeping: numa / non-numa", 3.0, 2, false, false),
        ratio("unmap, both nodes, 63 pages: numa / non-numa", 1.3, 2, true, false),
        ratio("unmap, eight nodes, polling: numa / non-numa", 4.0, 8, false, true),
        ratio("unmap, eight nodes, sleeping: numa / non-numa", 5.0, 8, false, false),
        Goal {
            bench: "unmap",
            name: "unmap: the caller's cycles per further sharer, two to eight".into(),
            core,
            bound: 250.0,
            unit: "cycles",
            value: Value::PerFurther(Metric::CallerPerRound, Box::new([two, eight]), 6.0),
        },
    ]
}

/// By how much a walk is above its floor, per page.
fn above_floor(results: &Results, cell: &Cell, floor: &Cell) -> Option<String> {
    let Work::ArrayWalk { bytes, .. } = cell.work else { return None };
    let more = Metric::Elapsed.value(results, cell)? - Metric::Floor.value(results, floor)?;
    Some(format!(
        "{:.0} cycles per page above the floor, page faults nearly all",
        more / (bytes / 4096) as f64
    ))
}

/// The outcomes of those goals whose cells were all run.
pub fn outcomes(setup: Setup, results: &Results) -> Vec<Outcome> {
    let outcome = |goal: Goal| {
        let (value, why) = {
            let (value, cells) = goal.value.get(results)?;
            let why = match &goal.value {
                Value::Floor(cells) => above_floor(results, &cells[0], &cells[1]).unwrap_or_default(),
                _ => breakdown::sentence(results, cells[0], cells[1]),
            };
            (value, why)
        };
        Some(Outcome { met: value <= goal.bound, value, why, goal })
    };
    goals(setup).into_iter().filter_map(outcome).collect()
}

impl Outcome {
    /// As a record, with `common` fields (parameters, provenance) at its end.
    pub fn record(&self, common: &Record) -> Record {
        let fields = json!({
            "bench": self.goal.bench, "case": format!("goal/{}/{}", self.goal.name, self.goal.core.name()), "metric": "goal",
            "value": (self.value * 1e4).round() / 1e4, "unit": self.goal.unit, "kind": "modelled", "goal": self.goal.bound,
            "met": self.met, "model": self.goal.core.name(), "why": self.why,
        });
        let Json::Object(mut record) = fields else { return Record::new() };
        for (key, value) in common {
            record.entry(key.clone()).or_insert_with(|| value.clone());
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invented;

    const SETUP: Setup = Setup { quick: true, paper: false };

    fn results(time: impl Fn(&Cell) -> u64) -> Results {
        let mut cells: Vec<Cell> = Vec::new();
        for cell in goals(SETUP).into_iter().flat_map(|goal| goal.value.cells()) {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        let records: Vec<Record> =
            cells.iter().flat_map(|cell| invented::records("b", cell, time(cell))).collect();
        Results::of(&records)
    }

    #[test]
    fn all_goals_have_a_value_and_equal_times_a_ratio_of_one() {
        let outcomes = outcomes(SETUP, &results(|_| 64_000));
        assert_eq!(outcomes.len(), goals(SETUP).len());
        assert!(outcomes.iter().filter(|o| o.goal.unit == "ratio").all(|o| o.value == 1.0));
        let first = &outcomes[0];
        assert!(!first.met && first.goal.bound == 0.92, "equal is not enough");
        let record = first.record(&Record::new());
        assert_eq!(
            (&record["goal"], &record["met"], &record["value"]),
            (&json!(0.92), &json!(false), &json!(1.0))
        );
    }

    #[test]
    fn the_worst_pair_decides_and_says_why() {
        let slow = SETUP.walk(NUMA, Core::Blocking, 7, 4);
        let outcomes = outcomes(SETUP, &results(|cell| if *cell == slow { 1_200 } else { 1_000 }));
        let worst = outcomes.iter().find(|o| o.goal.name.contains("iterations 4: numa / non-numa")).unwrap();
        assert!((worst.value - 1.2).abs() < 1e-9 && !worst.met);
        assert!(worst.why.contains("local memory +10.0 %"), "{}", worst.why);
    }

    #[test]
    fn growth_and_sharers_are_differences() {
        let results = results(|cell| {
            let nodes = cell.machine.nodes.map_or(2, |(nodes, _)| nodes as u64);
            10_000 + 640 * nodes
        });
        let outcomes = outcomes(SETUP, &results);
        let named = |word: &str| outcomes.iter().find(|o| o.goal.name.contains(word)).unwrap().value;
        assert!((named("growth") - (20_240.0 / 11_280.0 - 1.0) * 100.0).abs() < 1e-9);
        assert!((named("further sharer") - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_goal_whose_runs_are_missing_has_no_outcome() {
        assert!(outcomes(SETUP, &Results::default()).is_empty());
    }
}
