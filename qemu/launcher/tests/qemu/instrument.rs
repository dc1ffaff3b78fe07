//! The measuring instrument: the same run gives the same numbers, and addresses are right on every machine.

use libtest_mimic::Trial;
use skerry::app::ArrayWalk;
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::machine::Machine;
use skerry::plugin::{self, Modelling, QUANTUM};
use skerry::progress::Meter;
use skerry::recording::{self, Recording, Row};
use skerry::size::MIB;
use skerry::supervisor::Finished;
use skerry::system::SystemName;
use skerry::trust;
use skerry_abi::marker::MEASURED;
use skerry_cost_model::CoreModel;
use skerry_replay::{Settings, compare};

use crate::harness::{Outcome, SILENCE, ensure, expect, machine, nodes, session, trial, walk};

type Failed = libtest_mimic::Failed;

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("instrument::equal-runs-give-equal-numbers", equal_runs),
        trial("instrument::the-order-of-memory-does-not-matter", reversed_memory),
        trial("instrument::instructions-are-the-exact-ones", instructions),
        trial("instrument::placement-shows", placement),
        trial("instrument::a-recorded-walk-replays-like-itself", recorded_walk),
    ];
    for name in ["uneven", "cpuless", "memless", "eight-node"] {
        trials.push(trial(format!("instrument::private-memory-is-local-on-{name}"), move || {
            local(machine(name)?)
        }));
    }
    for core in [CoreModel::Blocking, CoreModel::Prefetching] {
        let name = format!("{core:?}").to_lowercase();
        trials
            .push(trial(format!("instrument::latency-is-the-configured-one-{name}"), move || latency(core)));
    }
    trials
}

fn modelled(
    machine: Machine,
    system: SystemName,
    overlap: f64,
    core: CoreModel,
) -> Result<Experiment, Failed> {
    let mut experiment = walk(machine, system.system(), overlap)?;
    experiment.modelling = Some(Modelling { core, quantum: QUANTUM, sanitize: false });
    Ok(experiment)
}

fn two_nodes() -> Result<Machine, Failed> {
    nodes(2, 2, 512 * MIB)
}

/// The sum of a metric over CPUs.
fn sum(run: &Finished, metric: &str) -> Result<u64, Failed> {
    let sum = run.sum("array-walk.measured", metric);
    sum.map(|sum| sum as u64).ok_or_else(|| format!("no `{metric}` of the measured phase").into())
}

fn equal_runs() -> Outcome {
    let experiment = modelled(two_nodes()?, SystemName::Numa, 0.5, CoreModel::Prefetching)?;
    let (first, second) = (expect(&experiment, Ending::Pass)?, expect(&experiment, Ending::Pass)?);
    ensure(sum(&first, "transfers_remote")? > 0, || "the walks do not meet".into())?;
    ensure(first.measurements == second.measurements, || "two equal runs differ".into())
}

fn reversed_memory() -> Outcome {
    let mut experiment = modelled(machine("uneven")?, SystemName::Numa, 0.5, CoreModel::Blocking)?;
    let straight = expect(&experiment, Ending::Pass)?;
    experiment.reverse_memory = true;
    let reversed = expect(&experiment, Ending::Pass)?;
    ensure(straight.measurements == reversed.measurements, || "the order of memory backends matters".into())
}

/// Whole blocks are counted, so what faults cut short is counted twice; more than that it must not be.
fn instructions() -> Outcome {
    let run = expect(&modelled(two_nodes()?, SystemName::Numa, 0.0, CoreModel::Blocking)?, Ending::Pass)?;
    let exact = run.sum("array-walk.instructions", "instructions").unwrap_or(0.0);
    let counted = sum(&run, "instructions")? as f64;
    ensure((counted / exact - 1.0).abs() < 0.02, || format!("{counted} instructions, exactly {exact}"))
}

/// Where every thread's memory is local, only what the kernels and servers share is not.
fn local(machine: Machine) -> Outcome {
    let without =
        (0..machine.nodes.len()).filter(|&node| machine.nodes[node].cpus > 0 && machine.nodes[node].mem == 0);
    let remote_nodes = without.count();
    let mut experiment = modelled(machine, SystemName::Numa, 0.0, CoreModel::Blocking)?;
    // Far more than the caches hold, so that the second walk reads memory again.
    experiment.walk = Some(ArrayWalk { size: 8 * MIB, ..ArrayWalk::default() });
    let run = expect(&experiment, Ending::Pass)?;
    let (near, far) = (sum(&run, "dram_local")?, sum(&run, "dram_remote")?);
    if remote_nodes > 0 {
        return ensure(far > near / 4, || {
            format!("{near} local and {far} remote reads: a node has no memory")
        });
    }
    ensure(near > 100_000 && far * 50 < near, || format!("{near} local and {far} remote reads"))
}

/// The baseline has all memory on node 0, so half of the reads are remote, and that takes longer.
fn placement() -> Outcome {
    let run = |system| -> Result<Finished, Failed> {
        let mut experiment = modelled(two_nodes()?, system, 0.0, CoreModel::Blocking)?;
        experiment.walk = Some(ArrayWalk { size: 8 * MIB, ..ArrayWalk::default() });
        expect(&experiment, Ending::Pass)
    };
    let (numa, baseline) = (run(SystemName::Numa)?, run(SystemName::NonNuma)?);
    let (near, far) = (sum(&baseline, "dram_local")?, sum(&baseline, "dram_remote")?);
    ensure(far * 10 > near * 8 && near * 10 > far * 8, || {
        format!("baseline: {near} local, {far} remote reads")
    })?;
    let (numa, baseline) = (sum(&numa, "elapsed")?, sum(&baseline, "elapsed")?);
    ensure(baseline > numa, || format!("{baseline} cycles with remote memory, {numa} without"))
}

/// How far the share of local lines in a replay may be off, in points.
const LOCAL_SHARE: f64 = 0.02;
/// How far its time may be off, as a share.
const TIME: f64 = 0.05;

/// Recording changes nothing, is the same twice, adds up, and replays with first touch as the pagers did it.
fn recorded_walk() -> Outcome {
    let mut experiment = modelled(two_nodes()?, SystemName::Numa, 0.5, CoreModel::Blocking)?;
    // So large that most misses are lines which memory has, not another CPU's cache: docs/replay.md has the same.
    experiment.walk = Some(ArrayWalk { overlap: 0.5, iterations: 3, size: 12 * MIB, ..ArrayWalk::default() });
    let plain = expect(&experiment, Ending::Pass)?;
    experiment.recording = Recording { trace: true, pages: true };
    let (first, second) = (expect(&experiment, Ending::Pass)?, expect(&experiment, Ending::Pass)?);
    ensure(plain.measurements == first.measurements, || "recording changes what is counted".into())?;
    ensure(first.recorded == second.recorded, || "two equal runs are recorded differently".into())?;

    let pages = recording::rows(first.recorded.pages.as_deref().unwrap_or_default());
    let measured = || pages.iter().filter(|row| row.phase == MEASURED);
    let lines = measured().map(Row::split).fold([0, 0], |sum, row| [sum[0] + row[0], sum[1] + row[1]]);
    let counted = [sum(&first, "dram_local")?, sum(&first, "dram_remote")?];
    ensure(lines == counted, || format!("{lines:?} lines by page, {counted:?} counted"))?;

    let trace = first.recorded.trace()?;
    let config = plugin::config(
        &experiment.machine,
        Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: false },
    );
    let machine = skerry_replay::Machine::new(config.topology, config.params, config.core)?;
    let replayed =
        compare::by_name(&machine, &trace, "first-touch", Settings::default()).map_err(|e| e.to_string())?;
    let (share, elapsed) = (first.recorded.local_share(), sum(&first, "elapsed")?);
    let said = format!(
        "local: {:.1} % recorded, {:.1} % replayed; cycles: {elapsed} recorded, {} replayed",
        share * 100.0,
        replayed.local_share() * 100.0,
        replayed.time
    );
    eprintln!("{said}");
    ensure(trace.threads.len() >= 2 && (replayed.local_share() - share).abs() < LOCAL_SHARE, || {
        said.clone()
    })?;
    ensure((replayed.time as f64 / elapsed as f64 - 1.0).abs() < TIME, || said.clone())
}

fn latency(core: CoreModel) -> Outcome {
    let findings = trust::latencies(session()?, "eight-node", core, SILENCE, &Meter::new(1, false))?;
    ensure(findings.len() == 32 && trust::all_met(&findings), || trust::comparison(&findings).to_string())
}
