//! Attacks by the other system calls whose entries are in assembly: UNMAP and those of which the caller mostly just goes on.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::{Rights, Timeout};
use skerry_rt::{ipc, sys};

use super::super::world::{Outcome, call, ensure, failed, fpage};
use super::Attack;
use super::cast::{Cast, OURS};
use super::script::{Ipc, Step, WATCHED};

/// The attack that needs a cluster of several CPUs.
pub(super) const SHARED: &str = "reads-what-was-unmapped";

pub(super) const ATTACKS: [(&str, Attack); 7] = [
    ("keeps-a-flushed-page", keeps_a_flushed_page),
    ("keeps-the-second-page", keeps_the_second_page),
    ("writes-what-is-read-only", writes_what_is_read_only),
    (SHARED, reads_what_was_unmapped),
    ("makes-no-call", makes_no_call),
    ("makes-no-high-call", makes_no_high_call),
    ("goes-on-before-the-urgent", goes_on_before_the_urgent),
];

/// Flush means: from oneself, too.
fn keeps_a_flushed_page(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let home = cast.space(OURS)?;
    let faults = cast.world.faults;
    let actor = cast.engage(home, 50, &[Step::Touch(page), Step::Flush(page), Step::Touch(page)])?;
    cast.settle()?;
    ensure!(actor.done() == 3, "{} steps", actor.done());
    Ok(cast.world.faults - faults != 2)
}

/// Touches two pages; after `then` again, and returns whether it still has the second one.
fn keeps(cast: &mut Cast<'_>, then: fn([u64; 2]) -> Outcome) -> Outcome<bool> {
    let pages = [cast.page(0), cast.page(1)];
    let home = cast.space(OURS)?;
    let touch = pages.map(Step::Touch);
    let actor = cast.engage(home, 50, &[touch[0], touch[1], Step::Ipc(Ipc::LISTEN), touch[1]])?;
    cast.settle()?;
    then(pages)?;
    let faults = cast.world.faults;
    cast.nudge(actor)?;
    ensure!(actor.done() == 4, "{} steps", actor.done());
    Ok(cast.world.faults == faults)
}

fn keeps_the_second_page(cast: &mut Cast<'_>) -> Outcome<bool> {
    keeps(cast, |[first, second]| {
        let mut both = [fpage(first, PAGE_BITS)?, fpage(second, PAGE_BITS)?];
        call("unmapping", sys::unmap(&mut both, false))
    })
}

fn writes_what_is_read_only(cast: &mut Cast<'_>) -> Outcome<bool> {
    keeps(cast, |[_, second]| {
        let writing = fpage(second, PAGE_BITS)?.with_rights(Rights::W);
        call("restricting", sys::unmap(&mut [writing], false))
    })
}

/// A thread on another CPU reads on, with what its TLB remembers.
fn reads_what_was_unmapped(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let Some(cpu) = cast.world.other_cpus().next() else {
        return failed(format_args!("the attack needs a cluster of two CPUs"));
    };
    let home = cast.space(OURS)?;
    WATCHED.store(0, Ordering::Relaxed);
    let pager = cast.world.me;
    cast.engage_at(cpu, home, 50, pager, &[Step::Watch(page)])?;
    while WATCHED.load(Ordering::Relaxed) < 10 {
        cast.world.answer_faults_for(20_000)?;
    }
    call("unmapping", sys::unmap(&mut [fpage(page, PAGE_BITS)?], false))?;
    let mut message = skerry_rt::Message::new();
    let until = Timeout(sys::counter_time() + 1_000_000);
    Ok(ipc::receive(skerry_abi::ThreadId::ANY, &mut message, until).is_err())
}

/// Makes a call that does not exist; whether it gets away with it.
fn survives(cast: &mut Cast<'_>, step: Step) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let attacker = cast.engage(home, 50, &[step])?;
    cast.settle()?;
    Ok(attacker.done() != 0 || cast.exceptions == 0)
}

fn makes_no_call(cast: &mut Cast<'_>) -> Outcome<bool> {
    survives(cast, Step::NoCall)
}

fn makes_no_high_call(cast: &mut Cast<'_>) -> Outcome<bool> {
    survives(cast, Step::NoHighCall)
}

/// Whom it has notified is to run first.
fn goes_on_before_the_urgent(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let urgent = cast.engage(home, 60, &[Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let attacker = cast.engage(home, 50, &[Step::Notify(urgent.who())])?;
    cast.settle()?;
    Ok(attacker.overtook(urgent))
}
