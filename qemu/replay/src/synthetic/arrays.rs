//! Arrays: who fills them, and who uses them.

use skerry_cost_model::latency::Overlap;

use super::{Program, Shape, part};
use crate::trace::Trace;

/// Each thread goes through its part, reading and writing in turn.
fn parts(shape: &Shape, serially: bool) -> Trace {
    let mut program = Program::new(shape, shape.all());
    program.fill(shape, serially);
    for round in 0..shape.rounds {
        for thread in 0..shape.threads {
            program.sweep(thread, part(shape.all(), shape.threads, thread), round % 2 == 1);
        }
        program.barrier();
    }
    program.done()
}

pub(super) fn serial_init(shape: &Shape) -> Trace {
    parts(shape, true)
}

pub(super) fn private(shape: &Shape) -> Trace {
    parts(shape, false)
}

/// Updates of random lines of one table.
fn gups(shape: &Shape, serially: bool) -> Trace {
    let mut program = Program::new(shape, shape.all());
    program.fill(shape, serially);
    for _ in 0..shape.rounds {
        for thread in 0..shape.threads {
            for _ in 0..shape.pages * 32 {
                let page = program.random(shape.all());
                program.update(thread, page, 1);
            }
        }
        program.barrier();
    }
    program.done()
}

pub(super) fn gups_serial(shape: &Shape) -> Trace {
    gups(shape, true)
}

pub(super) fn gups_parallel(shape: &Shape) -> Trace {
    gups(shape, false)
}

/// a = b + c, line by line through all three.
fn stream(shape: &Shape, serially: bool) -> Trace {
    let length = shape.all().div_ceil(3);
    let mut program = Program::new(shape, 3 * length);
    if serially {
        program.fill(shape, true);
    } else {
        for thread in 0..shape.threads {
            for array in 0..3 {
                let of = part(length, shape.threads, thread);
                program.sweep(thread, array * length + of.start..array * length + of.end, true);
            }
        }
        program.barrier();
    }
    for _ in 0..shape.rounds {
        for thread in 0..shape.threads {
            for page in part(length, shape.threads, thread) {
                for _ in 0..8 {
                    for (array, write) in [(1, false), (2, false), (0, true)] {
                        program.miss(thread, array * length + page, (8, 16), write, Overlap::Stream);
                    }
                }
            }
        }
        program.barrier();
    }
    program.done()
}

pub(super) fn stream_serial(shape: &Shape) -> Trace {
    stream(shape, true)
}

pub(super) fn stream_parallel(shape: &Shape) -> Trace {
    stream(shape, false)
}
