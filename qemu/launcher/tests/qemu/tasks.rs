//! Tasks start, end and are ended in all ways, and leave nothing behind: cases of `apps/tasks`, one boot each.

use libtest_mimic::Trial;
use skerry::app::App;
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::qemu::Pace;
use skerry::size::MIB;
use skerry::system::SystemName;

use crate::harness::{Outcome, SILENCE, ensure, expect, nodes, trial, value};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (count, cpus) in [(2, 2), (2, 4), (4, 8)] {
        trials.push(trial(format!("tasks::ends-nodes-{count}-cpus-{cpus}"), move || {
            expect(&case(count, cpus, &["ends"])?, Ending::Pass).map(drop)
        }));
    }
    for (count, cpus) in [(2, 2), (2, 4), (4, 4)] {
        trials.push(trial(format!("tasks::hostile-nodes-{count}-cpus-{cpus}"), move || {
            expect(&case(count, cpus, &["hostile"])?, Ending::Pass).map(drop)
        }));
    }
    for (count, cpus) in [(2, 2), (4, 8)] {
        for take_over in ["lazy", "eager"] {
            trials.push(trial(format!("tasks::moves-{take_over}-nodes-{count}-cpus-{cpus}"), move || {
                let mut experiment = case(count, cpus, &["moves", take_over])?;
                experiment.options = vec![format!("takeover={take_over}")];
                expect(&experiment, Ending::Pass).map(drop)
            }));
        }
    }
    for system in [SystemName::NonNuma, SystemName::SingleSpace] {
        trials.push(trial(format!("tasks::ends-{system}"), move || {
            let mut experiment = case(2, 2, &["ends"])?;
            experiment.system = system.system();
            expect(&experiment, Ending::Pass).map(drop)
        }));
    }
    // As much is free afterwards as before: what the guest compares.
    for (tasks, count, cpus) in [(1000, 2, 2), (200, 2, 4), (200, 4, 8)] {
        trials.push(trial(format!("tasks::storm-{tasks}-nodes-{count}-cpus-{cpus}"), move || {
            storm(&case(count, cpus, &["storm", &tasks.to_string()])?)
        }));
    }
    trials.push(trial("tasks::storm-round-robin", || {
        let mut experiment = case(3, 3, &["storm", "100"])?;
        experiment.options = vec!["master=round-robin".into()];
        storm(&experiment)
    }));
    trials.push(trial("tasks::storm-eager", || {
        let mut experiment = case(2, 2, &["storm", "100"])?;
        experiment.options = vec!["takeover=eager".into()];
        storm(&experiment)
    }));
    trials.push(trial("tasks::storm-audited", || {
        let mut experiment = case(3, 3, &["storm", "60"])?;
        experiment.options = vec!["audit=on".into()];
        storm(&experiment)
    }));
    trials.push(trial("tasks::storm-multi-threaded-emulation", || {
        let mut experiment = case(3, 3, &["storm", "200"])?;
        experiment.pace = Pace::Fast;
        storm(&experiment)
    }));
    // A pager crashes in the midst of what it does, at times that fall into all kinds of requests.
    for (microseconds, victim, count) in
        [(40_000, "pager", 3), (43_210, "pager", 4), (41_234, "unmapper", 3), (42_007, "worker", 3)]
    {
        trials.push(trial(format!("tasks::mourning-{victim}-{microseconds}-nodes-{count}"), move || {
            let mut experiment = case(count, count, &["mourning", "1"])?;
            experiment.machine = nodes(count, count, 64 * MIB * count as u64)?;
            experiment.silence = std::time::Duration::from_secs(20);
            let again = format!("1@{}:{victim}", microseconds * 3 / 2);
            experiment.options = vec![format!("crash=1@{microseconds}:{victim},{again},{again}")];
            expect(&experiment, Ending::Pass).map(drop)
        }));
    }
    trials.push(trial("tasks::mourning-by-ipc", || {
        let mut experiment = case(3, 3, &["mourning", "1"])?;
        experiment.machine = nodes(3, 3, 192 * MIB)?;
        experiment.silence = std::time::Duration::from_secs(20);
        experiment.options = vec!["crash=1@40000,1@60000,1@60000".into(), "table=ipc".into()];
        expect(&experiment, Ending::Pass).map(drop)
    }));
    trials.push(trial("tasks::storm-by-ipc", || {
        let mut experiment = case(3, 3, &["storm", "100"])?;
        experiment.options = vec!["table=ipc".into()];
        storm(&experiment)
    }));
    trials.push(trial("tasks::moves-by-ipc", || {
        let mut experiment = case(4, 8, &["moves", "lazy"])?;
        experiment.options = vec!["table=ipc".into()];
        expect(&experiment, Ending::Pass).map(drop)
    }));
    // The first task is at home in cluster 0: the run ends, and says why.
    trials.push(trial("tasks::mourning-cluster-0", || {
        let mut experiment = case(3, 3, &["mourning", "1"])?;
        experiment.options = vec!["crash=0@40000".into()];
        let reason = expect(&experiment, Ending::ServerFault)?.reason;
        let said = "the app pager of cluster 0 crashed; the first task is at home there, so the run ends";
        ensure(reason == said, || format!("the run ended because of: {reason}"))
    }));
    // As many threads as CPUs, all begun on one of them.
    for (count, cpus) in [(1, 4), (2, 2), (2, 4), (4, 8)] {
        trials.push(trial(format!("tasks::spread-nodes-{count}-cpus-{cpus}"), move || {
            let mut experiment = case(count, cpus, &["spread", "on"])?;
            experiment.tuning.balance = true;
            expect(&experiment, Ending::Pass).map(drop)
        }));
    }
    trials.push(trial("tasks::spread-by-nobody", || {
        expect(&case(2, 4, &["spread", "off"])?, Ending::Pass).map(drop)
    }));
    // The balancer moves what the program starts, ends and moves itself.
    trials.push(trial("tasks::storm-balanced", || {
        let mut experiment = case(2, 4, &["ends"])?;
        experiment.tuning.balance = true;
        expect(&experiment, Ending::Pass).map(drop)
    }));
    // The same where letters go through the root pager, which has a new unmap worker to tell each time.
    trials.push(trial("tasks::mourning-unmap-root", || {
        let mut experiment = case(3, 3, &["mourning", "1"])?;
        experiment.machine = nodes(3, 3, 192 * MIB)?;
        experiment.silence = std::time::Duration::from_secs(20);
        experiment.options = vec!["crash=1@40000,1@60000,1@60000".into(), "unmap=root".into()];
        expect(&experiment, Ending::Pass).map(drop)
    }));
    trials
}

fn case(count: usize, cpus: usize, words: &[&str]) -> Result<Experiment, libtest_mimic::Failed> {
    let machine = nodes(count, cpus, 256 * MIB * count as u64)?;
    let app = App::find("tasks")?;
    let mut experiment = Experiment::new(machine, SystemName::Numa.system(), app, None, SILENCE)?;
    experiment.app_args = words.iter().map(|&word| word.to_owned()).collect();
    Ok(experiment)
}

fn storm(experiment: &Experiment) -> Outcome {
    let run = expect(experiment, Ending::Pass)?;
    value(&run, "tasks.storm", "tasks").map(drop)
}
