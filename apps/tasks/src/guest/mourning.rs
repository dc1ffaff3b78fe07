//! The app pager of a node crashes (boot option `crash`) in the midst of whatever the tasks have it do.
//!
//! Tasks that have threads on that node end, and say why. Tasks on the other nodes unmap, restrict and write pages that they share, and
//! check every word against what they wrote ([`keep`]): they lose nothing. Afterwards tasks run on that
//! node again, and on all nodes as much is free as before.

use core::str::SplitAsciiWhitespace;

use core::sync::atomic::Ordering::Relaxed;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::{Birth, Free, TaskEnd};
use skerry_rt::record::{Kind, emit, progress};
use skerry_rt::{start, sys, task};

use super::{Trouble, expect, failed, team};

/// What a task says that wanders and was not ended.
pub(super) const WANDERED: u64 = 77;
/// In the place of a node.
pub(super) const NO_NODE: u16 = u16::MAX;
/// Pages that keepers share, and where they lie.
const KEPT_PAGES: u64 = 24;
/// Words of a page that each thread has for itself are so far apart.
const WORD_STRIDE: u64 = 64;
/// Steps of the counter in a microsecond, about.
const TICKS: u64 = 62;

/// How often it looks whether a node is there again, and how long it waits in between: 1 millisecond.
pub(super) const TRIES: u64 = 20_000;
pub(super) const PAUSE_TICKS: u64 = 62_500;

pub(super) fn start_on(cpu: u16, command: core::fmt::Arguments<'_>) -> Result<u32, Error> {
    task::start(Birth { parent: 0, cpu, flags: 0 }, 0, format_args!("tasks child {command}"))
}

/// Frames that are free on a node, when its pager answers.
pub(super) fn free(node: u16) -> Result<Free, Trouble> {
    for _ in 0..TRIES {
        match task::pager().free(node) {
            Ok(free) => return Ok(free),
            Err(_) => skerry_rt::ipc::pause(PAUSE_TICKS),
        }
    }
    Err(Trouble::Wrong("tries to ask what is free", TRIES, 0))
}

/// One task after the other on this node: each ends well.
pub(super) fn ordinary(cpu: u16, count: u64) -> Result<(), Trouble> {
    for number in 0..count {
        let mut tries = 0;
        let id = loop {
            match start_on(cpu, format_args!("keep {NO_NODE} 0 {number}")) {
                Ok(id) => break id,
                Err(error) if tries == TRIES => return Err(Trouble::Failed("a start on the node", error)),
                Err(_) => skerry_rt::ipc::pause(PAUSE_TICKS),
            }
            tries += 1;
        };
        expect(
            "a later task",
            task::wait(id).map_err(failed("waiting"))?.to_word(),
            TaskEnd::Exited(number).to_word(),
        )?;
    }
    Ok(())
}

/// `mourning NODE`: whose pager crashes.
pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let dead: u16 = words.next().and_then(|word| word.parse().ok()).ok_or(Trouble::Unknown)?;
    let places = || start::app().places().enumerate();
    let (_, (_, dead_cpu)) = places().find(|&(_, (node, _))| node == dead).ok_or(Trouble::Unknown)?;
    let mut seen = [[Free::default(); 16]; 3];
    // What this task itself takes for good (frames of code that runs for the first time, too) it has taken after a crash.
    for (round, seen) in seen.iter_mut().enumerate() {
        one_crash(dead, dead_cpu)?;
        for (index, (node, _)) in places() {
            seen[index] = free(node)?;
        }
        progress("crashes", round as u64 + 1, 3);
    }
    let [_, before, after] = &seen;
    for (before, after) in before.iter().zip(after) {
        expect("free frames", after.frames, before.frames)?;
        expect("free tables", after.tables, before.tables)?;
        expect("free map nodes", after.map_nodes, before.map_nodes)?;
    }
    emit(("tasks", "tasks.mourning", "crashes"), 3, "crashes", Kind::Exact, &[]);
    Ok(())
}

fn one_crash(dead: u16, dead_cpu: u16) -> Result<(), Trouble> {
    let others =
        || start::app().places().enumerate().filter(move |&(_, (node, _))| node != dead && node != 0);
    // One at home there, and one that comes there from elsewhere.
    let at_home = start_on(dead_cpu, format_args!("wander")).map_err(failed("a start"))?;
    let visitor = start_on(0, format_args!("wander")).map_err(failed("a start"))?;
    let mut keepers = [0; 16];
    for (index, (_, cpu)) in others() {
        keepers[index] = start_on(cpu, format_args!("keep {dead} 30000 40")).map_err(failed("a start"))?;
    }
    for id in [at_home, visitor] {
        let end = task::wait(id).map_err(failed("waiting for one that ends"))?;
        expect("a task with the dead pager", end.to_word(), TaskEnd::PagerDied.to_word())?;
    }
    for (index, _) in others() {
        let end = task::wait(keepers[index]).map_err(failed("waiting for one that goes on"))?;
        expect("a task of other nodes", end.to_word(), TaskEnd::Exited(40).to_word())?;
    }
    // Tasks can be started there again, and elsewhere.
    ordinary(dead_cpu, 3)?;
    for (_, (_, cpu)) in others() {
        ordinary(cpu, 1)?;
    }
    Ok(())
}

/// What a thread of a keeper does: writes its words and checks them, round after round. Returns how many.
fn write_and_check(index: u64, until: u64) -> Result<u64, Trouble> {
    let mut round = 0;
    while round < 3 || sys::counter_time() < until {
        round += 1;
        for page in 0..KEPT_PAGES {
            let word = team::word(team::base(team::KINDS[0]) + page * PAGE_SIZE + index * WORD_STRIDE);
            expect("a word", word.load(Relaxed), round - 1)?;
            word.store(round, Relaxed);
        }
    }
    Ok(round)
}

/// The other threads of a keeper: the argument is index and time.
extern "C" fn keeper(argument: u64) -> ! {
    match write_and_check(argument >> 48, argument & ((1 << 48) - 1)) {
        Ok(_) => task::exit(0),
        Err(trouble) => task::end(exit::FAIL, format_args!("a keeper: {trouble}")),
    }
}

/// `keep NODE MICROSECONDS CODE [NODE]`: threads on all nodes but one, or two (and if that is none, only here) share pages, which one of them
/// has restricted, widened and moved all the time; no word is lost.
pub(super) fn keep(dead: u16, mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or(Trouble::Unknown);
    let (microseconds, code) = (number()?, number()?);
    let other = number().map_or(NO_NODE, |node| node as u16);
    team::regions()?;
    let until = sys::counter_time() + microseconds * TICKS;
    let base = team::base(team::KINDS[0]);
    let mut threads = [None; 16];
    let places = start::app().places().filter(|&(node, _)| dead != NO_NODE && node != dead && node != other);
    for ((thread, (node, cpu)), index) in threads.iter_mut().zip(places).zip(1u64..) {
        *thread = Some((team::spawn(index, cpu, keeper, index << 48 | until)?, node));
    }
    let mut round = 0;
    while round < 2 || sys::counter_time() < until {
        round += 1;
        // Pages that nobody else writes to.
        let own = base + (40 + round % 20) * PAGE_SIZE;
        team::word(own).store(round, Relaxed);
        task::protect(own, 1, Rights::R).map_err(failed("a restriction"))?;
        expect("a restricted word", team::word(own).load(Relaxed), round)?;
        task::protect(own, 1, Rights::RW).map_err(failed("a widening"))?;
        for &(_, node) in threads.iter().flatten() {
            task::move_pages(base + round % KEPT_PAGES * PAGE_SIZE, 1, node).map_err(failed("a move"))?;
        }
        // Others, whose contents do not matter.
        team::word(base + (100 + round % 50) * PAGE_SIZE).store(round, Relaxed);
        task::unmap(base + (100 + round % 50) * PAGE_SIZE, 1).map_err(failed("an unmap"))?;
    }
    for &(thread, _) in threads.iter().flatten() {
        task::join(thread).map_err(failed("a join"))?;
    }
    task::exit(code)
}

/// Pages that have copies on several nodes, and the end of that.
fn several_frames(base: u64, node: u16) {
    let page = base + u64::from(node) * 16 * PAGE_SIZE;
    let word = |number: u64| team::word(page + number * PAGE_SIZE);
    let _ = task::replicate(page, 4);
    (0..4).for_each(|number| _ = word(number).load(Relaxed));
    let _ = task::unmap(page, 1);
    word(1).store(1, Relaxed);
    let _ = task::make_local(page + 4 * PAGE_SIZE, 4);
    (4..8).for_each(|number| word(number).store(number, Relaxed));
    let _ = task::unmap(page + 4 * PAGE_SIZE, 2);
    let _ = task::make_global(page + 4 * PAGE_SIZE, 4);
}

/// Reads pages again and again. (To write them is not always allowed.)
extern "C" fn lurker(_: u64) -> ! {
    loop {
        for page in (0..32).chain(256..320) {
            team::word(team::base(team::KINDS[0]) + page * PAGE_SIZE).load(Relaxed);
        }
        skerry_rt::ipc::pause(200 * TICKS);
    }
}

/// `wander MICROSECONDS`: does everything on all nodes until it is ended; not longer, if that is not 0. Whatever is refused is tried again.
pub(super) fn wander(microseconds: u64) -> Result<(), Trouble> {
    let until = sys::counter_time() + microseconds * TICKS;
    team::regions()?;
    let own = task::number().map_err(failed("the own number"))?;
    let base = team::base(team::KINDS[0]);
    // These stay, so that others share the pages.
    for (index, (_, cpu)) in (20..).zip(start::app().places()) {
        let _ = team::spawn(index, cpu, lurker, index);
    }
    loop {
        let mut threads = [None; 16];
        for (thread, (node, cpu)) in threads.iter_mut().zip(start::app().places()) {
            *thread = team::spawn(node.into(), cpu, team::toucher, node.into()).ok();
        }
        // Who may not have ended may write.
        let over = threads.into_iter().flatten().filter(|&thread| task::join(thread).is_err()).count() == 0;
        for (node, cpu) in start::app().places() {
            team::touch(node.into());
            let page = base + u64::from(node) * 7 % 512 * PAGE_SIZE;
            if over {
                let _ = task::protect(page, 4, Rights::R);
                let _ = task::protect(page, 4, Rights::RW);
            }
            let _ = task::move_pages(page, 3, node);
            let _ = task::unmap(page, 8);
            let _ = task::go(own, cpu);
            several_frames(base + 256 * PAGE_SIZE, node);
            if microseconds != 0 && sys::counter_time() > until {
                task::end(WANDERED, format_args!(""));
            }
        }
    }
}
