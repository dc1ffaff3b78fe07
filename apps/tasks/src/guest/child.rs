//! What a child does.

use core::str::SplitAsciiWhitespace;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain::FIRST_TASK;
use skerry_rt::{start, task};

use super::{Trouble, failed, mourning, team};

/// Nobody's address.
const OUTSIDE: u64 = 0x7f_dead_b000;

pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let what = words.next().unwrap_or_default();
    let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    match what {
        // Exits at once.
        "exit" => task::exit(number),
        "sleep" => skerry_rt::ipc::sleep_forever(),
        // Uses memory on all nodes and ends in different ways.
        "work" => {
            work(team::toucher, true)?;
            task::exit(number)
        }
        "linger" => {
            work(team::sleeper, false)?;
            skerry_rt::ipc::sleep_forever()
        }
        "leave" => {
            work(team::sleeper, false)?;
            task::end(number, format_args!("enough"))
        }
        "crash" => {
            work(team::toucher, true)?;
            team::word(OUTSIDE).load(core::sync::atomic::Ordering::Relaxed);
            Ok(())
        }
        // Moves its first thread over all nodes, some times.
        "travel" => {
            team::regions()?;
            let own = task::number().map_err(failed("the own number"))?;
            for round in 0..number {
                for (node, cpu) in start::app().places() {
                    task::go(own, cpu).map_err(failed("a move"))?;
                    team::touch(round + u64::from(node));
                }
            }
            Ok(())
        }
        "keep" => mourning::keep(number as u16, words),
        "wander" => mourning::wander(number),
        "hostile" => super::hostile::attack(FIRST_TASK, number as u32),
        // Creates threads for as long as it lives.
        "breed" => {
            team::regions()?;
            loop {
                let numbers = team::everywhere(team::toucher)?;
                for number in numbers.into_iter().flatten() {
                    task::join(number).map_err(failed("a join"))?;
                }
            }
        }
        // Moves over the nodes for as long as it lives.
        "roam" => {
            team::regions()?;
            let own = task::number().map_err(failed("the own number"))?;
            loop {
                for (node, cpu) in start::app().places() {
                    task::go(own, cpu).map_err(failed("a move"))?;
                    team::touch(node.into());
                }
            }
        }
        // Touches so many pages of a global region.
        "eat" => {
            task::region(team::base(team::KINDS[0]), number * PAGE_SIZE, team::KINDS[0], 0)
                .map_err(failed("a region"))?;
            for page in 0..number {
                team::word(team::base(team::KINDS[0]) + page * PAGE_SIZE)
                    .store(page, core::sync::atomic::Ordering::Relaxed);
            }
            Ok(())
        }
        // Tries to start a task of its own.
        "start" => {
            let birth = skerry_ipc::pager::Birth { parent: 0, cpu: skerry_ipc::pager::ANY_CPU, flags: 0 };
            match task::start(birth, 0, format_args!("tasks child exit 5")) {
                Ok(child) => {
                    let end = task::wait(child).map_err(failed("waiting"))?;
                    task::exit(100 + end.to_word() % 100)
                }
                Err(error) => task::exit(error.code()),
            }
        }
        _ => Err(Trouble::Unknown),
    }
}

/// Uses memory with a thread on every node.
fn work(entry: task::Entry, join: bool) -> Result<(), Trouble> {
    team::regions()?;
    team::touch(1);
    for number in team::everywhere(entry)?.into_iter().flatten().filter(|_| join) {
        task::join(number).map_err(failed("a join"))?;
    }
    Ok(())
}
