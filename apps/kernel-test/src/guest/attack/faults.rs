//! Attacks by page faults: who hears of them.

use skerry_abi::layout::USER_END;
use skerry_rt::sys;

use super::super::world::{Outcome, call, ensure};
use super::Attack;
use super::cast::{Actor, Cast, OURS, THEIRS};
use super::script::{HONEST, Ipc, Step};

pub(super) const ATTACKS: [(&str, Attack); 7] = [
    ("faults-without-a-translation-fault", faults_without_a_translation_fault),
    ("faults-where-nothing-can-be", faults_where_nothing_can_be),
    ("faults-to-a-successor", faults_to_a_successor),
    ("faults-into-a-call", faults_into_a_call),
    ("faults-to-who-is-suspended", faults_to_who_is_suspended),
    ("faults-past-the-urgent", faults_past_the_urgent),
    ("finds-a-clients-secret", finds_a_clients_secret),
];

/// A pager waits for anybody; a client of it does this.
fn client(cast: &mut Cast<'_>, script: &[Step]) -> Outcome<Actor> {
    let (office, home) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let pager = cast.engage(office, 50, &[Step::Ipc(Ipc::WAIT), Step::FindSecret])?;
    cast.settle()?;
    cast.engage_under(home, 50, pager.id, script)?;
    cast.settle()?;
    Ok(pager)
}

/// An exception of its client is no business of a pager's.
fn faults_without_a_translation_fault(cast: &mut Cast<'_>) -> Outcome<bool> {
    let odd = cast.world.frames.base + 1;
    let pager = client(cast, &[Step::LoadExclusive(odd)])?;
    Ok(pager.done() != 0)
}

fn faults_where_nothing_can_be(cast: &mut Cast<'_>) -> Outcome<bool> {
    let pager = client(cast, &[Step::Touch(USER_END)])?;
    Ok(pager.done() != 0)
}

/// A stranger has got the slot of the pager that is gone.
fn faults_to_a_successor(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let (office, lair, home) = (cast.space(OURS)?, cast.space(THEIRS)?, cast.space(OURS)?);
    let pager = cast.engage(office, 50, &[Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let victim = cast.engage_under(home, 30, pager.id, &[Step::Ipc(Ipc::LISTEN), Step::Touch(page)])?;
    cast.settle()?;
    call("ending the pager", sys::thread_delete(pager.id))?;
    let successor = cast.engage(lair, 50, &[Step::Ipc(Ipc::WAIT)])?;
    ensure!(successor.id.slot() == pager.id.slot(), "{:?} does not succeed {:?}", successor.id, pager.id);
    cast.settle()?;
    cast.nudge(victim)?;
    Ok(successor.done() != 0)
}

/// The pager waits for somebody's answer, and gets a fault for one.
fn faults_into_a_call(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let (office, home) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let server = cast.engage(office, 50, &[Step::Ipc(Ipc::WAIT), Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    let pager = cast.engage(office, 50, &[Step::Ipc(Ipc::call(server.who(), HONEST))])?;
    cast.settle()?;
    cast.engage_under(home, 50, pager.id, &[Step::Touch(page)])?;
    cast.settle()?;
    Ok(pager.done() != 0)
}

fn faults_to_who_is_suspended(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let (office, home) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let pager = cast.engage(office, 50, &[Step::Ipc(Ipc::WAIT)])?;
    cast.settle()?;
    call("suspending", sys::thread_suspend(pager.id))?;
    cast.engage_under(home, 50, pager.id, &[Step::Touch(page)])?;
    cast.settle()?;
    Ok(pager.done() != 0)
}

fn faults_past_the_urgent(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let (office, home) = (cast.space(OURS)?, cast.space(THEIRS)?);
    let pager = cast.engage(office, 10, &[Step::Ipc(Ipc::WAIT)])?;
    let urgent = cast.engage(home, 60, &[Step::Ipc(Ipc::LISTEN)])?;
    cast.settle()?;
    cast.engage_under(home, 70, pager.id, &[Step::Notify(urgent.who()), Step::Touch(page)])?;
    cast.settle()?;
    Ok(pager.overtook(urgent))
}

fn finds_a_clients_secret(cast: &mut Cast<'_>) -> Outcome<bool> {
    let page = cast.page(0);
    let pager = client(cast, &[Step::HideSecret, Step::Touch(page)])?;
    Ok(pager.note(1).is_some_and(|note| note.word == 1))
}
