//! The checks of the assembly, taken out of the shipped kernel's image one at a time: the attacks that the check is there for must work
//! then (`apps/kernel-test`, case `attack`), and none may work on the kernel as it is.
//!
//! Every conditional branch of the assembly has a label, `…_check_…` or `…_case_…`. The tables here say which attacks belong to a check, and
//! why a choice between cases is none. A branch without a label, a label without an entry, and an attack that nothing needs, fail.

use std::collections::BTreeSet;

use libtest_mimic::{Failed, Trial};
use skerry::ending::Ending;
use skerry::guest::KERNEL;
use skerry::image;
use skerry::ledger::parts::PREFIX;
use skerry::qemu::{Boot, Pace};
use skerry::size::MIB;
use skerry::supervisor::{Finished, Quiet, supervise};
use skerry::symbols::Symbols;

use crate::harness::{Outcome, SILENCE, ensure, nodes, session, trial};
use crate::patch::{Image, Removal, known_instructions};
use Removal::{Passes, Taken};
use Sign::{Panics, Works};

/// How one sees that an attack has worked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    /// The attacker's program says so.
    Works,
    /// It brings the kernel down.
    Panics,
}

/// A check: its label, how it is taken out, and what works then.
type Check = (&'static str, Removal, &'static [(&'static str, Sign)]);

const CHECKS: &[Check] = &[
    // Messages.
    ("ipc_check_slot", Passes, &[("calls-beyond-the-slots", Panics)]),
    ("ipc_check_name", Passes, &[("calls-a-stale-name", Works)]),
    ("ipc_check_open", Passes, &[("calls-who-waits-for-another", Works)]),
    (
        "ipc_check_standing",
        Passes,
        &[("calls-who-is-suspended", Works), ("calls-past-the-urgent", Works), ("calls-who-runs", Works)],
    ),
    ("ipc_check_registers", Passes, &[("sends-items-as-words", Works), ("sends-too-many-words", Works)]),
    ("ipc_check_words", Passes, &[("sends-items-as-words", Works), ("sends-too-many-words", Works)]),
    ("ipc_check_label", Passes, &[("calls-as-the-kernel", Works), ("answers-as-the-kernel", Works)]),
    ("ipc_check_timeout", Passes, &[("keeps-a-caller-past-its-time", Works)]),
    ("ipc_check_window", Passes, &[("gives-through-no-window", Works)]),
    (
        "ipc_check_wait",
        Passes,
        &[("keeps-a-caller-past-its-time", Works), ("gives-through-no-window", Works)],
    ),
    ("ipc_check_call", Passes, &[("answers-a-mere-message", Works)]),
    ("ipc_check_domain", Passes, &[("calls-a-stranger", Works)]),
    ("ipc_check_permission", Passes, &[("calls-a-stranger", Works)]),
    ("ipc_check_from", Passes, &[("lets-await-a-dead-thread", Works), ("puts-a-sender-to-sleep", Works)]),
    ("ipc_check_queue", Passes, &[("passes-over-who-waits", Works)]),
    ("ipc_check_notified", Passes, &[("drops-a-notification", Works)]),
    ("ipc_check_senders", Passes, &[("passes-over-who-waits", Works), ("drops-a-notification", Works)]),
    ("ipc_check_reply", Passes, &[("answers-without-a-call", Works)]),
    ("ipc_check_fp", Taken, &[("finds-a-callers-secret", Works)]),
    // Answers to page faults.
    ("answer_check_owed", Passes, &[("answers-anothers-fault", Works)]),
    ("answer_check_fault", Passes, &[("maps-into-a-caller", Works)]),
    (
        "answer_check_standing",
        Passes,
        &[("answers-who-is-suspended", Works), ("answers-past-the-urgent", Works)],
    ),
    ("answer_check_plain", Passes, &[("answers-with-words", Works), ("answers-with-two-items", Works)]),
    ("answer_check_item", Passes, &[("guards-with-words", Works), ("guards-and-gives-more", Works)]),
    ("answer_check_guard_aligned", Passes, &[("guards-by-half-a-word", Works)]),
    (
        "answer_check_guard_readable",
        Passes,
        &[("guards-by-nothing", Panics), ("guards-by-the-kernel", Panics)],
    ),
    ("answer_check_guard_normal", Passes, &[("guards-by-a-device", Works)]),
    ("answer_check_guard", Passes, &[("guards-in-vain", Works)]),
    ("answer_check_label", Passes, &[("rejects-and-maps", Works)]),
    (
        "answer_check_never",
        Passes,
        &[
            ("answers-and-sleeps", Works),
            ("answers-and-awaits-the-dead", Works),
            ("answers-past-its-time", Works),
        ],
    ),
    ("answer_check_window", Passes, &[("answers-and-loses-its-window", Works)]),
    ("answer_check_wait", Passes, &[("answers-and-sleeps", Works), ("answers-and-loses-its-window", Works)]),
    ("answer_check_queue", Passes, &[("answers-past-who-waits", Works)]),
    ("answer_check_notified", Passes, &[("answers-past-a-notification", Works)]),
    (
        "answer_check_senders",
        Passes,
        &[("answers-past-who-waits", Works), ("answers-past-a-notification", Works)],
    ),
    ("answer_check_mapped", Passes, &[("answers-with-nothing", Works)]),
    ("answer_check_fp", Taken, &[("finds-a-pagers-secret", Works)]),
    // Page faults.
    ("fault_check_translation", Passes, &[("faults-without-a-translation-fault", Works)]),
    ("fault_check_address", Passes, &[("faults-where-nothing-can-be", Works)]),
    // In a cluster of several CPUs there are no slots: any fault is an attack.
    ("fault_check_slot", Passes, &[(SHARED, Panics)]),
    ("fault_check_name", Passes, &[("faults-to-a-successor", Works)]),
    ("fault_check_open", Passes, &[("faults-into-a-call", Works)]),
    (
        "fault_check_standing",
        Passes,
        &[("faults-to-who-is-suspended", Works), ("faults-past-the-urgent", Works)],
    ),
    ("fault_check_fp", Taken, &[("finds-a-clients-secret", Works)]),
    // Unmapping, other calls.
    ("unmap_check_one", Passes, &[("keeps-a-flushed-page", Works), ("keeps-the-second-page", Works)]),
    ("unmap_check_alone", Passes, &[(SHARED, Works)]),
    ("unmap_check_done", Passes, &[("writes-what-is-read-only", Works)]),
    ("call_check_number", Passes, &[("makes-no-call", Works), ("makes-no-high-call", Works)]),
    ("call_check_caller", Passes, &[("goes-on-before-the-urgent", Works)]),
];

/// Checks that another one backs up: on this emulator, though not on every CPU that there may be, what the first is to stop does not
/// pass the second either. Both have to be gone for the attack; that the first alone stops it is seen when the second alone is gone.
const BACKED_UP: &[(&str, &str)] = &[
    // Of a translation that failed, the emulator leaves the bits zero in which device memory has zeros, too.
    ("answer_check_guard_readable", "answer_check_guard_normal"),
];

/// The attack that takes two CPUs.
const SHARED: &str = "reads-what-was-unmapped";

/// Branches that choose between cases, and why nobody gains if one is gone. `docs/testing.md` lists them.
const CASES: &[&str] = &[
    "entry_case_ipc",
    "entry_case_unmap",
    "entry_case_null",
    "call_case_abort",
    "sync_case_data",
    "sync_case_fetch",
    "ipc_case_alone",
    "ipc_case_many",
    "ipc_case_few",
    "ipc_case_eight_more",
    "ipc_case_all",
    "ipc_case_one_more",
    "answer_case_one",
    "answer_case_several",
    "answer_case_guarded",
];

/// Where the assembly is.
const CODE: [[&str; 2]; 2] = [["exception_vectors", "exception_vectors_end"], ["ipc_fast", "ipc_fast_end"]];

/// All trials of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("removal::instructions", known_instructions),
        trial("removal::every-branch-is-named", every_branch_is_named),
        trial("removal::no-attack-works-cpus-1", || no_attack_works(1)),
        trial("removal::no-attack-works-cpus-2", || no_attack_works(2)),
    ];
    for &(label, removal, attacks) in CHECKS {
        for &(attack, sign) in attacks {
            trials.push(trial(format!("removal::{label}-{attack}"), move || {
                works_without(label, removal, attack, sign)
            }));
        }
    }
    trials
}

fn symbols() -> Result<Symbols, Failed> {
    Ok(Symbols::load(&session()?.elf(KERNEL))?)
}

fn address(symbols: &Symbols, label: &str) -> Result<u64, Failed> {
    Ok(symbols.address(label).ok_or_else(|| format!("the kernel has no label {label}"))?)
}

/// Every conditional branch is in one of the tables, and the tables name nothing else.
fn every_branch_is_named() -> Outcome {
    let (symbols, kernel) = (symbols()?, Image::read(&session()?.elf(KERNEL))?);
    let mut names = BTreeSet::new();
    for [first, end] in CODE {
        let code = address(&symbols, first)?..address(&symbols, end)?;
        let is_name =
            |name: &&str| !name.starts_with(PREFIX) && (name.contains("_check_") || name.contains("_case_"));
        for branch in kernel.branches(code.clone())? {
            let name = symbols.labels_at(branch).find(is_name);
            let nearest = || symbols.label(branch, |_| false).unwrap_or("").to_owned();
            ensure(name.is_some(), || format!("the branch at {branch:#x}, near {}, has no name", nearest()))?;
        }
        for at in code.step_by(4) {
            names.extend(symbols.labels_at(at).filter(is_name).map(str::to_owned));
        }
    }
    let tables: BTreeSet<String> =
        CHECKS.iter().map(|check| check.0).chain(CASES.iter().copied()).map(str::to_owned).collect();
    ensure(names == tables, || {
        let differ: Vec<_> = names.symmetric_difference(&tables).collect();
        format!("only in the assembly, or only in the tables: {differ:?}")
    })?;
    let docs = std::fs::read_to_string(skerry::session::workspace()?.join("docs/testing.md"))?;
    let missing: Vec<_> = CASES.iter().filter(|case| !docs.contains(&format!("`{case}`"))).collect();
    ensure(missing.is_empty(), || format!("docs/testing.md does not say why {missing:?} are no checks"))
}

/// On the kernel as it is; and every attack is one on some check.
fn no_attack_works(cpus: usize) -> Outcome {
    let run = boot(cpus, "attack", Image::read(&session()?.elf(KERNEL))?)?;
    ensure(run.ending == Ending::Pass, || report(&run))?;
    let worked: Vec<_> =
        run.measurements.iter().filter(|m| m.value.as_u64() != Some(0)).map(|m| m.metric.clone()).collect();
    ensure(worked.is_empty(), || format!("{worked:?} work"))?;
    let tried: BTreeSet<_> = run.measurements.iter().map(|m| m.metric.as_str()).collect();
    let named = CHECKS.iter().flat_map(|check| check.2).map(|attack| attack.0);
    let expected: BTreeSet<_> = named.filter(|attack| (*attack == SHARED) == (cpus > 1)).collect();
    ensure(tried == expected, || {
        let differ: Vec<_> = tried.symmetric_difference(&expected).collect();
        format!("only tried, or only named by a check: {differ:?}")
    })
}

/// An attack on a check that is gone.
fn works_without(label: &str, removal: Removal, attack: &str, sign: Sign) -> Outcome {
    let (symbols, mut kernel) = (symbols()?, Image::read(&session()?.elf(KERNEL))?);
    if let Some((_, second)) = BACKED_UP.iter().find(|(first, _)| *first == label) {
        kernel.remove(address(&symbols, second)?, Passes)?;
        let run = attacked(attack, kernel.clone())?;
        ensure(run.ending == Ending::Pass && run.sum("attack", attack) == Some(0.0), || {
            format!("{label} is not what stops {attack}\n{}", report(&run))
        })?;
    }
    kernel.remove(address(&symbols, label)?, removal)?;
    let run = attacked(attack, kernel)?;
    let found = match run.ending {
        Ending::Pass if run.sum("attack", attack) == Some(1.0) => Some(Works),
        Ending::KernelPanic => Some(Panics),
        _ => None,
    };
    ensure(found == Some(sign), || {
        format!("without {label}, {attack}: {found:?} instead of {sign:?}\n{}", report(&run))
    })
}

/// Tries one attack on this kernel.
fn attacked(attack: &str, kernel: Image) -> Result<Finished, Failed> {
    boot(if attack == SHARED { 2 } else { 1 }, &format!("attack {attack}"), kernel)
}

fn report(run: &Finished) -> String {
    format!("ended with {}: {}\n{}", run.ending, run.reason, run.tail.join("\n"))
}

/// Boots this kernel with the attackers as root program.
fn boot(cpus: usize, case: &str, kernel: Image) -> Result<Finished, Failed> {
    let session = session()?;
    let folder = tempfile::tempdir()?;
    let modules = folder.path().join("modules.tar");
    let kernel = image::strip(KERNEL.binary, &kernel.into_bytes())?;
    std::fs::write(&modules, session.archive_with(|name| name == "kernel-test", [(KERNEL.binary, kernel)])?)?;
    let machine = nodes(1, cpus, 128 * MIB)?;
    let append = format!("root=kernel-test tick=10000ms -- {case}");
    let boot = Boot {
        machine: &machine,
        pace: Pace::Deterministic,
        kernel: &session.boot_image,
        initrd: &modules,
        append: &append,
    };
    Ok(supervise(session.qemu.command(&boot), SILENCE, &Quiet)?)
}
