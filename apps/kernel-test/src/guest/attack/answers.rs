//! Attacks by answers to page faults: who owes none, what is no item, and what the pager itself must not miss.

use skerry_abi::message::kernel_label;
use skerry_abi::{Tag, ThreadId};
use skerry_rt::sys;

use super::super::world::{Outcome, call};
use super::Attack;
use super::cast::{Actor, Cast, OURS, THEIRS};
use super::script::{HONEST, ITEM, Ipc, Step, Who};
use super::waits::{later, soon};

pub(super) const ATTACKS: [(&str, Attack); 15] = [
    ("answers-anothers-fault", answers_anothers_fault),
    ("maps-into-a-caller", maps_into_a_caller),
    ("answers-who-is-suspended", answers_who_is_suspended),
    ("answers-past-the-urgent", answers_past_the_urgent),
    ("answers-with-words", answers_with_words),
    ("answers-with-two-items", answers_with_two_items),
    ("rejects-and-maps", rejects_and_maps),
    ("answers-and-sleeps", answers_and_sleeps),
    ("answers-and-awaits-the-dead", answers_and_awaits_the_dead),
    ("answers-past-its-time", answers_past_its_time),
    ("answers-and-loses-its-window", answers_and_loses_its_window),
    ("answers-past-who-waits", answers_past_who_waits),
    ("answers-past-a-notification", answers_past_a_notification),
    ("answers-with-nothing", answers_with_nothing),
    ("finds-a-pagers-secret", finds_a_pagers_secret),
];

/// A pager that has a page, and takes a fault. What it does then is up to the attack.
pub(super) struct Fault {
    pub(super) pager: Actor,
    pub(super) victim: Actor,
}

/// What a pager has done when it has taken the fault: its page, and the message.
const TAKEN: usize = 2;

pub(super) fn fault(cast: &mut Cast<'_>, urgency: [u8; 2], then: &[Step]) -> Outcome<Fault> {
    fault_with(cast, urgency, then, &[])
}

/// The victim goes on with `last`.
fn fault_with(cast: &mut Cast<'_>, urgency: [u8; 2], then: &[Step], last: &[Step]) -> Outcome<Fault> {
    let page = cast.page(0);
    let (office, home) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let mut script =
        [Step::Touch(page), Step::Ipc(Ipc::WAIT), Step::FindSecret, Step::FindSecret, Step::FindSecret];
    script[TAKEN..TAKEN + then.len()].copy_from_slice(then);
    let pager = cast.engage(office, urgency[0], &script[..TAKEN + then.len()])?;
    cast.settle()?;
    let mut script = [Step::Touch(page); 2];
    script[1..1 + last.len()].copy_from_slice(last);
    let victim = cast.engage_under(home, urgency[1], pager.id, &script[..1 + last.len()])?;
    cast.settle()?;
    Ok(Fault { pager, victim })
}

/// The page that the victim wants.
fn gives(cast: &Cast<'_>) -> Ipc {
    Ipc::give(Who::Last, cast.page(0), cast.page(0))
}

/// Somebody else's page appears there.
fn answers_anothers_fault(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let Fault { victim, .. } = fault(cast, [50, 50], &[Step::Ipc(Ipc::LISTEN)])?;
    let lair = cast.space(THEIRS + 1)?;
    cast.engage(lair, 50, &[Step::Touch(page), Step::Ipc(Ipc::give(victim.who(), page, page))])?;
    cast.settle()?;
    Ok(victim.done() != 0)
}

/// A thread of the space that was called may answer, but the caller takes no items.
fn maps_into_a_caller(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let (office, home) = (cast.space(OURS)?, cast.space(OURS)?);
    let server = cast.engage(office, 50, &[Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let victim = cast.engage(home, 50, &[Step::Ipc(Ipc::call(server.who(), HONEST))])?;
    cast.settle()?;
    cast.engage(office, 50, &[Step::Touch(page), Step::Ipc(Ipc::give(victim.who(), page, page))])?;
    cast.settle()?;
    Ok(victim.done() != 0)
}

fn answers_who_is_suspended(cast: &mut Cast<'_>) -> Outcome<bool> {
    let gives = gives(cast);
    let Fault { pager, victim } = fault(cast, [50, 50], &[Step::Ipc(Ipc::LISTEN), Step::Ipc(gives)])?;
    call("suspending", sys::thread_suspend(victim.id))?;
    cast.nudge(pager)?;
    Ok(victim.done() != 0)
}

fn answers_past_the_urgent(cast: &mut Cast<'_>) -> Outcome<bool> {
    let urgent = Who::Actor(2);
    let then = [Step::Ipc(Ipc::LISTEN), Step::Notify(urgent), Step::Ipc(gives(cast))];
    let Fault { pager, victim } = fault(cast, [70, 10], &then)?;
    let office = cast.space(OURS)?;
    let urgent = cast.engage(office, 60, &[Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    cast.nudge(pager)?;
    Ok(victim.overtook(urgent))
}

/// Words that its pager got from anywhere become a mapping.
fn answers_with_words(cast: &mut Cast<'_>) -> Outcome<bool> {
    let words = Ipc { tag: Tag::new(0, 2, 0), ..gives(cast) };
    let Fault { victim, .. } = fault(cast, [50, 50], &[Step::Ipc(words)])?;
    Ok(victim.done() != 0)
}

/// All or nothing: the second item is none, so nothing must be mapped.
fn answers_with_two_items(cast: &mut Cast<'_>) -> Outcome<bool> {
    let two = Ipc { tag: Tag::new(0, 0, 4), ..gives(cast) };
    let Fault { victim, .. } = fault(cast, [50, 50], &[Step::Ipc(two)])?;
    Ok(victim.done() != 0)
}

/// A rejected fault becomes an exception; the victim must not go on.
fn rejects_and_maps(cast: &mut Cast<'_>) -> Outcome<bool> {
    let rejects = Ipc { tag: Tag(ITEM.0 | Tag::new(kernel_label::REJECT_FAULT, 0, 0).0), ..gives(cast) };
    let Fault { victim, .. } = fault(cast, [50, 50], &[Step::Ipc(rejects)])?;
    Ok(victim.done() != 0 || cast.exceptions == 0)
}

/// The pager did not want to receive.
fn answers_and_sleeps(cast: &mut Cast<'_>) -> Outcome<bool> {
    let gives = Ipc { from: Who::Nobody, ..gives(cast) };
    let Fault { pager, .. } = fault(cast, [50, 50], &[Step::Ipc(gives)])?;
    Ok(pager.done() == TAKEN)
}

/// The pager is not told that it waits for nobody.
fn answers_and_awaits_the_dead(cast: &mut Cast<'_>) -> Outcome<bool> {
    let gives = Ipc { from: Who::Thread(ThreadId::new(0, 50, 7)), ..gives(cast) };
    let Fault { pager, .. } = fault(cast, [50, 50], &[Step::Ipc(gives)])?;
    Ok(pager.done() == TAKEN)
}

fn answers_past_its_time(cast: &mut Cast<'_>) -> Outcome<bool> {
    let gives = Ipc { receive: soon(), ..gives(cast) };
    let Fault { pager, .. } = fault(cast, [50, 50], &[Step::Ipc(gives)])?;
    later(cast)?;
    Ok(pager.done() == TAKEN)
}

/// The pager waits for pages, too.
fn answers_and_loses_its_window(cast: &mut Cast<'_>) -> Outcome<bool> {
    let (page, window) = (cast.page(1), cast.page(2));
    let gives = Ipc { window: window | 12 << 4 | 7, ..gives(cast) };
    let Fault { pager, .. } = fault(cast, [50, 50], &[Step::Ipc(gives)])?;
    let source = cast.space(OURS)?;
    let giver =
        cast.engage(source, 50, &[Step::Touch(page), Step::Ipc(Ipc::give(pager.who(), page, window))])?;
    cast.settle()?;
    Ok(giver.failed(1))
}

/// Before the pager answers, somebody calls it.
fn answers_past_who_waits(cast: &mut Cast<'_>) -> Outcome<bool> {
    let caller = Who::Actor(2);
    let then = [Step::Ipc(Ipc::LISTEN), Step::Notify(caller), Step::Ipc(gives(cast))];
    let Fault { pager, .. } = fault(cast, [50, 50], &then)?;
    let home = cast.space(OURS)?;
    cast.engage(home, 60, &[Step::Ipc(Ipc::LISTEN), Step::Ipc(Ipc::call(pager.who(), HONEST))])?;
    cast.settle()?;
    cast.nudge(pager)?;
    Ok(pager.done() == TAKEN + 2)
}

fn answers_past_a_notification(cast: &mut Cast<'_>) -> Outcome<bool> {
    let then = [Step::Notify(Who::Myself), Step::Ipc(gives(cast))];
    let Fault { pager, .. } = fault(cast, [50, 50], &then)?;
    Ok(pager.done() == TAKEN + 1)
}

/// The pager lacks the page, and is not told.
fn answers_with_nothing(cast: &mut Cast<'_>) -> Outcome<bool> {
    let gives = Ipc::give(Who::Last, cast.page(3), cast.page(0));
    let Fault { pager, .. } = fault(cast, [50, 50], &[Step::Ipc(gives)])?;
    Ok(!pager.failed(TAKEN))
}

fn finds_a_pagers_secret(cast: &mut Cast<'_>) -> Outcome<bool> {
    let then = [Step::HideSecret, Step::Ipc(gives(cast))];
    let Fault { victim, .. } = fault_with(cast, [50, 50], &then, &[Step::FindSecret])?;
    Ok(victim.note(1).is_some_and(|note| note.word == 1))
}
