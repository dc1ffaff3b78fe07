//! The checker of software coherence on the machine: kernels whose rings are maintained run clean, and it notices what they leave out.

use libtest_mimic::{Failed, Trial};
use skerry::app::App;
use skerry::coherence::{Fault, Report};
use skerry::ending::Ending;
use skerry::experiment::Experiment;
use skerry::plugin::{Modelling, QUANTUM};
use skerry::size::MIB;
use skerry::system::SystemName;
use skerry_cost_model::CoreModel;

use crate::harness::{Outcome, SILENCE, ensure, expect, nodes, trial};

/// Clusters that do all they can with each other.
const FUZZ: &str = "fuzz 3 6000";

/// An operation of the kernel's upkeep (`mutate=`), and the faults that follow if it is left out: what is missing, functions one of which has the
/// load, functions one of which has the store. Every fault has to be one of these.
struct Mutation {
    name: &'static str,
    missing: &'static str,
    loads: &'static [&'static str],
    stores: &'static [&'static str],
}

/// Where packets are written.
const WRITES: &[&str] = &["write ", "write_message", "write_state", "send_move"];
/// Where the lines of indices are read.
const INDICES: &[&str] = &["front ", "is_wanted ", "is_down ", "spoken_for "];

/// Not `down` (nobody stops a cluster there), not `response-heads` (needs full rings), and neither `wish` nor `is-wanted`: they are about a store and then a
/// load on each side, and nothing orders the one's store before the other's load. (A wish that was not cleaned is noticed if an interrupt
/// happens to follow it before anything else cleans its line.) Tests in the kernel's own fake machine have these four.
const MUTATIONS: [Mutation; 8] = [
    Mutation {
        name: "packet",
        missing: "clean",
        loads: &["deliver", "take_", "read ", "word_of", "fetch"],
        stores: WRITES,
    },
    Mutation { name: "published", missing: "clean", loads: INDICES, stores: &["publish_maintained"] },
    Mutation {
        name: "given-back",
        missing: "clean",
        loads: &["spoken_for ", "reserve "],
        stores: &["release_all "],
    },
    Mutation {
        name: "look",
        missing: "invalidate",
        loads: INDICES,
        stores: &["publish_maintained", "want_room"],
    },
    Mutation {
        name: "header",
        missing: "invalidate",
        loads: &["read ", "deliver_packet ", "take_request ", "fetch"],
        stores: WRITES,
    },
    Mutation {
        name: "body",
        missing: "invalidate",
        loads: &["deliver", "take_state", "take_move ", "word_of"],
        stores: WRITES,
    },
    Mutation { name: "heads", missing: "invalidate", loads: &["spoken_for "], stores: &["release_all "] },
    Mutation {
        name: "answers",
        missing: "invalidate",
        loads: &["spoken_for "],
        stores: &["publish_maintained", "want_room"],
    },
];

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("coherence::boot-clean", || clean(4, "info")),
        trial("coherence::fuzz-clean", || clean(3, FUZZ)),
    ];
    for mutation in MUTATIONS {
        trials.push(trial(format!("coherence::notices-{}", mutation.name), move || notices(&mutation)));
    }
    trials
}

/// Boots kernels with maintained rings and nothing but their tests above them.
fn run(count: usize, case: &str, option: Option<String>) -> Result<Report, Failed> {
    let app = App::find("selftest")?;
    let machine = nodes(count, count, 64 * MIB * count as u64)?;
    let mut experiment = Experiment::new(machine, SystemName::Numa.system(), app, None, SILENCE)?;
    experiment.options = ["root=kernel-test", "rings=maintained", "tick=50us"].map(String::from).into();
    experiment.options.extend(option);
    experiment.app_args = case.split(' ').map(String::from).collect();
    experiment.modelling = Some(Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: true });
    let run = expect(&experiment, Ending::Pass)?;
    run.coherence.ok_or_else(|| "nothing was checked".into())
}

fn clean(count: usize, case: &str) -> Outcome {
    let report = run(count, case, None)?;
    ensure(report.broken().next().is_none(), || report.lines().join("\n"))?;
    ensure(report.sites.iter().any(|site| site.times > 0), || "no maintenance was seen".into())
}

fn notices(mutation: &Mutation) -> Outcome {
    let report = run(2, FUZZ, Some(format!("mutate={}", mutation.name)))?;
    let is_one_of = |text: &str, functions: &[&str]| functions.iter().any(|function| text.contains(function));
    let is_expected = |fault: &&Fault| {
        fault.wrong == "stale-load"
            && fault.missing == mutation.missing
            && is_one_of(&fault.at, mutation.loads)
            && is_one_of(&fault.store, mutation.stores)
    };
    ensure(report.broken().next().is_some(), || format!("nobody misses {}", mutation.name))?;
    let strange: Vec<String> =
        report.broken().filter(|fault| !is_expected(fault)).map(Fault::to_string).collect();
    ensure(strange.is_empty(), || {
        format!("without {}, this is not expected:\n{}", mutation.name, strange.join("\n"))
    })
}
