//! Attacks by guarded answers to page faults: a guard that does not hold, or that no program could read.

use skerry_abi::layout::PHYSMAP;
use skerry_abi::{Item, Tag};

use super::super::world::Outcome;
use super::Attack;
use super::answers::fault;
use super::cast::Cast;
use super::script::{Ipc, Step, Who};

pub(super) const ATTACKS: [(&str, Attack); 7] = [
    ("guards-in-vain", guards_in_vain),
    ("guards-by-half-a-word", guards_by_half_a_word),
    ("guards-by-nothing", guards_by_nothing),
    ("guards-by-the-kernel", guards_by_the_kernel),
    ("guards-by-a-device", guards_by_a_device),
    ("guards-with-words", guards_with_words),
    ("guards-and-gives-more", guards_and_gives_more),
];

/// The first two registers that say what the serial port is, in one word.
const PORT_IDENTITY: u64 = 0x10_0000_0011;

/// The page that the victim wants, if the word at `address` has a value.
fn guards(cast: &Cast<'_>, address: u64, expected: u64) -> Ipc {
    let page = cast.page(0);
    let plain = Ipc::give(Who::Last, page, page);
    let [fpage, dest, ..] = plain.words;
    Ipc { tag: Tag::new(0, 0, 4), words: [fpage, dest | Item::GUARDED, address, expected], ..plain }
}

/// A pager answers like this; whether its client goes on.
fn answers(cast: &mut Cast<'_>, step: impl FnOnce(&Cast<'_>) -> Ipc) -> Outcome<bool> {
    let answer = step(cast);
    let fault = fault(cast, [50, 50], &[Step::Ipc(answer)])?;
    Ok(fault.victim.done() != 0)
}

/// The page has got 1 as its first word.
fn guards_in_vain(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| guards(cast, cast.page(0), 2))
}

/// What is there is as expected.
fn guards_by_half_a_word(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| guards(cast, cast.page(0) + 4, 0))
}

fn guards_by_nothing(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| guards(cast, cast.page(5), 0))
}

fn guards_by_the_kernel(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| guards(cast, PHYSMAP + cast.page(0), 1))
}

/// To read a device's register can change it.
fn guards_by_a_device(cast: &mut Cast<'_>) -> Outcome<bool> {
    let register = cast.world.boot.uart.base + 0xfe0;
    let answer = guards(cast, register, PORT_IDENTITY);
    let fault = fault(cast, [50, 50], &[Step::Touch(register), Step::Ipc(answer)])?;
    Ok(fault.victim.done() != 0)
}

/// Words that its pager got from anywhere become a guarded item.
fn guards_with_words(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| Ipc { tag: Tag::new(0, 4, 0), ..guards(cast, cast.page(0), 1) })
}

/// A second item, which is none, is left out.
fn guards_and_gives_more(cast: &mut Cast<'_>) -> Outcome<bool> {
    answers(cast, |cast| Ipc { tag: Tag::new(0, 0, 6), ..guards(cast, cast.page(0), 1) })
}
