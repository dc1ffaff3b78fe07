//! `bench instrument`: whether the measuring instrument measures what its machine file says, and what it costs.
//!
//! The guest program `latency` walks linked lists in the memory of every node, at a size for every level of the caches. Every load waits for
//! the one before, so what a load waits has to be the configured latency of the level, or of the distance.

use std::time::{Duration, Instant};

use comfy_table::Table;
use latency::Options;
use serde_json::{Map, Number, Value, json};
use skerry_cost_model::CoreModel;

use crate::app::{App, ArrayWalk, LATENCY};
use crate::console::Measurement;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::machine::{LOCAL_DISTANCE, Machine, Overrides};
use crate::plugin::{Modelling, QUANTUM};
use crate::progress::Meter;
use crate::record::{self, Record, Series};
use crate::session::Session;
use crate::size::MIB;
use crate::supervisor::Finished;
use crate::system::SystemName;
use crate::validation::Validation;
use crate::{quanta, session, table};

/// Name of this benchmark.
pub const NAME: &str = "instrument";
/// One line about it.
pub const ABOUT: &str = "the cost model against its own configuration (latency of every level and distance), and what it costs (slowdown)";
/// Where latency is looked at: caches of three levels, of two, and many distances.
const MACHINES: [&str; 3] = ["two-node", "opteron", "eight-node"];
/// How far a latency may be off, in percent: the program's first instructions and last ones are in its phase.
const TOLERANCE: f64 = 1.0;
/// And in cycles: ticks of the timer come in between.
const TICKS: f64 = 0.25;
/// What the walk with the instrument may take, as a multiple of the walk without.
const SLOWDOWN: f64 = 2.5;
/// Runs of each.
const SLOWDOWN_RUNS: u32 = 4;

/// A number, and what it has to be.
#[derive(Clone, Debug)]
pub struct Finding {
    measurement: Measurement,
    /// What is configured, or the largest value that is good.
    bar: f64,
    met: bool,
}

/// A level of the memory hierarchy, and the list that lies in it.
struct Level {
    name: &'static str,
    bytes: u64,
    /// Cycles at distance 10; whether distance counts.
    latency: u32,
    is_memory: bool,
}

fn levels(machine: &Machine) -> Vec<Level> {
    let model = &machine.model;
    let level = |name, kib: u64, latency| Level { name, bytes: kib * 1024 / 2, latency, is_memory: false };
    let mut all = vec![level("l1", model.l1.kib, 0), level("l2", model.l2.kib, model.l2.latency)];
    all.push(level("llc", model.llc.kib, model.llc.latency));
    all.retain(|level| level.bytes > 0);
    let largest = model.l2.kib.max(model.llc.kib);
    all.push(Level {
        name: "memory",
        bytes: largest * 1024 * 4,
        latency: model.memory.latency,
        is_memory: true,
    });
    all
}

/// Runs all cases, or those whose name begins with one of `wanted`.
///
/// # Errors
/// Of the first run that does not pass.
pub fn run(session: &Session, wanted: &[String], silence: Duration, meter: &Meter) -> Result<Vec<Finding>> {
    let is_wanted =
        |case: &str| wanted.is_empty() || wanted.iter().any(|word| case.starts_with(word.as_str()));
    let mut all = Vec::new();
    if is_wanted("instrument.latency") {
        for name in MACHINES {
            for core in [CoreModel::Blocking, CoreModel::Prefetching] {
                all.extend(latencies(session, name, core, silence, meter)?);
            }
        }
    }
    if is_wanted("instrument.validation") {
        all.extend(validations()?);
    }
    if is_wanted("instrument.quantum") {
        for overlap in [0.0, 0.5] {
            all.extend(quantum(session, overlap, silence, meter)?);
        }
    }
    if is_wanted("instrument.slowdown") {
        all.push(slowdown(session, silence, meter)?);
    }
    if all.is_empty() {
        return Err(Error::Usage(
            "the cases of bench instrument are instrument.latency, instrument.validation, instrument.quantum and instrument.slowdown"
                .into(),
        ));
    }
    Ok(all)
}

/// Latency of every level, from the first node with a CPU to the memory of every other.
///
/// # Errors
/// If the run does not pass.
pub fn latencies(
    session: &Session,
    machine: &str,
    core: CoreModel,
    silence: Duration,
    meter: &Meter,
) -> Result<Vec<Finding>> {
    let machine = Machine::load(&session::machines()?, machine, Overrides::default())?;
    let levels = levels(&machine);
    let sizes: Vec<String> = levels.iter().map(|level| level.bytes.to_string()).collect();
    let argument = format!("--sizes={}", sizes.join(","));
    let mut experiment =
        Experiment::new(machine.clone(), SystemName::Numa.system(), App::find(LATENCY)?, None, silence)?;
    experiment.app_args = vec![argument.clone()];
    experiment.modelling = Some(Modelling { core, quantum: QUANTUM, sanitize: false });
    meter.start(&experiment.describe());
    let run = experiment.run(session, meter)?.passed()?;
    meter.done(&experiment.describe());
    let options = Options::parse(&argument).map_err(|error| Error::Usage(error.to_string()))?;
    let homes: Vec<usize> = machine.nodes_with_cpus().collect();
    let mut findings = Vec::new();
    for (place, &home) in homes.iter().enumerate() {
        for (index, level) in levels.iter().enumerate() {
            let phase = format!("{LATENCY}.phase{}", options.phase(place, index));
            let distance = machine.distances[homes[0]][home];
            let scale = if level.is_memory { f64::from(distance) / f64::from(LOCAL_DISTANCE) } else { 1.0 };
            let expected = f64::from(level.latency) * scale;
            let waited = waited(&run, &phase)? / options.loads(level.bytes) as f64;
            let off = (waited - expected).abs();
            let parameters = json!({
                "machine": machine.name, "machine_hash": machine.hash, "model": core, "quantum": QUANTUM, "home": home,
                "distance": distance, "bytes": level.bytes, "stride": options.stride,
            });
            findings.push(Finding {
                measurement: measurement(
                    &format!("instrument.latency.{}", level.name),
                    "latency",
                    waited,
                    "cycles",
                    "modelled",
                    parameters,
                ),
                bar: expected,
                met: off <= (expected * TOLERANCE / 100.0).max(TICKS),
            });
        }
    }
    Ok(findings)
}

/// The CPU that walks the lists: the first one of the first node that has any. On others pagers may still be giving back what the threads that
/// made the lists had.
const WALKER: u64 = 0;

/// What the walking CPU waited for lines in a phase, page-table walks left out.
fn waited(run: &Finished, phase: &str) -> Result<f64> {
    let waits = run.measurements.iter().filter(|m| {
        m.case == phase
            && m.parameters.get("cpu").and_then(Value::as_u64) == Some(WALKER)
            && m.metric.starts_with("wait_")
            && !["wait_walk", "wait_maintenance"].contains(&&*m.metric)
    });
    let values: Vec<f64> = waits.filter_map(|m| m.value.as_f64()).collect();
    if values.is_empty() {
        Err(Error::Check(format!("there is no {phase}")))
    } else {
        Ok(values.iter().sum())
    }
}

/// The model against published measurements, without a guest.
fn validations() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in Validation::load_all(&session::workspace()?.join("qemu/validation"))? {
        for point in &file.points {
            let value = file.measure(point)?;
            let parameters = json!({
                "source": file.source, "role": point.role, "what": point.what, "load": point.gb_s, "goal": point.published,
                "tolerance": file.tolerance, "machine": file.name,
            });
            let unit = serde_json::to_value(point.unit).unwrap_or_default();
            let case = format!("instrument.validation.{}", file.name);
            let unit = unit.as_str().unwrap_or("");
            findings.push(Finding {
                measurement: measurement(&case, "published", value, unit, "modelled", parameters),
                bar: point.published,
                met: file.is_met(point, value),
            });
        }
    }
    Ok(findings)
}

/// What is published of an array walk.
const PUBLISHED: [&str; 6] =
    ["elapsed", "dram_local", "dram_remote", "transfers_remote", "tlb_misses", "wait_walk"];

/// How much of what is published of an array walk depends on the quantum. That it does is no fault of the instrument's: its record says so.
fn quantum(session: &Session, overlap: f64, silence: Duration, meter: &Meter) -> Result<Vec<Finding>> {
    let machine = Machine::load(&session::machines()?, crate::machine::DEFAULT, Overrides::default())?;
    let walk = ArrayWalk { overlap, size: 4 * MIB, ..ArrayWalk::default() };
    let mut experiment = Experiment::array_walk(machine, SystemName::Numa.system(), walk, silence)?;
    experiment.modelling = Some(Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: false });
    meter.start(&experiment.describe());
    let runs = quanta::run(&experiment, session, meter)?;
    meter.done(&experiment.describe());
    let finding = |metric: &&str| {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.sum("array-walk.measured", metric)).collect();
        let spread = quanta::spread(&values, runs.len());
        let parameters = json!({
            "published": metric, "overlap": overlap, "model": CoreModel::Blocking, "quanta": quanta::QUANTA, "values": values,
            "quantum_sensitive": spread > quanta::LIMIT,
        });
        let name = format!("instrument.quantum.{metric}");
        let measurement = measurement(&name, "spread", spread, "percent", "modelled", parameters);
        Finding { measurement, bar: quanta::LIMIT, met: true }
    };
    Ok(PUBLISHED.iter().map(finding).collect())
}

/// The array walk with the instrument and without.
fn slowdown(session: &Session, silence: Duration, meter: &Meter) -> Result<Finding> {
    session.plugin()?;
    let machine = Machine::load(&session::machines()?, crate::machine::DEFAULT, Overrides::default())?;
    let walk = ArrayWalk { overlap: 0.5, iterations: 4, size: 32 * MIB, ..ArrayWalk::default() };
    let mut experiment = Experiment::array_walk(machine, SystemName::Numa.system(), walk, silence)?;
    let modelling = Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: false };
    let mut time = |modelling| -> Result<f64> {
        experiment.modelling = modelling;
        meter.start(&experiment.describe());
        let start = Instant::now();
        experiment.run(session, meter)?.passed()?;
        meter.done(&experiment.describe());
        Ok(start.elapsed().as_secs_f64())
    };
    // In turns, so that what else the host does meanwhile meets both; the shortest of each is what it takes.
    let (mut plain, mut modelled) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..SLOWDOWN_RUNS {
        plain = plain.min(time(None)?);
        modelled = modelled.min(time(Some(modelling))?);
    }
    let factor = modelled / plain;
    let parameters = json!({"model": CoreModel::Blocking, "quantum": QUANTUM, "runs": SLOWDOWN_RUNS});
    Ok(Finding {
        measurement: measurement("instrument.slowdown", "slowdown", factor, "times", "wall", parameters),
        bar: SLOWDOWN,
        met: factor <= SLOWDOWN,
    })
}

fn measurement(
    case: &str,
    metric: &str,
    value: f64,
    unit: &str,
    kind: &str,
    parameters: Value,
) -> Measurement {
    let value = (value * 1000.0).round() / 1000.0;
    Measurement {
        bench: NAME.into(),
        case: case.into(),
        metric: metric.into(),
        value: Number::from_f64(value).unwrap_or_else(|| 0.into()),
        unit: unit.into(),
        kind: kind.into(),
        parameters: match parameters {
            Value::Object(fields) => fields,
            _ => Map::new(),
        },
    }
}

/// As records, with `bar` and `met`.
pub fn records(session: &Session, findings: &[Finding]) -> Vec<Record> {
    findings
        .iter()
        .flat_map(|finding| {
            let measurement = finding.measurement.clone();
            let series = Series { sorted: vec![measurement.value.clone()], measurement };
            let mut records = record::records(&Map::new(), &session.provenance, &[series]);
            for record in &mut records {
                record.insert("bar".into(), json!(finding.bar));
                record.insert("met".into(), json!(finding.met));
            }
            records
        })
        .collect()
}

/// For people.
pub fn comparison(findings: &[Finding]) -> Table {
    let mut table = table::new(["case", "machine", "model", "distance", "value", "unit", "expected", "met"]);
    for Finding { measurement: m, bar, met } in findings {
        let parameter = |name: &str| {
            m.parameters
                .get(name)
                .map_or_else(String::new, |value| value.to_string().trim_matches('"').to_owned())
        };
        let is_limit = m.case == "instrument.slowdown";
        let is_told = m.unit == "percent";
        table.add_row([
            m.case.clone(),
            parameter("machine"),
            parameter("model"),
            parameter("distance"),
            m.value.to_string(),
            m.unit.clone(),
            format!(
                "{}{bar}",
                if is_limit {
                    "at most "
                } else if is_told {
                    "told above "
                } else {
                    ""
                }
            ),
            if *met { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

/// Whether everything is as it has to be.
pub fn all_met(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_list_that_lies_in_it() {
        let load =
            |name: &str| Machine::load(&session::machines().unwrap(), name, Overrides::default()).unwrap();
        for name in MACHINES {
            let machine = load(name);
            let levels = levels(&machine);
            let sizes: Vec<u64> = levels.iter().map(|level| level.bytes / 1024).collect();
            assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {sizes:?}");
            assert!(
                sizes[1] >= 2 * machine.model.l1.kib,
                "{name}: a walk round the second level leaves the first"
            );
            let argument = sizes.iter().map(|kib| (kib * 1024).to_string()).collect::<Vec<_>>().join(",");
            assert!(
                Options::parse(&format!("--sizes={argument}")).unwrap().fits(machine.nodes.len()),
                "{name}"
            );
        }
        assert_eq!(levels(&load("opteron")).len(), 3, "it has no last level");
    }
}
