//! The pagers take pages away on all nodes at a time: cases of `apps/pager-test`, one boot each.

use libtest_mimic::{Failed, Trial};
use skerry::app::App;
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::qemu::Pace;
use skerry::size::MIB;
use skerry::system::{Kernel, Placement, Space, System, SystemName};
use skerry::tuning::{Ahead, Maintenance, Table, Tuning, Unmap};

use crate::harness::{Outcome, SILENCE, ensure, expect, nodes, trial, value};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Case, nodes, CPUs, how it ends.
    for (case, count, cpus, ending) in [
        ("hammer", 2, 2, Ending::Pass),
        ("hammer", 2, 4, Ending::Pass),
        ("hammer", 4, 8, Ending::Pass),
        ("partial", 1, 1, Ending::Pass),
        ("partial", 2, 2, Ending::Pass),
        ("partial", 4, 4, Ending::Pass),
        ("cross", 2, 4, Ending::Pass),
        ("cross", 4, 4, Ending::Pass),
        ("protect", 1, 2, Ending::Pass),
        ("protect", 4, 4, Ending::Pass),
        ("protect-write", 2, 2, Ending::AppFault),
        ("refuse", 2, 2, Ending::Pass),
        ("replicas", 1, 2, Ending::Pass),
        ("replicas", 2, 2, Ending::Pass),
        ("replicas", 4, 8, Ending::Pass),
        ("apart", 1, 1, Ending::Pass),
        ("apart", 3, 3, Ending::Pass),
        ("apart", 4, 8, Ending::Pass),
        ("untouched", 1, 1, Ending::AppFault),
        ("untouched", 2, 2, Ending::AppFault),
        ("code", 1, 1, Ending::Pass),
        ("code", 2, 4, Ending::Pass),
        ("code", 4, 4, Ending::Pass),
        ("moving", 1, 1, Ending::Pass),
        ("moving", 2, 2, Ending::Pass),
        ("moving", 3, 3, Ending::Pass),
        ("moving", 4, 8, Ending::Pass),
        ("together", 1, 1, Ending::Pass),
        ("together", 2, 4, Ending::Pass),
        ("stress 1", 4, 4, Ending::Pass),
        ("stress 2", 4, 4, Ending::Pass),
        ("stress 3", 2, 2, Ending::Pass),
        // With two pager threads per node, both sides of a pair get to know each other at a time.
        ("stress 3", 4, 8, Ending::Pass),
        ("stress 4", 4, 8, Ending::Pass),
    ] {
        let name = format!("pager::{}-nodes-{count}-cpus-{cpus}", case.replace(' ', "-seed-"));
        trials.push(trial(name, move || run(experiment(case, count, cpus)?, ending)));
    }
    trials.push(trial("pager::hammer-one-kernel-four-nodes", || {
        let mut experiment = experiment("hammer", 4, 4)?;
        experiment.system =
            System { kernel: Kernel::One, space: Space::PerNode, placement: Placement::FirstTouch };
        run(experiment, Ending::Pass)
    }));
    trials.push(trial("pager::moving-one-kernel-two-nodes", || {
        let mut experiment = experiment("moving", 2, 4)?;
        experiment.system =
            System { kernel: Kernel::One, space: Space::PerNode, placement: Placement::FirstTouch };
        run(experiment, Ending::Pass)
    }));
    trials.push(trial("pager::partial-one-kernel-two-nodes", || {
        let mut experiment = experiment("partial", 2, 2)?;
        experiment.system =
            System { kernel: Kernel::One, space: Space::PerNode, placement: Placement::FirstTouch };
        run(experiment, Ending::Pass)
    }));
    for (case, unmap, cpus) in [
        ("hammer", Unmap::Sequential, 4),
        ("cross", Unmap::Sequential, 4),
        ("moving", Unmap::Sequential, 4),
        ("stress 4", Unmap::Sequential, 4),
        ("hammer", Unmap::Root, 4),
        ("cross", Unmap::Root, 8),
        ("partial", Unmap::Root, 4),
        ("moving", Unmap::Root, 4),
        ("stress 4", Unmap::Root, 8),
    ] {
        trials.push(trial(format!("pager::{}-{unmap}", case.replace(' ', "-seed-")), move || {
            let mut experiment = experiment(case, 4, cpus)?;
            experiment.tuning =
                Tuning { unmap: Some(unmap), maintenance: Some(Maintenance::Always), ..Tuning::default() };
            run(experiment, Ending::Pass)
        }));
    }
    trials.push(trial("pager::hammer-root-one-kernel-two-nodes", || {
        let mut experiment = experiment("hammer", 2, 4)?;
        experiment.system =
            System { kernel: Kernel::One, space: Space::PerNode, placement: Placement::FirstTouch };
        experiment.tuning = Tuning { unmap: Some(Unmap::Root), ..Tuning::default() };
        run(experiment, Ending::Pass)
    }));
    // The master table by messages: the same programs.
    for (case, count, cpus) in [
        ("hammer", 2, 4),
        ("hammer", 4, 8),
        ("partial", 4, 4),
        ("cross", 4, 8),
        ("protect", 4, 4),
        ("refuse", 2, 2),
        ("replicas", 4, 8),
        ("apart", 3, 3),
        ("code", 4, 4),
        ("moving", 4, 8),
        ("stress 2", 4, 4),
        ("stress 4", 4, 8),
    ] {
        let name = format!("pager::{}-by-ipc-nodes-{count}-cpus-{cpus}", case.replace(' ', "-seed-"));
        trials.push(trial(name, move || {
            let mut experiment = experiment(case, count, cpus)?;
            experiment.tuning = Tuning { table: Some(Table::Ipc), ..Tuning::default() };
            run(experiment, Ending::Pass)
        }));
    }
    // (Not `partial`, which counts on a page that nobody has touched.)
    for (case, count, cpus) in [("stress 6", 4, 8), ("protect", 4, 4), ("hammer", 2, 4)] {
        for ahead in [Ahead::Sixteen, Ahead::Block] {
            let name = format!("pager::{}-ahead-{ahead}", case.replace(' ', "-seed-"));
            trials.push(trial(name, move || {
                let mut experiment = experiment(case, count, cpus)?;
                experiment.tuning = Tuning { ahead: Some(ahead), ..Tuning::default() };
                run(experiment, Ending::Pass)
            }));
        }
    }
    trials.push(trial("pager::policies-place-fresh-pages", || {
        for (policy, frames) in [
            ("first-touch", [64, 0, 0, 0]),
            ("node-local", [64, 0, 0, 0]),
            ("interleave", [16, 16, 16, 16]),
            ("interleave:nodes=1,3", [0, 32, 0, 32]),
            ("weighted-interleave", [16, 16, 16, 16]),
            ("preferred:node=2", [0, 0, 64, 0]),
            ("bind:nodes=1", [0, 64, 0, 0]),
        ] {
            let mut experiment = experiment("placed 64", 4, 8)?;
            experiment.tuning = Tuning { policy: Some(policy.to_owned()), ..Tuning::default() };
            placed(&experiment, &frames)?;
        }
        // It wants the impossible (the launcher would have said so): first touch from then on, and the run goes on.
        let mut experiment = experiment("placed 64", 2, 2)?;
        experiment.options = vec!["policy=preferred:node=9".into()];
        placed(&experiment, &[64, 0])
    }));
    trials.push(trial("pager::policies-and-full-nodes", || {
        // More pages than a node has frames.
        let full = |policy: &str| {
            let mut experiment = experiment("placed 20000", 2, 2)?;
            experiment.machine = nodes(2, 2, 160 * MIB)?;
            experiment.tuning = Tuning { policy: Some(policy.to_owned()), ..Tuning::default() };
            Ok::<_, Failed>(experiment)
        };
        let run = expect(&full("preferred:node=1")?, Ending::Pass)?;
        let [here, there] =
            [value(&run, "pager-test.placed", "node0")?, value(&run, "pager-test.placed", "node1")?];
        // (Tables of the pages that come later are in it.)
        ensure((20_000.0..20_100.0).contains(&(here + there)) && there > 15_000.0, || {
            format!("{here} and {there} frames")
        })?;
        expect(&full("bind:nodes=1")?, Ending::OutOfMemory).map(drop)
    }));
    trials.push(trial("pager::maintenance-is-counted", || {
        // Sites that a case must come by; none without the option.
        for (case, sites) in [
            ("moving", &["migrate", "copy", "free"][..]),
            ("replicas", &["replicate", "collapse", "replica", "unmap"]),
        ] {
            let mut experiment = experiment(case, 2, 2)?;
            let silent = expect(&experiment, Ending::Pass)?;
            ensure(sites.iter().all(|site| silent.sum("maintenance", site).is_none()), || {
                "caches are maintained though memory is coherent".into()
            })?;
            experiment.tuning = Tuning { maintenance: Some(Maintenance::Always), ..Tuning::default() };
            let run = expect(&experiment, Ending::Pass)?;
            for site in sites {
                let lines = value(&run, "maintenance", site)?;
                ensure(lines >= 64.0, || format!("{case}: {lines} lines at {site}"))?;
            }
        }
        Ok(())
    }));
    trials.push(trial("pager::stress-seed-5-multi-threaded", || {
        let mut experiment = experiment("stress 5", 4, 4)?;
        experiment.pace = Pace::Fast;
        run(experiment, Ending::Pass)
    }));
    // The life of every frame is watched: nobody has it when it is given back, and nobody writes to it until it is taken again.
    for (case, count, cpus) in
        [("hammer", 2, 4), ("partial", 4, 4), ("cross", 4, 4), ("protect", 2, 2), ("stress 6", 4, 4)]
    {
        trials.push(trial(format!("pager::{}-audited", case.replace(' ', "-seed-")), move || {
            let mut experiment = experiment(case, count, cpus)?;
            experiment.options = vec!["audit=on".into()];
            run(experiment, Ending::Pass)
        }));
    }
    // What pagers remember about a page is what was done with it; the host gets it as records.
    trials.push(trial("pager::past", || {
        let mut experiment = experiment("past", 2, 2)?;
        experiment.options = vec!["history=on".into()];
        let run = expect(&experiment, Ending::Pass)?;
        for what in ["fault: fresh frame", "letter: taken away", "request: moved"] {
            value(&run, "history", what)?;
        }
        Ok(())
    }));
    // And an error that the pager makes on purpose is found.
    for plant in ["free-mapped", "free-twice", "write-freed"] {
        trials.push(trial(format!("pager::audit-finds-{plant}"), move || {
            let mut experiment = experiment("stress 6", 2, 2)?;
            experiment.options = vec!["audit=on".into(), format!("plant={plant}")];
            let reason = expect(&experiment, Ending::ServerFault)?.reason;
            ensure(reason.starts_with("audit: frame "), || format!("the run ended because of: {reason}"))
        }));
    }
    trials
}

fn experiment(case: &str, count: usize, cpus: usize) -> Result<Experiment, Failed> {
    let machine = nodes(count, cpus, 128 * MIB * count as u64)?;
    let app = App::find("pager-test")?;
    let mut experiment = Experiment::new(machine, SystemName::Numa.system(), app, None, SILENCE)?;
    experiment.app_args = case.split(' ').map(str::to_owned).collect();
    Ok(experiment)
}

/// Runs `placed` and compares how many frames each node gave.
fn placed(experiment: &Experiment, frames: &[u64]) -> Outcome {
    let run = expect(experiment, Ending::Pass)?;
    for (node, &frames) in frames.iter().enumerate() {
        let found = value(&run, "pager-test.placed", &format!("node{node}"))?;
        ensure(found == frames as f64, || {
            format!("{}: {found} frames of node {node} instead of {frames}", experiment.describe())
        })?;
    }
    Ok(())
}

fn run(experiment: Experiment, ending: Ending) -> Outcome {
    expect(&experiment, ending).map(drop)
}
