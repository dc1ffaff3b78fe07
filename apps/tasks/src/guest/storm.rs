//! Many tasks one after the other, which end in all ways: afterwards as much is free as before.

use core::str::SplitAsciiWhitespace;

use skerry_abi::Error;
use skerry_ipc::pager::{ANY_CPU, Birth, Free, TaskEnd};
use skerry_rt::record::{Kind, emit, progress};
use skerry_rt::{start, task};

use super::{Trouble, expect, failed};

/// What is free on the nodes with CPUs.
fn free() -> Result<[Free; 16], Trouble> {
    let mut all = [Free::default(); 16];
    for (slot, (node, _)) in all.iter_mut().zip(start::app().places()) {
        *slot = task::pager().free(node).map_err(failed("asking what is free"))?;
    }
    Ok(all)
}

/// A way to live and to end.
struct Way {
    command: &'static str,
    killed: bool,
    end: TaskEnd,
}

const fn way(command: &'static str, killed: bool, end: TaskEnd) -> Way {
    Way { command, killed, end }
}

const WAYS: [Way; 9] = [
    way("exit 3", false, TaskEnd::Exited(3)),
    way("work 4", false, TaskEnd::Exited(4)),
    way("linger", true, TaskEnd::Killed),
    way("leave 6", false, TaskEnd::Exited(6)),
    way("crash", false, TaskEnd::Faulted),
    way("travel 2", false, TaskEnd::Exited(0)),
    way("breed", true, TaskEnd::Killed),
    way("roam", true, TaskEnd::Killed),
    way("exit 9", true, TaskEnd::Killed),
];

/// Starts a task and sees it end.
fn one(way: &Way, cpu: u16, patience: u64) -> Result<(), Trouble> {
    let birth = Birth { parent: 0, cpu, flags: 0 };
    let child =
        task::start(birth, 0, format_args!("tasks child {}", way.command)).map_err(failed("a start"))?;
    if way.killed {
        // Somewhere in its life.
        skerry_rt::ipc::pause(patience);
        task::kill(child).map_err(failed("a kill"))?;
        expect("a second kill", u64::from(task::kill(child).is_ok()), 1)?;
    }
    let end = task::wait(child).map_err(failed("waiting"))?;
    expect("waiting twice", task::wait(child).err().map_or(0, Error::code), Error::Refused.code())?;
    // It may have ended by itself before it was killed.
    if way.killed && end == TaskEnd::Exited(9) {
        return Ok(());
    }
    expect(way.command, end.to_word(), way.end.to_word())
}

pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let count: u64 = words.next().and_then(|word| word.parse().ok()).ok_or(Trouble::Unknown)?;
    let cpus = start::app().cpu_count;
    let storm = |count: u64| {
        for i in 0..count {
            let cpu = if i % 4 == 0 { ANY_CPU } else { (i % cpus) as u16 };
            // The time until the kill grows from nothing to some milliseconds.
            one(&WAYS[(i % WAYS.len() as u64) as usize], cpu, i * 641 % 200_000)?;
            if i % 100 == 0 {
                progress("tasks", i, count);
            }
        }
        Ok(())
    };
    // What the kernels and this task itself take for good (frames of code that runs for the first time, too) they have taken after a round.
    // All rounds are one piece of code, so that the last one runs nothing new.
    let mut seen = [[Free::default(); 16]; 3];
    let ways = WAYS.len() as u64;
    for (seen, count) in seen.iter_mut().zip([2 * ways, ways, count]) {
        storm(count)?;
        *seen = free()?;
    }
    let [_, before, after] = &seen;
    for (before, after) in before.iter().zip(after) {
        expect("free frames", after.frames, before.frames)?;
        expect("free tables", after.tables, before.tables)?;
        expect("free map nodes", after.map_nodes, before.map_nodes)?;
    }
    emit(("tasks", "tasks.storm", "tasks"), count, "tasks", Kind::Exact, &[]);
    Ok(())
}
