//! The app pager of a node crashes at every step of its protocols, one after the other (boot option `crash=steps`).
//!
//! For each step: tasks do everything on all nodes until the pager crashes when it is about to do that. Those with something on that node end, and
//! say why; others, on other nodes, share pages meanwhile and check every word ([`super::mourning::keep`]); then tasks run there
//! again, and on all nodes as much is free as before. Steps of clearing up after another pager are reached by having another one crash, too.
//!
//! What nobody comes by is listed ([`MISSED`]), so that a new step is noticed that nothing here tries.

use core::fmt::{self, Display};
use core::str::SplitAsciiWhitespace;

use app_pager::step::Step;
use skerry_abi::Error;
use skerry_ipc::pager::{Free, TaskEnd};
use skerry_rt::record::{Kind, emit, progress};
use skerry_rt::{println, start, task};

use super::mourning::{NO_NODE, PAUSE_TICKS, TRIES, WANDERED, free, ordinary, start_on};
use super::{Trouble, expect, failed};

/// How long tasks do everything, if nobody ends them: in microseconds.
const WANDERING: u64 = 15_000;
/// How long others keep checking.
const KEEPING: u64 = 4_000;
const KEPT: u64 = 40;
/// Who crashes besides, to be cleared up after.
const OTHER: &str = "fault.map";

/// Steps that these tasks do not come by.
const MISSED: &[&str] = &[
    // What others win or are in the way of, at the very moment.
    "fault.leave-sharers",
    "fault.give-back",
    "fault.wake-node",
    "lead.park",
    "thread.wake",
    "thread.park",
    "thread.refused",
    // What is for faults that take several pages, which none does where crashes are to be.
    "fault.group",
    "fault.pass",
    "lead.group",
    "revoke.count-group",
    // What programs do wrong, and machines without memory.
    "fault.reject",
    "fault.out-of-memory",
    // What the pager that dies here has not led, or not had in hand, when the other one dies.
    "lead.lost",
    "reclaim.look",
    "reclaim.free",
    "task.none",
];
/// Crashes in the midst of giving back what a task had that was at home there: what it had in other pools stays taken.
const LEAVING: &[&str] = &["task.quiet", "task.release"];

fn is_among(names: &[&str], step: Step) -> bool {
    names.iter().any(|&name| Step::named(name) == Some(step))
}

/// Has a node's pager crash at a step; returns how often what was asked before was still to come. A pager that is being started again is asked
/// until it answers.
fn crash_at(node: u16, step: u16, times: u32) -> Result<u32, Trouble> {
    for _ in 0..TRIES {
        match task::pager().crash_at(node, step, times) {
            Ok(left) => return Ok(left),
            Err(error @ (Error::Refused | Error::BadArgument)) => {
                return Err(Trouble::Failed("crash_at", error));
            }
            Err(_) => skerry_rt::ipc::pause(PAUSE_TICKS),
        }
    }
    Err(Trouble::Wrong("tries to say where to crash", TRIES, 0))
}

/// What is free on all nodes.
fn all_free() -> Result<[Free; 16], Trouble> {
    let mut seen = [Free::default(); 16];
    for (seen, (node, _)) in seen.iter_mut().zip(start::app().places()) {
        *seen = free(node)?;
    }
    Ok(seen)
}

fn cpu_of(node: u16) -> Result<u16, Trouble> {
    let mut places = start::app().places();
    places.find(|&(other, _)| other == node).map(|(_, cpu)| cpu).ok_or(Trouble::Unknown)
}

/// `steps NODE OTHER FIRST LAST TIMES`: the steps with these numbers, each at the so-many-th time.
pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let mut number = || words.next().and_then(|word| word.parse::<u16>().ok()).ok_or(Trouble::Unknown);
    let (node, other, first, last, times) = (number()?, number()?, number()?, number()?, number()?);
    let last = last.min(Step::COUNT as u16);
    // What this task itself takes for good (frames of code that runs for the first time, too) it has taken after some crashes.
    let mut before = [Free::default(); 16];
    for name in [OTHER, "fault.group", "recover.forget", OTHER] {
        let step = Step::named(name).ok_or(Trouble::Unknown)?;
        let crashed = one(node, other, step, 1)?;
        before = all_free()?;
        println!("{step}: {}{}", if crashed { "crashed" } else { "not reached" }, differ(&before, &before));
    }
    let (mut reached, mut wrong) = (0, 0);
    for step in (first..last).filter_map(Step::new) {
        let crashed = one(node, other, step, times.into())?;
        reached += u64::from(crashed);
        let after = all_free()?;
        println!("{step}: {}{}", if crashed { "crashed" } else { "not reached" }, differ(&before, &after));
        wrong += u64::from(after != before && !is_among(LEAVING, step));
        wrong += u64::from(times == 1 && crashed == is_among(MISSED, step));
        before = after;
        progress("steps", (step.number() - first).into(), (last - first).into());
    }
    expect("steps with something wrong", wrong, 0)?;
    emit(("tasks", "tasks.steps", "crashes"), reached, "crashes", Kind::Exact, &[]);
    Ok(())
}

/// What is not free any more, or is again, node by node.
fn differ<'a>(before: &'a [Free; 16], after: &'a [Free; 16]) -> impl Display + 'a {
    fmt::from_fn(move |f| {
        for (node, (before, after)) in before.iter().zip(after).enumerate().filter(|(_, (b, a))| a != b) {
            let less = |before: u64, after: u64| before as i64 - after as i64;
            let (frames, tables) = (less(before.frames, after.frames), less(before.tables, after.tables));
            let nodes = less(before.map_nodes, after.map_nodes);
            write!(f, "; node {node} has less: {frames} frames, {tables} tables, {nodes} map nodes")?;
        }
        Ok(())
    })
}

/// Whether somebody else has to die for this one.
fn is_of_recovery(step: Step) -> bool {
    let name = |prefix| Step::named(prefix).map_or(u16::MAX, Step::number);
    (name("reclaim.record")..=name("reclaim.leave")).contains(&step.number())
        || step.number() >= name("recover.forget")
        || ["asked.orphan", "done.orphan", "lead.lost"].iter().any(|&name| Step::named(name) == Some(step))
}

/// Whether the pager of this node has crashed at this step.
fn one(node: u16, other: u16, step: Step, times: u32) -> Result<bool, Trouble> {
    let two = is_of_recovery(step);
    let mourned = |of: u16| of == node || two && of == other;
    let keeping = || start::app().places().enumerate().filter(move |&(_, (of, _))| of != 0 && !mourned(of));
    let cpu = cpu_of(node)?;
    crash_at(node, step.number(), times)?;
    let mut keepers = [None; 16];
    for (index, (_, cpu)) in keeping() {
        let spared = if two { other } else { NO_NODE };
        let task = start_on(cpu, format_args!("keep {node} {KEEPING} {KEPT} {spared}"));
        keepers[index] = Some(task.map_err(failed("a start of a keeper"))?);
    }
    if two {
        let common = Step::named(OTHER).ok_or(Trouble::Unknown)?;
        crash_at(other, common.number(), 40)?;
    }
    // One at home there, and one that comes there from elsewhere. (A crash may be in the way of a start.)
    let at_home = start_on(cpu, format_args!("wander {WANDERING}"));
    let visitor = start_on(0, format_args!("wander {WANDERING}"));
    for (id, is_visitor) in [(at_home, false), (visitor, true)] {
        let Ok(id) = id else { continue };
        match task::wait(id) {
            Ok(TaskEnd::Exited(WANDERED) | TaskEnd::PagerDied) => {}
            Ok(end) => expect("a task with the dead pager", end.to_word(), TaskEnd::PagerDied.to_word())?,
            // Who asks only after the crash is told nothing: the next life of the pager knows of no such task.
            Err(_) if !is_visitor => {}
            Err(error) => return Err(Trouble::Failed("waiting for one that may end", error)),
        }
    }
    // What ends otherwise, or well; perhaps it is now that the pager crashes.
    if let Ok(id) = start_on(cpu, format_args!("wander {WANDERING}")) {
        let _ = task::kill(id);
        let _ = task::wait(id);
    }
    if let Ok(id) = start_on(cpu, format_args!("keep {NO_NODE} 0 {KEPT}")) {
        let _ = task::wait(id);
    }
    let crashed = crash_at(node, 0, 0)? == 0;
    if two {
        crash_at(other, 0, 0)?;
        ordinary(cpu_of(other)?, 1)?;
    }
    // Tasks can be started there again, and nobody else has noticed.
    ordinary(cpu, 1)?;
    for id in keepers.into_iter().flatten() {
        let end = task::wait(id).map_err(failed("waiting for one that goes on"))?;
        expect("a task of other nodes", end.to_word(), TaskEnd::Exited(KEPT).to_word())?;
    }
    Ok(crashed)
}
