//! Tests that boot the machine: one trial per boot, run by name like any other test.
//!
//! Trials look at typed endings and at measurements, never at prose. A failure ends with the command that reruns
//! just that trial. `SKERRY_NO_INSTALL=1` makes a missing tool a failure instead of an installation.
#![forbid(unsafe_code)]

mod bench;
mod boots;
mod coherence;
mod harness;
mod hostile;
mod instrument;
mod kernel;
mod kernel_test;
mod pager;
mod patch;
mod removal;
mod tasks;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A boot keeps a host CPU busy; more than two at a time only make each other slow.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores.min(2));
    if let Err(error) = skerry::interrupt::install() {
        eprintln!("skerry: error: {error}");
        return ExitCode::FAILURE;
    }
    let trials = [
        boots::trials(),
        coherence::trials(),
        bench::trials(),
        hostile::trials(),
        instrument::trials(),
        kernel::trials(),
        kernel_test::trials(),
        pager::trials(),
        removal::trials(),
        tasks::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness::print_longest();
    conclusion.exit_code()
}
