//! The kernel's benchmark: every case is measured, and mistakes are named.

use std::path::Path;

use kernel_bench::{CASES, SAMPLES};
use libtest_mimic::Trial;
use skerry::bench::KernelBench;
use skerry::ending::Ending;
use skerry::qemu::{Boot, Pace};
use skerry::record::series;
use skerry::supervisor::{Finished, Quiet, supervise};

use crate::harness::{Outcome, SILENCE, ensure, machine, session, trial};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kernel::every-case-is-measured", every_case),
        trial("kernel::unknown-case", || refused("root=kernel-bench -- nosuch", "nosuch")),
        trial("kernel::unknown-root-program", || refused("root=nosuch", "nosuch")),
        trial("kernel::malformed-root-program", || refused("root=modules.txt", "modules.txt")),
    ]
}

fn every_case() -> Outcome {
    let bench = KernelBench::new(&[], SILENCE)?;
    let run = bench.run(session()?, &Quiet)?.passed()?;
    let series = series(&[run]);
    for (case, series) in CASES.iter().zip(&series) {
        let (name, n) = (&series.measurement.case, series.sorted.len());
        ensure(name == case.name && n == SAMPLES, || format!("{n} samples of {name}, not of {}", case.name))?;
        ensure(series.min().as_f64() > Some(0.0), || format!("{name}: nothing was counted"))?;
    }
    ensure(series.len() == CASES.len(), || format!("{} cases of {}", series.len(), CASES.len()))
}

/// A line that the guest refuses with a reason that names `what`.
fn refused(line: &str, what: &str) -> Outcome {
    let run = boot(line)?;
    ensure(run.ending == Ending::BadBoot && run.reason.contains(what), || {
        format!("ended with {}: {}", run.ending, run.reason)
    })
}

fn boot(line: &str) -> Result<Finished, libtest_mimic::Failed> {
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
