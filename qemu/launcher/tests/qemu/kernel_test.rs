//! The kernel's own tests on the machine: cases of `apps/kernel-test`, one boot each.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use skerry::machine::Machine;
use skerry::masked::Run;
use skerry::qemu::{Boot, Pace};
use skerry::size::MIB;
use skerry::supervisor::{Finished, Quiet, supervise};

use crate::harness::{Outcome, SILENCE, ensure, nodes, session, trial, value};

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Case, nodes, CPUs, guest options.
    for (case, count, cpus, options) in [
        ("info", 1, 1, ""),
        ("info", 2, 4, ""),
        ("info", 1, 12, ""),
        ("interrupt", 1, 1, ""),
        ("interrupt", 2, 4, "clusters=one"),
        ("interrupt", 2, 2, ""),
        ("fp", 1, 1, "tick=50us"),
        ("fp", 1, 2, "tick=50us"),
        ("registers", 1, 1, ""),
        ("registers", 1, 2, ""),
        ("status", 1, 1, ""),
        ("idle", 1, 4, "tick=1ms"),
        ("idle", 2, 4, "clusters=one tick=1ms"),
        ("trace", 1, 1, "trace=on"),
        ("trace", 1, 2, "trace=on"),
        ("trace off", 1, 1, ""),
        ("tlb", 1, 3, "tlb=broadcast tick=50us"),
        ("tlb", 1, 3, "tlb=interrupt tick=50us"),
    ] {
        let what = options
            .split(' ')
            .filter(|word| !word.is_empty() && !word.starts_with("tick="))
            .collect::<Vec<_>>();
        let case_name = case.replace(' ', "-");
        let name = ["kernel-test::", &case_name, &format!("-nodes-{count}-cpus-{cpus}")].concat();
        let name = what.iter().fold(name, |name, word| format!("{name}-{}", word.replace('=', "-")));
        trials.push(trial(name, move || {
            run(nodes(count, cpus, 128 * MIB * count as u64)?, case, options, Pace::Deterministic).map(drop)
        }));
    }
    // One boot per phase: the kernel remembers the longest stretch only.
    for phase in [
        "interrupts",
        "come-and-go",
        "waiters",
        "deadlines",
        "split-blocks",
        "restrict-many",
        "unmap-many",
        "destroy-mapped",
        "map-many",
    ] {
        trials.push(trial(format!("kernel-test::bounded-{phase}"), move || {
            let case = format!("bounded {phase}");
            run(nodes(1, 1, 128 * MIB)?, &case, "measure=on", Pace::Deterministic).map(drop)
        }));
    }
    // CPUs that leave accesses and writes to the kernel, and have neither atomic instructions nor PAN.
    for cpu in ["cortex-a53", "cortex-a57"] {
        for case in ["status", "registers", "fp", "info"] {
            trials.push(trial(format!("kernel-test::{case}-{cpu}"), move || {
                let machine = nodes(2, 2, 256 * MIB)?;
                run_on(Some(cpu), machine, case, "tick=50us", Pace::Deterministic).map(drop)
            }));
        }
    }
    trials.extend(fuzz());
    trials.extend(masked());
    // Real interleaving: other CPUs really spin while one waits for their TLBs.
    for tlb in ["broadcast", "interrupt"] {
        trials.push(trial(format!("kernel-test::tlb-multi-threaded-{tlb}"), move || {
            let options = format!("tlb={tlb}");
            run(nodes(1, 3, 128 * MIB)?, "tlb", &options, Pace::Fast).map(drop)
        }));
    }
    trials
}

/// Random system calls on four nodes. `SKERRY_FUZZ="SEED CALLS"` chooses another slice.
fn fuzz() -> impl Iterator<Item = Trial> {
    let slices = [
        ("cpus-per-node-1", 1, "tick=50us", "1 120000"),
        ("cpus-per-node-2", 2, "tick=50us", "2 120000"),
        ("rings-maintained", 1, "tick=50us rings=maintained", "3 60000"),
    ];
    let slices = slices.map(|(name, cpus, options, slice)| {
        trial(format!("kernel-test::fuzz-{name}"), move || {
            let slice = std::env::var("SKERRY_FUZZ").unwrap_or_else(|_| slice.into());
            let machine = nodes(4, 4 * cpus, 4 * 128 * MIB)?;
            let run = run(machine, &format!("fuzz {slice}"), options, Pace::Deterministic)?;
            // A slice of 60,000 calls and more does all of it 20 times at least, a short one less often.
            let least = (value(&run, "fuzz", "calls")? / 3_000.0).clamp(1.0, 20.0);
            for metric in [
                "calls",
                "witness-rounds",
                "threads-replaced",
                "spaces-replaced",
                "controls-done",
                "ipcs",
                "remote-ipcs",
                "maps",
                "unmaps",
                "faults",
                "exceptions",
                "notifications",
                "migrations",
                "preemptions",
            ] {
                let count = value(&run, "fuzz", metric)?;
                ensure(count >= least, || format!("only {count} {metric}: the fuzzer does not get far"))?;
            }
            Ok(())
        })
    });
    slices.into_iter()
}

/// What interrupts may be off for, in instructions.
const LONGEST: u64 = 5_000;

/// No CPU keeps interrupts off for long, whatever others do to it: every CPU is counted by itself. `SKERRY_FUZZ` as in [`fuzz`].
fn masked() -> impl Iterator<Item = Trial> {
    let cases = [
        ("crowd-nodes-3-cpus-2", 3, 2, "tick=1ms -- crowd"),
        ("crowd-nodes-4-cpus-1", 4, 1, "tick=1ms -- crowd"),
        ("fuzz-nodes-3-cpus-2", 3, 2, "tick=50us -- fuzz 4 30000"),
    ];
    let slice = std::env::var("SKERRY_FUZZ").map(|slice| format!("tick=50us -- fuzz {slice}"));
    cases.into_iter().map(move |(name, count, per_node, rest)| {
        let rest = slice.clone().ok().filter(|_| name.starts_with("fuzz")).unwrap_or_else(|| rest.into());
        trial(format!("kernel-test::masked-{name}"), move || {
            let machine = nodes(count, count * per_node, 128 * MIB * count as u64)?;
            let line = format!("root=kernel-test {rest}");
            let run = Run { machine: &machine, line: &line, silence: SILENCE };
            let (finished, all) = run.measure(session()?, &Quiet)?;
            passed(&line, &finished)?;
            ensure(all.len() == machine.cpus(), || format!("{} CPUs were measured", all.len()))?;
            for longest in &all {
                // For those who run just this one, and look at its output.
                println!("CPU {}: {} instructions", longest.cpu, longest.instructions);
                ensure(longest.stretches > 10, || format!("idle: {longest}"))?;
                ensure(longest.instructions <= LONGEST, || longest.to_string())?;
            }
            Ok(())
        })
    })
}

/// Boots a machine with the tests as root program.
fn run(machine: Machine, case: &str, options: &str, pace: Pace) -> Result<Finished, Failed> {
    run_on(None, machine, case, options, pace)
}

/// The same with another CPU than the usual one.
fn run_on(
    cpu: Option<&str>,
    machine: Machine,
    case: &str,
    options: &str,
    pace: Pace,
) -> Result<Finished, Failed> {
    let session = session()?;
    let line = format!("root=kernel-test {options} -- {case}");
    let kernel: &Path = &session.boot_image;
    let boot = Boot { machine: &machine, pace, kernel, initrd: &session.modules, append: &line };
    let mut command = session.qemu.command(&boot);
    // The last one counts.
    command.args(cpu.into_iter().flat_map(|cpu| ["-cpu", cpu]));
    let run = supervise(command, SILENCE, &Quiet)?;
    passed(&line, &run).map(|()| run)
}

fn passed(line: &str, run: &Finished) -> Outcome {
    ensure(run.ending == skerry::ending::Ending::Pass, || {
        format!("{line}: ended with {}: {}\n{}", run.ending, run.reason, run.tail.join("\n"))
    })
}
