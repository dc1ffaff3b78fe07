//! Hostile programs die alone: with a readable report, while a bystander thread of the same task finishes.

use libtest_mimic::Trial;
use skerry::ending::Ending;
use skerry::size::MIB;

use crate::harness::{Outcome, ensure, expect, nodes, selftest, trial, value};

const PROGRAMS: [&str; 8] = [
    "fault-outside",
    "privileged",
    "jump-kernel",
    "stack-overflow",
    "unknown-syscall",
    "read-kernel",
    "write-code",
    "exec-data",
];

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    PROGRAMS.into_iter().map(|name| trial(format!("hostile::{name}"), move || dies_alone(name))).collect()
}

fn dies_alone(name: &str) -> Outcome {
    let run = expect(&selftest(nodes(2, 2, 256 * MIB)?, name)?, Ending::AppFault)?;
    let finished = value(&run, &format!("selftest.{name}"), "bystander-finished")?;
    ensure(finished == 1.0, || "the bystander did not finish".into())?;
    ensure(!run.reason.is_empty() && run.reason != Ending::AppFault.meaning(), || {
        "the guest gave no reason for the fault".into()
    })
}
