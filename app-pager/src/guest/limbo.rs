//! Giving back what a destroyed space had: its book, its tables, and the frames that only they know of.
//!
//! Threads of the pager may still look at the tables, so a [grace](super::grace) period comes first. Until then the books form a list; its
//! links lie in the books themselves, so there is always room.

use core::sync::atomic::Ordering::Relaxed;

use app_pager::board::MAX_REGIONS;
use app_pager::page::local_bytes;
use app_pager::release::{own_frame, walk};
use skerry_abi::fpage::PAGE_SIZE;

use super::memory::Physical;
use super::state::{Context, State, board_at, book_at};
use super::{grace, life};

// Words of a book's links.
const NEXT: usize = 0;
const TASK: usize = 1;
const BOARD: usize = 2;
const TICKET: usize = 3;
const CURSOR: usize = 4;

fn link(book: u64, index: usize) -> u64 {
    book_at(book).map_or(0, |book| book.links()[index].load(Relaxed))
}

fn set_link(book: u64, index: usize, value: u64) {
    if let Ok(book) = book_at(book) {
        book.links()[index].store(value, Relaxed);
    }
}

fn push(state: &mut State, book: u64) {
    set_link(book, NEXT, state.limbo);
    state.limbo = book;
}

/// A book that nobody finds any more; its space is destroyed.
pub(super) fn add(context: &Context, task: u32, board: u64, book: u64) {
    for (index, value) in [(TASK, task.into()), (BOARD, board), (TICKET, grace::retire(context)), (CURSOR, 0)]
    {
        set_link(book, index, value);
    }
    {
        let mut state = context.state();
        if let Some(task) = state.record(task) {
            task.limbo += 1;
        }
        push(&mut state, book);
    }
    life::more_work(context);
}

/// Takes a book whose time has come out of the list.
fn pop(context: &Context) -> Option<u64> {
    let mut state = context.state();
    let (mut before, mut book) = (0, state.limbo);
    while book != 0 {
        let next = link(book, NEXT);
        if grace::has_passed(context, link(book, TICKET)) {
            match before {
                0 => state.limbo = next,
                before => set_link(before, NEXT, next),
            }
            return Some(book);
        }
        (before, book) = (book, next);
    }
    None
}

/// Gives back some of what a destroyed space had. Returns whether there was something that could be given back.
pub(super) fn step(context: &Context) -> bool {
    let Some(address) = pop(context) else { return false };
    let (Ok(book), Ok(board)) = (book_at(address), board_at(link(address, BOARD))) else { return false };
    let cursor = walk(
        &board,
        link(address, CURSOR),
        |index, _| book.table(index).map(|table| (table, 1)),
        |table, count| Physical.words_at(table, count),
        own_frame,
        |_, _, frame| {
            context.give_back(frame, PAGE_SIZE);
            board.roll().refund(1);
        },
    );
    if cursor != 0 {
        set_link(address, CURSOR, cursor);
        push(&mut context.state(), address);
        return true;
    }
    for index in 0..MAX_REGIONS {
        if let (Some(table), Some(region)) = (book.table(index), board.region(index)) {
            context.give_back(table, local_bytes(region.pages()));
            board.roll().refund(local_bytes(region.pages()).div_ceil(PAGE_SIZE));
        }
    }
    let task = link(address, TASK) as u32;
    // Those of faults that were still in work.
    super::task::keep_stats(context, link(address, BOARD), address);
    context.give_back(address, context.book_bytes());
    board.roll().refund(context.book_bytes() / PAGE_SIZE);
    // From now on the board may be given back.
    if let Some(task) = context.state().record(task) {
        task.limbo -= 1;
    }
    true
}
