//! The array-walk benchmark: what the design promises about faults and frames, in every system.

use libtest_mimic::Trial;
use skerry::ending::Ending;
use skerry::machine::Machine;
use skerry::size::MIB;
use skerry::supervisor::Finished;
use skerry::system::{Kernel, Placement, Space, System, SystemName};

use crate::harness::{Outcome, ensure, expect, machine, nodes, trial, value, walk};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for name in SystemName::ALL {
        for overlap in [0.0, 0.5, 1.0] {
            trials.push(trial(format!("array-walk::{name}-overlap-{overlap}"), move || {
                expect(&walk(nodes(2, 2, 512 * MIB)?, name.system(), overlap)?, Ending::Pass).map(drop)
            }));
        }
    }
    for placement in [Placement::Node0, Placement::FirstTouch] {
        let system = System { kernel: Kernel::One, space: Space::PerNode, placement };
        trials.push(trial(format!("array-walk::one-kernel-space-per-node-{placement}"), move || {
            expect(&walk(nodes(2, 2, 512 * MIB)?, system, 0.5)?, Ending::Pass).map(drop)
        }));
    }
    trials.push(trial("array-walk::faults-double-where-all-is-shared", || {
        faults_against_single_space(1.0, 2.0)
    }));
    trials.push(trial("array-walk::faults-equal-where-nothing-is-shared", || {
        faults_against_single_space(0.0, 1.0)
    }));
    trials.push(trial("array-walk::private-frames-are-local", private_frames_are_local));
    trials.push(trial("array-walk::shared-frames-are-spread", shared_frames_are_spread));
    trials.push(trial("array-walk::node0-holds-all-of-the-baseline", node0_holds_all));
    trials.push(trial("array-walk::writing", writing));
    trials.push(trial("array-walk::deterministic-runs-agree", deterministic_runs_agree));
    trials.push(trial("array-walk::multi-threaded-emulation", multi_threaded));
    trials.push(trial("array-walk::four-nodes-of-two-cpus", || on_machine(nodes(4, 8, 512 * MIB)?)));
    for name in ["uneven", "cpuless", "memless"] {
        trials.push(trial(format!("array-walk::machine-{name}"), move || on_machine(machine(name)?)));
    }
    trials
}

fn run(system: SystemName, overlap: f64) -> Result<Finished, libtest_mimic::Failed> {
    expect(&walk(nodes(2, 2, 512 * MIB)?, system.system(), overlap)?, Ending::Pass)
}

fn faults(run: &Finished) -> Result<f64, libtest_mimic::Failed> {
    value(run, "array-walk.faults", "faults")
}

fn frames(run: &Finished, node: usize) -> Result<f64, libtest_mimic::Failed> {
    value(run, "array-walk.frames", &format!("frames.node{node}"))
}

fn faults_against_single_space(overlap: f64, factor: f64) -> Outcome {
    let numa = faults(&run(SystemName::Numa, overlap)?)?;
    let single = faults(&run(SystemName::SingleSpace, overlap)?)?;
    ensure(single > 0.0 && numa == factor * single, || {
        format!(
            "overlap {overlap}: {numa} faults in numa, {single} in single-space; expected {factor} times as many"
        )
    })
}

fn private_frames_are_local() -> Outcome {
    let run = run(SystemName::Numa, 0.0)?;
    let shares: Vec<_> = run.measurements.iter().filter(|m| m.case == "array-walk.local-share").collect();
    ensure(!shares.is_empty(), || "the guest sent no array-walk.local-share".into())?;
    for share in shares {
        ensure(share.value.as_f64() == Some(1.0), || format!("not all frames are local: {share:?}"))?;
    }
    let pages = (4 * MIB / 4096) as f64;
    ensure(frames(&run, 0)? == pages && frames(&run, 1)? == pages, || {
        "frames are not where the threads are".into()
    })
}

fn shared_frames_are_spread() -> Outcome {
    for system in [SystemName::Numa, SystemName::SingleSpace] {
        let run = run(system, 1.0)?;
        let (first, second) = (frames(&run, 0)?, frames(&run, 1)?);
        let share = first / (first + second);
        ensure((0.35..=0.65).contains(&share), || {
            format!("{system}: {first} frames on node 0, {second} on node 1")
        })?;
    }
    Ok(())
}

fn node0_holds_all() -> Outcome {
    let run = run(SystemName::NonNuma, 0.5)?;
    ensure(frames(&run, 0)? > 0.0 && frames(&run, 1)? == 0.0, || {
        "the baseline has frames outside of node 0".into()
    })
}

fn writing() -> Outcome {
    let mut experiment = walk(nodes(2, 2, 512 * MIB)?, SystemName::Numa.system(), 0.5)?;
    if let Some(walk) = &mut experiment.walk {
        walk.write = true;
    }
    expect(&experiment, Ending::Pass).map(drop)
}

fn deterministic_runs_agree() -> Outcome {
    let runs = [run(SystemName::Numa, 0.5)?, run(SystemName::Numa, 0.5)?];
    let all = skerry::record::series(&runs);
    match all.iter().find(|series| !series.is_reproducible(runs.len())) {
        Some(series) => Err(format!("differs between runs: {series:?}").into()),
        None => Ok(()),
    }
}

fn multi_threaded() -> Outcome {
    let mut experiment = walk(nodes(2, 2, 512 * MIB)?, SystemName::Numa.system(), 0.5)?;
    experiment.pace = skerry::qemu::Pace::Fast;
    let run = expect(&experiment, Ending::Pass)?;
    ensure(run.sum("array-walk.instructions", "instructions").is_none(), || {
        "parallel CPUs cannot count instructions".into()
    })?;
    value(&run, "array-walk.elapsed", "elapsed").map(drop)
}

/// Any machine: it passes, and no frame is lost.
fn on_machine(machine: Machine) -> Outcome {
    let (count, threads) = (machine.nodes.len(), machine.nodes_with_cpus().count());
    let run = expect(&walk(machine, SystemName::Numa.system(), 0.0)?, Ending::Pass)?;
    let mut total = 0.0;
    for node in 0..count {
        total += frames(&run, node)?;
    }
    let expected = threads as f64 * (4 * MIB / 4096) as f64;
    ensure(total == expected, || format!("{total} frames on all nodes, {expected} expected"))
}
