//! Attacks by messages: to whom one may not send, who does not wait, what may not be said.

use skerry_abi::message::kernel_label;
use skerry_abi::{Tag, ThreadId};
use skerry_rt::sys;

use super::super::world::{Outcome, call};
use super::Attack;
use super::cast::{Cast, OURS, THEIRS};
use super::script::{HONEST, HOSTILE, Ipc, Step, Who};

pub(super) const ATTACKS: [(&str, Attack); 14] = [
    ("calls-beyond-the-slots", calls_beyond_the_slots),
    ("calls-a-stale-name", calls_a_stale_name),
    ("calls-who-waits-for-another", calls_who_waits_for_another),
    ("calls-who-is-suspended", calls_who_is_suspended),
    ("calls-past-the-urgent", calls_past_the_urgent),
    ("calls-who-runs", calls_who_runs),
    ("calls-a-stranger", calls_a_stranger),
    ("calls-as-the-kernel", calls_as_the_kernel),
    ("sends-items-as-words", sends_items_as_words),
    ("answers-without-a-call", answers_without_a_call),
    ("answers-a-mere-message", answers_a_mere_message),
    ("finds-a-callers-secret", finds_a_callers_secret),
    ("sends-too-many-words", sends_too_many_words),
    ("answers-as-the-kernel", answers_as_the_kernel),
];

fn label(tag: Tag) -> Option<u32> {
    Some(tag.label())
}

/// A victim of ours waits for anybody; somebody of this domain does this.
fn meets(cast: &mut Cast<'_>, domain: u32, hostile: impl FnOnce(ThreadId) -> Ipc) -> Outcome<bool> {
    let (home, lair) = (cast.space(OURS)?, cast.space(domain)?);
    let victim = cast.engage(home, 50, &[Step::Ipc(Ipc::WAIT)])?;
    cast.settle()?;
    cast.engage(lair, 50, &[Step::Ipc(hostile(victim.id))])?;
    cast.settle()?;
    Ok(victim.done() == 1)
}

/// Whatever lies behind the thread blocks is taken for one.
fn calls_beyond_the_slots(cast: &mut Cast<'_>) -> Outcome<bool> {
    let lair = cast.space(OURS)?;
    let nobody = Who::Thread(ThreadId::new(0, u16::MAX, 1));
    let attacker = cast.engage(lair, 50, &[Step::Ipc(Ipc::call(nobody, HOSTILE))])?;
    cast.settle()?;
    Ok(!attacker.failed(0))
}

fn calls_a_stale_name(cast: &mut Cast<'_>) -> Outcome<bool> {
    meets(cast, OURS, |victim| {
        let stale = ThreadId::new(victim.cluster(), victim.slot(), victim.generation() + 1);
        Ipc::call(Who::Thread(stale), HOSTILE)
    })
}

/// The victim gets it for the answer of the one that it called, in another space than the attacker's.
fn calls_who_waits_for_another(cast: &mut Cast<'_>) -> Outcome<bool> {
    let (home, lair) = (cast.space(OURS)?, cast.space(OURS)?);
    let server = cast.engage(home, 50, &[Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let victim = cast.engage(home, 50, &[Step::Ipc(Ipc::call(server.who(), HONEST))])?;
    cast.settle()?;
    cast.engage(lair, 50, &[Step::Ipc(Ipc::call(victim.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(victim.heard(0) == label(HOSTILE))
}

fn calls_who_is_suspended(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let victim = cast.engage(home, 50, &[Step::Ipc(Ipc::WAIT)])?;
    cast.settle()?;
    call("suspending", sys::thread_suspend(victim.id))?;
    cast.engage(home, 50, &[Step::Ipc(Ipc::call(victim.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(victim.done() != 0)
}

/// Somebody more urgent is ready, and has to wait.
fn calls_past_the_urgent(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let idle = cast.engage(home, 10, &[Step::Ipc(Ipc::WAIT)])?;
    let urgent = cast.engage(home, 60, &[Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    cast.engage(home, 70, &[Step::Notify(urgent.who()), Step::Ipc(Ipc::call(idle.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(idle.overtook(urgent))
}

/// The victim has a message already, and has not looked at it.
fn calls_who_runs(cast: &mut Cast<'_>) -> Outcome<bool> {
    let home = cast.space(OURS)?;
    let victim = cast.engage(home, 10, &[Step::Ipc(Ipc::WAIT)])?;
    cast.settle()?;
    let first = Ipc { from: Who::Nobody, ..Ipc::call(victim.who(), HONEST) };
    cast.engage(home, 50, &[Step::Ipc(first), Step::Ipc(Ipc::call(victim.who(), HOSTILE))])?;
    cast.settle()?;
    Ok(victim.heard(0) == label(HOSTILE))
}

fn calls_a_stranger(cast: &mut Cast<'_>) -> Outcome<bool> {
    meets(cast, THEIRS, |victim| Ipc::call(Who::Thread(victim), HOSTILE))
}

fn calls_as_the_kernel(cast: &mut Cast<'_>) -> Outcome<bool> {
    let forged = Tag::new(kernel_label::PAGE_FAULT, 3, 0);
    meets(cast, OURS, |victim| Ipc::call(Who::Thread(victim), forged))
}

fn answers_as_the_kernel(cast: &mut Cast<'_>) -> Outcome<bool> {
    let forged = Tag::new(kernel_label::EXCEPTION, 3, 0);
    meets(cast, OURS, |victim| Ipc::reply(Who::Thread(victim), forged))
}

/// The victim, which takes no items, believes that it has got one.
fn sends_items_as_words(cast: &mut Cast<'_>) -> Outcome<bool> {
    meets(cast, OURS, |victim| Ipc::call(Who::Thread(victim), Tag::new(666, 20, 2)))
}

/// More than there is room for in the part of a UTCB that is for words.
fn sends_too_many_words(cast: &mut Cast<'_>) -> Outcome<bool> {
    meets(cast, OURS, |victim| Ipc::call(Who::Thread(victim), Tag::new(666, 60, 32)))
}

/// Nobody has called the stranger.
fn answers_without_a_call(cast: &mut Cast<'_>) -> Outcome<bool> {
    meets(cast, THEIRS, |victim| Ipc::reply(Who::Thread(victim), HOSTILE))
}

/// The victim tells its pager something, and does not ask: that gives no right to answer.
fn answers_a_mere_message(cast: &mut Cast<'_>) -> Outcome<bool> {
    let (home, lair) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let pager = cast.engage(lair, 50, &[Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::reply(Who::Last, HOSTILE))])?;
    cast.settle()?;
    let tells = Ipc { send: skerry_abi::Timeout::NEVER, ..Ipc::reply(pager.who(), HONEST) };
    let victim = cast.engage_under(home, 50, pager.id, &[Step::Ipc(tells)])?;
    cast.settle()?;
    Ok(victim.heard(0) == label(HOSTILE))
}

fn finds_a_callers_secret(cast: &mut Cast<'_>) -> Outcome<bool> {
    let (home, lair) = (cast.space(OURS)?, cast.space(OURS)?);
    let attacker = cast.engage(lair, 50, &[Step::Ipc(Ipc::WAIT), Step::FindSecret])?;
    cast.settle()?;
    cast.engage(home, 50, &[Step::HideSecret, Step::Ipc(Ipc::call(attacker.who(), HONEST))])?;
    cast.settle()?;
    Ok(attacker.note(1).is_some_and(|note| note.word == 1))
}
