//! What moves: threads, and who uses a page.

use super::{Program, Shape, part};
use crate::trace::{Item, Trace};

/// After a third and after two thirds of the run, all threads go to the next node.
pub(super) fn moved_threads(shape: &Shape) -> Trace {
    let mut program = Program::new(shape, shape.all());
    program.fill(shape, false);
    for round in 0..shape.rounds {
        for thread in 0..shape.threads {
            let turn = round * 3 / shape.rounds;
            if round > 0 && turn != (round - 1) * 3 / shape.rounds {
                let cpu = (thread + turn * shape.per_node) % shape.threads;
                program.thread(thread).push(Item::Move(cpu));
            }
            program.sweep(thread, part(shape.all(), shape.threads, thread), true);
        }
        program.barrier();
    }
    program.done()
}

/// Lines that a page has to be used for, remotely, until moving it would have been as cheap: with the default costs.
const BREAK_EVEN: u32 = 48;

/// Each thread uses a part for a while, then the next one's: as long as `quarters`/4 times what moving the pages takes.
fn rotating(shape: &Shape, quarters: u32) -> Trace {
    let pages = shape.all() / 4 + shape.threads;
    let mut program = Program::new(shape, pages);
    program.fill(shape, false);
    let lines = (BREAK_EVEN * quarters / 4).max(1);
    let turns = (shape.rounds * 256 / lines).max(2);
    for turn in 0..turns {
        for thread in 0..shape.threads {
            let of = part(pages, shape.threads, (thread + turn * shape.per_node) % shape.threads);
            // So that nothing of it is one long visit: page after page, again and again.
            for _ in 0..lines.div_ceil(16) {
                of.clone().for_each(|page| program.update(thread, page, lines.min(16) as u8));
            }
        }
        program.barrier();
    }
    program.done()
}

pub(super) fn rotating_16(shape: &Shape) -> Trace {
    rotating(shape, 64)
}

pub(super) fn rotating_4(shape: &Shape) -> Trace {
    rotating(shape, 16)
}

pub(super) fn rotating_1(shape: &Shape) -> Trace {
    rotating(shape, 4)
}

pub(super) fn rotating_quarter(shape: &Shape) -> Trace {
    rotating(shape, 1)
}

/// Two halves of the threads take turns at the same pages, each for as long as `ticks` ticks of the policies: whoever is seen at work has
/// just finished.
fn alternating(shape: &Shape, ticks: u32) -> Trace {
    let pages = (shape.all() / 8).max(shape.threads);
    let mut program = Program::new(shape, pages);
    program.fill(shape, false);
    let half = (shape.threads / 2).max(1);
    // A miss takes some 250 cycles with what is in between.
    let misses = (shape.period * ticks / 250).max(1);
    let turns = (shape.rounds * 4).div_ceil(ticks).max(2);
    for turn in 0..turns {
        let first = if turn % 2 == 0 { 0 } else { half };
        for thread in first..first + half {
            let of = part(pages, half, thread % half);
            for miss in 0..misses / 8 {
                program.update(thread, of.start + miss % (of.end - of.start).max(1), 8);
            }
        }
        program.barrier();
    }
    program.done()
}

pub(super) fn alternating_1(shape: &Shape) -> Trace {
    alternating(shape, 1)
}

pub(super) fn alternating_8(shape: &Shape) -> Trace {
    alternating(shape, 8)
}
