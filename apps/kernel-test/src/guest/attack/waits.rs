//! Attacks on whoever answers and waits: what it must not miss, and when its wait must end.

use skerry_abi::{ThreadId, Timeout};
use skerry_rt::{ipc, sys};

use super::super::world::Outcome;
use super::Attack;
use super::cast::{Actor, Cast, OURS};
use super::script::{HONEST, HOSTILE, Ipc, Step, Who};

pub(super) const ATTACKS: [(&str, Attack); 6] = [
    ("keeps-a-caller-past-its-time", keeps_a_caller_past_its_time),
    ("gives-through-no-window", gives_through_no_window),
    ("lets-await-a-dead-thread", lets_await_a_dead_thread),
    ("puts-a-sender-to-sleep", puts_a_sender_to_sleep),
    ("passes-over-who-waits", passes_over_who_waits),
    ("drops-a-notification", drops_a_notification),
];

/// Long enough for everybody.
pub(super) const WHILE: u64 = 1_000_000;

/// Waits for less than `WHILE`.
pub(super) fn soon() -> Timeout {
    Timeout(sys::counter_time() + WHILE / 2)
}

/// Until all deadlines that were made by then are over, and all have run who could.
pub(super) fn later(cast: &mut Cast<'_>) -> Outcome {
    ipc::pause(WHILE);
    cast.settle()
}

/// A fpage that is none: larger than a space.
pub(super) const NO_WINDOW: u64 = 40 << 4 | 7;

/// The server takes the call and never answers.
fn keeps_a_caller_past_its_time(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let server = cast.engage(home, 50, &[Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let call = Ipc { receive: soon(), ..Ipc::call(server.who(), HONEST) };
    let victim = cast.engage(home, 50, &[Step::Ipc(call)])?;
    cast.settle()?;
    later(cast)?;
    Ok(victim.done() == 0)
}

/// A malformed window is none, so that an item is refused.
fn gives_through_no_window(cast: &mut Cast<'_>) -> Outcome<bool> {
    let (home, lair) = (cast.space(OURS)?, cast.space(OURS)?);
    let page = cast.page(0);
    let gives = [Step::Touch(page), Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::give(Who::Last, page, page))];
    let server = cast.engage(lair, 50, &gives)?;
    cast.settle()?;
    let call = Ipc { window: NO_WINDOW, ..Ipc::call(server.who(), HONEST) };
    let victim = cast.engage(home, 50, &[Step::Ipc(call)])?;
    cast.settle()?;
    Ok(victim.done() != 0)
}

/// Answers a waiting thread, and receives from `from`. Returns who does that.
fn answers_and_awaits(cast: &mut Cast<'_>, from: Who) -> Outcome<Actor> {
    let home = cast.space(OURS)?;
    let client = cast.engage(home, 50, &[Step::Ipc(Ipc::WAIT)])?;
    cast.settle()?;
    let victim = cast.engage(home, 50, &[Step::Ipc(Ipc { from, ..Ipc::reply(client.who(), HONEST) })])?;
    cast.settle()?;
    Ok(victim)
}

/// Nobody ever tells it that the other one does not exist.
fn lets_await_a_dead_thread(cast: &mut Cast<'_>) -> Outcome<bool> {
    let victim = answers_and_awaits(cast, Who::Thread(ThreadId::new(0, 50, 7)))?;
    Ok(victim.done() == 0)
}

/// It did not want to receive at all.
fn puts_a_sender_to_sleep(cast: &mut Cast<'_>) -> Outcome<bool> {
    let victim = answers_and_awaits(cast, Who::Nobody)?;
    Ok(victim.done() == 0)
}

/// Before the server answers, somebody else calls it.
fn passes_over_who_waits(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let victim = Who::Actor(1);
    let serves = [Step::Ipc(Ipc::WAIT), Step::Notify(victim), Step::Ipc(Ipc::reply(Who::Last, HONEST))];
    let server = cast.engage(home, 40, &serves)?;
    cast.engage(home, 60, &[Step::Ipc(Ipc::LISTEN), Step::Ipc(Ipc::call(server.who(), HONEST))])?;
    cast.settle()?;
    cast.engage(home, 50, &[Step::Ipc(Ipc::call(server.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(server.done() == 2)
}

/// Before the server answers, somebody notifies it.
fn drops_a_notification(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let serves = [Step::Ipc(Ipc::WAIT), Step::Notify(Who::Myself), Step::Ipc(Ipc::reply(Who::Last, HONEST))];
    let server = cast.engage(home, 50, &serves)?;
    cast.settle()?;
    cast.engage(home, 50, &[Step::Ipc(Ipc::call(server.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(server.done() == 2)
}
