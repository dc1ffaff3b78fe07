//! The benchmarks that judge themselves: every case is measured, and mistakes are named.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};
use skerry::bench::{Bench, met};
use skerry::ending::Ending;
use skerry::ledger::{self, Ledger};
use skerry::qemu::{Boot, Pace};
use skerry::record::{Series, series};
use skerry::supervisor::{Finished, Quiet, supervise};
use skerry_bench::{SAMPLES, find};

use crate::harness::{Outcome, SILENCE, ensure, machine, session, trial};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        // In an order in which hardly anybody waits for another one's measurement.
        trial("pager::ledger", || ledger("pager")),
        trial("kernel::every-case-is-measured", || every_case("kernel")),
        trial("kernel::ledger", || ledger("kernel")),
        trial("kernel::bars", || bars("kernel")),
        trial("pager::every-case-is-measured", || every_case("pager")),
        trial("smp::every-case-is-measured", || every_case("smp")),
        trial("smp::ledger", || ledger("smp")),
        trial("pager::bars", || bars("pager")),
        trial("kernel::unknown-case", || refused("root=kernel-bench -- nosuch", "nosuch")),
        trial("kernel::unknown-root-program", || refused("root=nosuch", "nosuch")),
        trial("kernel::malformed-root-program", || refused("root=modules.txt", "modules.txt")),
    ]
}

/// What a suite has measured; each runs once, for all trials that look at it.
fn measured(suite: &str) -> Result<(Bench, Vec<Series>), Failed> {
    static DONE: Mutex<BTreeMap<String, Vec<Series>>> = Mutex::new(BTreeMap::new());
    let bench = Bench::new(suite, &[], SILENCE)?;
    // Who comes second waits for the first.
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.contains_key(suite) {
        done.insert(suite.to_owned(), series(&bench.run(session()?, &Quiet)?));
    }
    Ok((bench, done[suite].clone()))
}

fn every_case(suite: &str) -> Outcome {
    let (bench, series) = measured(suite)?;
    // Cases with options of their own are measured in boots of their own.
    for case in bench.suite.cases {
        let found = series.iter().find(|series| series.measurement.case == case.name);
        let series = found.ok_or_else(|| format!("{} was not measured", case.name))?;
        let n = series.sorted.len();
        ensure(n == SAMPLES, || format!("{n} samples of {}", case.name))?;
        ensure(series.min().as_f64() > Some(0.0), || format!("{}: nothing was counted", case.name))?;
    }
    let all = bench.suite.cases.len();
    ensure(series.len() == all, || format!("{} cases of {all}", series.len()))
}

/// Bars that are not met yet; the ledger shows where the instructions go.
const OPEN: [&str; 9] = [
    "fault.first-touch.ahead16",
    "page.migrate",
    "page.migrate.batch64",
    "thread.migrate.active",
    "thread.migrate.new",
    "unmap.global.n1",
    "unmap.global.n2",
    "unmap.global.growth",
    "unmap.global.batch63",
];

/// Every path stays below its bar; one that is said to be open must be, so that the list cannot outlive its reason.
fn bars(suite: &str) -> Outcome {
    let (bench, series) = measured(suite)?;
    for series in series {
        let Some(case) = find(bench.suite.cases, &series.measurement.case) else { continue };
        let Some(met) = met(case, &series) else { continue };
        let open = OPEN.contains(&case.name);
        ensure(met != open, || {
            let (max, bar) = (series.max(), case.bar.unwrap_or(0));
            let what = if open { "is met, but said to be open (OPEN)" } else { "is not met" };
            format!("{}: {max} instructions, the bar of {bar} {what}", case.name)
        })?;
    }
    Ok(())
}

/// The committed ledger is what this source makes.
fn ledger(suite: &str) -> Outcome {
    let session = session()?;
    let ledger = Ledger::make(session, &Bench::new(suite, &[], SILENCE)?, &Quiet)?;
    let file = ledger.suite.ledger;
    let path = skerry::session::workspace()?.join(file);
    let committed = std::fs::read_to_string(&path)?;
    // Another compiler makes other instructions, about which this file says nothing: whoever has one must know that nothing was compared.
    ensure(committed.contains(&format!("Compiler of the guest: {}\n", ledger.compiler)), || {
        format!(
            "{file} was made with another compiler than {}, so nothing can be compared. Build the guest with the one it names (docs/building.md), \
             or make it anew with `{}` and say in the commit that the compiler has changed",
            ledger.compiler,
            ledger.command()
        )
    })?;
    let lines = ledger::difference(&committed, &ledger.render());
    ensure(lines.is_empty(), || {
        format!(
            "the paths take other instructions than {file} says:\n{}\nmake it anew with `{}`, and explain the change in the commit",
            lines.join("\n"),
            ledger.command()
        )
    })
}

/// A line that the guest refuses with a reason that names `what`.
fn refused(line: &str, what: &str) -> Outcome {
    let run = boot(line)?;
    ensure(run.ending == Ending::BadBoot && run.reason.contains(what), || {
        format!("ended with {}: {}", run.ending, run.reason)
    })
}

fn boot(line: &str) -> Result<Finished, Failed> {
    let session = session()?;
    let folder = tempfile::tempdir()?;
    let modules = folder.path().join("modules.tar");
    let more = [("modules.txt", b"not a program".to_vec())];
    std::fs::write(&modules, session.archive_with(|_| true, more)?)?;
    let machine = machine("two-node")?;
    let kernel: &Path = &session.boot_image;
    let boot = Boot { machine: &machine, pace: Pace::Deterministic, kernel, initrd: &modules, append: line };
    Ok(supervise(session.qemu.command(&boot), SILENCE, &Quiet)?)
}
