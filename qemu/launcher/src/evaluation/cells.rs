//! A cell as an experiment, and its run.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use skerry_cost_model::CoreModel;
use skerry_evaluation::cell::{self, Cell, Core, Variant, Work};

use super::floor;
use crate::app::{ARRAY_WALK, App, ArrayWalk, LATENCY};
use crate::console::Measurement;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::machine::{LOCAL_DISTANCE, Machine, Overrides};
use crate::plugin::{Modelling, QUANTUM};
use crate::quanta;
use crate::record::Record;
use crate::session::{self, Session};
use crate::supervisor::{Finished, Observer};
use crate::system::System;
use crate::tuning::{Ahead, Place, Tuning, Unmap};

/// The program of a ping-pong: it runs instead of the servers, with spaces and threads of its own making.
static PING_PONG: App = App { name: "kernel-bench", description: "" };
/// What it is asked for.
const ROUND_TRIP: &str = "ipc.roundtrip";
/// No time slice ends while it runs.
const ALONE: [&str; 2] = ["root=kernel-bench", "tick=10000ms"];

/// The experiment that a cell is.
///
/// # Errors
/// [`Error::Usage`] if the machine cannot do it.
pub fn experiment(cell: &Cell, silence: Duration) -> Result<Experiment> {
    let machine = machine(&cell.machine)?;
    let cpus = machine.cpus() as u64;
    let system = system(cell.system)?;
    let (app, walk) = match &cell.work {
        Work::ArrayWalk { overlap, iterations, bytes, variant } => {
            let walk = ArrayWalk {
                overlap: f64::from(*overlap) / 10.0,
                iterations: *iterations,
                size: *bytes,
                write: false,
                local: *variant == Variant::Local,
                touched: *variant == Variant::Touched,
                per_cpu: *variant == Variant::PerCpu,
            };
            (App::find(ARRAY_WALK)?, Some(walk))
        }
        Work::Latency { .. } => (App::find(LATENCY)?, None),
        Work::PingPong => (&PING_PONG, None),
        Work::Unmap { .. } => (App::find("unmap")?, None),
    };
    // Many CPUs take long to get through a boot one after the other.
    let silence = silence * (1 + cpus / 16) as u32;
    let mut experiment = Experiment::new(machine, system, app, walk, silence)?;
    // The emulator's clock adds up the instructions of all CPUs; each of them is to have as much between two ticks, however many there are.
    experiment.options = vec![format!("tick={}us", tick_us(&experiment))];
    experiment.tuning = tuning(&cell.options)?.check(&experiment.machine)?;
    let core = match cell.core {
        Core::Blocking => CoreModel::Blocking,
        Core::Prefetching => CoreModel::Prefetching,
    };
    experiment.modelling = Some(Modelling { core, quantum: QUANTUM, sanitize: false });
    match &cell.work {
        Work::ArrayWalk { .. } => {}
        Work::Latency { sizes } => {
            let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
            experiment.app_args = vec![format!("--sizes={}", sizes.join(","))];
        }
        Work::PingPong => {
            experiment.options = ALONE.map(str::to_owned).into();
            experiment.app_args = vec![ROUND_TRIP.into()];
        }
        Work::Unmap { sharers, batch, polling } => {
            experiment.app_args = vec![format!("--sharers={sharers}")];
            experiment.app_args.extend(batch.then(|| "--batch".to_owned()));
            experiment.app_args.extend(polling.then(|| "--polling".to_owned()));
        }
    }
    Ok(experiment)
}

/// Microseconds from tick to tick of a CPU: those of two CPUs, for each two.
fn tick_us(experiment: &Experiment) -> u64 {
    experiment.pace.tick_us() * (experiment.machine.cpus() as u64).max(2) / 2
}

/// Runs a cell, with all quanta if that is wanted, and makes its records; they say `bench` of the program, which the caller changes.
///
/// # Errors
/// If the run does not pass.
pub fn run(
    cell: &Cell,
    session: &Session,
    silence: Duration,
    all_quanta: bool,
    observer: &dyn Observer,
) -> Result<Vec<Record>> {
    let experiment = experiment(cell, silence)?;
    let mut runs = match all_quanta {
        true => quanta::run(&experiment, session, observer)?,
        false => vec![experiment.run(session, observer)?.passed()?],
    };
    if let (Work::ArrayWalk { variant: Variant::Touched, .. }, Some(walk), Some(modelling)) =
        (&cell.work, &experiment.walk, experiment.modelling)
    {
        for run in &mut runs {
            let floor = floor::cycles(&experiment.machine, modelling, walk, &instructions(run))?;
            run.measurements.push(measurement(floor));
        }
    }
    // The usual quantum is one of them.
    let usual = if all_quanta { quanta::QUANTA.iter().position(|&quantum| quantum == QUANTUM) } else { None };
    let finished = &runs[usual.unwrap_or(0)];
    let mut parameters = experiment.parameters();
    parameters.insert("system".into(), json!(cell.system.name));
    if cell.work != Work::PingPong {
        parameters.insert("tick_us".into(), json!(tick_us(&experiment)));
    }
    if let Some(distance) = cell.machine.distance {
        parameters.insert("distance".into(), json!(distance));
    }
    if cell.machine.uncached {
        parameters.insert("uncached".into(), json!(true));
    }
    let mut records = super::records_of(cell, &parameters, session, std::slice::from_ref(finished));
    quanta::note(&mut records, "of", if all_quanta { &runs } else { &[] });
    Ok(records)
}

/// Instructions of every CPU in what was measured, in their order.
fn instructions(run: &Finished) -> Vec<u64> {
    let of = |m: &&Measurement| m.case == "array-walk.measured" && m.metric == "instructions";
    run.measurements.iter().filter(of).filter_map(|m| m.value.as_u64()).collect()
}

fn measurement(floor: u64) -> Measurement {
    Measurement {
        bench: ARRAY_WALK.into(),
        case: "array-walk.floor".into(),
        metric: "elapsed".into(),
        value: floor.into(),
        unit: "cycles".into(),
        kind: "modelled".into(),
        parameters: serde_json::Map::new(),
    }
}

/// The machine of a cell.
///
/// # Errors
/// [`Error::Usage`].
pub fn machine(wanted: &cell::Machine) -> Result<Machine> {
    let many = wanted.nodes.map(|(nodes, cpus)| Overrides {
        nodes: Some(nodes),
        cpus: Some(nodes * cpus),
        mem: Some(nodes as u64 * cell::Machine::NODE_MEMORY),
    });
    let mut machine = Machine::load(&session::machines()?, wanted.name, many.unwrap_or_default())?;
    if let Some(distance) = wanted.distance {
        machine.name = format!("{}+", machine.name.trim_end_matches('+'));
        for (from, row) in machine.distances.iter_mut().enumerate() {
            for (to, entry) in row.iter_mut().enumerate() {
                *entry = if from == to { LOCAL_DISTANCE } else { distance };
            }
        }
    }
    if wanted.uncached {
        machine.name = format!("{}+", machine.name.trim_end_matches('+'));
        (machine.model.l1.kib, machine.model.l1.ways) = (1, 1);
        (machine.model.l2.kib, machine.model.llc.kib) = (0, 0);
    }
    machine.check()
}

fn word<T: ValueEnum>(word: &str) -> Result<T> {
    T::from_str(word, false).map_err(Error::Usage)
}

fn system(system: cell::System) -> Result<System> {
    Ok(System {
        kernel: word(system.kernel)?,
        space: word(system.space)?,
        placement: word(system.placement)?,
    })
}

fn tuning(options: &[&str]) -> Result<Tuning> {
    let mut tuning = Tuning::default();
    for option in options {
        match option.split_once('=') {
            Some(("ahead", value)) => tuning.ahead = Some(word::<Ahead>(value)?),
            Some(("unmap", value)) => tuning.unmap = Some(word::<Unmap>(value)?),
            _ => tuning.places.push(Place::from_str(option).map_err(Error::Usage)?),
        }
    }
    Ok(tuning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_evaluation::cell::NUMA;
    use skerry_evaluation::setup::Setup;

    #[test]
    fn options_and_machines_reach_the_experiment() {
        let setup = Setup { quick: true, paper: true };
        let mut cell = setup.cell(NUMA, Core::Prefetching, Work::PingPong);
        cell.options.push("tcbs=next");
        cell.machine.uncached = true;
        let experiment = experiment(&cell, Duration::from_secs(1)).unwrap();
        let line = experiment.command_line().unwrap();
        assert!(line.starts_with("root=kernel-bench tick=10000ms clusters=per-node"), "{line}");
        assert!(
            line.contains(" tcbs=next unmap=sequential ahead=1 ") && line.ends_with(" -- ipc.roundtrip"),
            "{line}"
        );
        assert_eq!((experiment.machine.model.l1.kib, experiment.machine.model.l2.kib), (1, 0));
        cell.machine =
            cell::Machine { nodes: Some((3, 2)), distance: Some(30), ..cell::Machine::named("opteron") };
        let machine = machine(&cell.machine).unwrap();
        assert_eq!((machine.cpus(), machine.distances[0].as_slice()), (6, &[10, 30, 30][..]));
        assert_eq!((machine.name.as_str(), machine.nodes[0].mem), ("opteron+", 256 << 20));
    }
}
