//! The measuring instrument: the same run gives the same numbers, and addresses are right on every machine.

use libtest_mimic::Trial;
use skerry::app::ArrayWalk;
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::machine::Machine;
use skerry::plugin::{Modelling, QUANTUM};
use skerry::progress::Meter;
use skerry::size::MIB;
use skerry::supervisor::Finished;
use skerry::system::SystemName;
use skerry::trust;
use skerry_cost_model::CoreModel;

use crate::harness::{Outcome, SILENCE, ensure, expect, machine, nodes, session, trial, walk};

type Failed = libtest_mimic::Failed;

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("instrument::equal-runs-give-equal-numbers", equal_runs),
        trial("instrument::the-order-of-memory-does-not-matter", reversed_memory),
        trial("instrument::instructions-are-the-exact-ones", instructions),
        trial("instrument::placement-shows", placement),
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

fn latency(core: CoreModel) -> Outcome {
    let findings = trust::latencies(session()?, "eight-node", core, SILENCE, &Meter::new(1, false))?;
    ensure(findings.len() == 32 && trust::all_met(&findings), || trust::comparison(&findings).to_string())
}
