//! Machines of all shapes come up, and bad ones are refused by the guest in words.

use libtest_mimic::Trial;
use skerry::app::{App, ArrayWalk};
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::size::MIB;
use skerry::system::SystemName;
use skerry::tuning::{Rings, Tuning};

use crate::harness::{Outcome, SILENCE, archive_without, ensure, expect, machine, nodes, selftest, trial};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (count, cpus, mem) in [
        (1, 1, 128),
        (2, 2, 256),
        (3, 3, 384),
        (4, 4, 512),
        (8, 8, 1024),
        // Several CPUs per node, evenly and not.
        (1, 4, 128),
        (2, 4, 256),
        (3, 7, 384),
        // Slow to come up one after the other: nobody may count on a CPU being there already.
        (16, 32, 2048),
    ] {
        trials.push(trial(format!("boot::nodes-{count}-cpus-{cpus}"), move || {
            expect(&selftest(nodes(count, cpus, mem * MIB)?, "ok")?, Ending::Pass).map(drop)
        }));
    }
    for name in ["uneven", "cpuless", "memless", "four-node", "eight-node", "opteron"] {
        trials.push(trial(format!("boot::machine-{name}"), move || {
            expect(&selftest(machine(name)?, "ok")?, Ending::Pass).map(drop)
        }));
    }
    for name in [SystemName::Numa, SystemName::SingleSpace] {
        trials.push(trial(format!("boot::kernel-parts-elsewhere-{name}"), move || {
            kernel_parts_elsewhere(name)
        }));
    }
    trials.push(trial("boot::rings-maintained", rings_maintained));
    trials.push(trial("boot::minimum-memory-per-node", minimum_memory));
    trials.push(trial("boot::bad-command-line", bad_command_line));
    trials.push(trial("boot::out-of-memory", out_of_memory));
    for missing in ["kernel", "root-pager", "app-pager", "syscall-server", "selftest"] {
        trials.push(trial(format!("boot::without-module-{missing}"), move || without_module(missing)));
    }
    trials
}

/// The smallest machine that the launcher lets through also boots: its estimate is not too low.
fn minimum_memory() -> Outcome {
    let smallest = (1..256).find_map(|mib| {
        let machine = nodes(4, 4, 4 * mib * MIB).ok()?;
        selftest(machine, "ok").ok()
    });
    match smallest {
        Some(experiment) => expect(&experiment, Ending::Pass).map(drop),
        None => Err("the launcher refuses every size".into()),
    }
}

/// A kernel works wherever its image and its objects lie.
fn kernel_parts_elsewhere(name: SystemName) -> Outcome {
    let places = ["image=next", "tcbs=next", "utcbs=0", "page-tables=2", "map-nodes=next"];
    let places = places.iter().map(|place| place.parse()).collect::<Result<_, String>>()?;
    let walk = ArrayWalk { overlap: 0.5, size: 4 * MIB, ..ArrayWalk::default() };
    let mut experiment = Experiment::array_walk(nodes(3, 3, 384 * MIB)?, name.system(), walk, SILENCE)?;
    experiment.tuning = Tuning { places, ..Tuning::default() }.check(&experiment.machine)?;
    expect(&experiment, Ending::Pass).map(drop)
}

/// Kernels that keep the memory of their rings up by themselves.
fn rings_maintained() -> Outcome {
    let walk = ArrayWalk { overlap: 0.5, size: 2 * MIB, ..ArrayWalk::default() };
    let system = SystemName::Numa.system();
    let mut experiment = Experiment::array_walk(nodes(3, 5, 384 * MIB)?, system, walk, SILENCE)?;
    experiment.tuning.rings = Some(Rings::Maintained);
    expect(&experiment, Ending::Pass).map(drop)
}

fn bad_command_line() -> Outcome {
    for option in ["clusters", "rings"] {
        let mut experiment = selftest(nodes(2, 2, 256 * MIB)?, "ok")?;
        experiment.options = vec![format!("{option}=nonsense")];
        let run = expect(&experiment, Ending::BadBoot)?;
        let reason = || format!("the reason does not name {option}: {}", run.reason);
        ensure(run.reason.contains(option), reason)?;
    }
    Ok(())
}

/// A program that wants more than its node has ends the run as such; the launcher is told no size, so it cannot refuse.
fn out_of_memory() -> Outcome {
    let app = App::find("array-walk")?;
    let machine = nodes(2, 2, 256 * MIB)?;
    let mut experiment = Experiment::new(machine, SystemName::Numa.system(), app, None, SILENCE)?;
    experiment.app_args = vec!["--size=400M".into()];
    expect(&experiment, Ending::OutOfMemory).map(drop)
}

fn without_module(missing: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut experiment = selftest(nodes(2, 2, 256 * MIB)?, "ok")?;
    experiment.modules = Some(archive_without(missing, folder.path())?);
    let run = expect(&experiment, Ending::BadBoot)?;
    ensure(run.reason.contains(missing), || format!("the reason does not name the module: {}", run.reason))
}
