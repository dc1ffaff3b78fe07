//! Kernels of scientific programs.

use super::{Program, Shape, part};
use crate::trace::Trace;

/// Sparse matrix times vector: rows are gone through by their thread, the vector is read everywhere and written by its owners.
pub(super) fn cg_serial(shape: &Shape) -> Trace {
    let vector = (shape.all() / 16).max(shape.threads);
    let matrix = shape.all() - vector.min(shape.all() - 1);
    let mut program = Program::new(shape, matrix + vector);
    program.fill(shape, true);
    for _ in 0..shape.rounds {
        for thread in 0..shape.threads {
            for page in part(matrix, shape.threads, thread) {
                program.sweep(thread, page..page + 1, false);
                let of = program.random(vector);
                program.look(thread, matrix + of, 8);
            }
        }
        program.barrier();
        for thread in 0..shape.threads {
            let of = part(vector, shape.threads, thread);
            program.sweep(thread, matrix + of.start..matrix + of.end, true);
        }
        program.barrier();
    }
    program.done()
}

/// A matrix of blocks, each of whole pages: a thread works on a row of blocks, then on a column.
pub(super) fn ft_transpose(shape: &Shape) -> Trace {
    let side = shape.threads;
    let block = (shape.all() / (side * side)).max(1);
    let mut program = Program::new(shape, side * side * block);
    let at = |row: u32, column: u32| {
        let first = (row * side + column) * block;
        first..first + block
    };
    for thread in 0..side {
        (0..side).for_each(|other| program.sweep(thread, at(thread, other), true));
    }
    program.barrier();
    for round in 0..shape.rounds {
        for thread in 0..side {
            for other in 0..side {
                let of = if round % 2 == 0 { at(other, thread) } else { at(thread, other) };
                // Several passes of the butterfly.
                (0..3).for_each(|_| program.sweep(thread, of.clone(), true));
            }
        }
        program.barrier();
    }
    program.done()
}

/// Every thread writes some of its keys into every bucket; then the owner of a bucket sorts it.
pub(super) fn is_all_to_all(shape: &Shape) -> Trace {
    let mut program = Program::new(shape, shape.all() * 2);
    for thread in 0..shape.threads {
        program.sweep(thread, part(shape.all(), shape.threads, thread), true);
    }
    // The program's author let one thread clear the buckets.
    program.sweep(0, shape.all()..2 * shape.all(), true);
    program.barrier();
    for _ in 0..shape.rounds {
        for thread in 0..shape.threads {
            for page in part(shape.all(), shape.threads, thread) {
                program.sweep(thread, page..page + 1, false);
                for _ in 0..4 {
                    let bucket = program.random(shape.all());
                    program.update(thread, shape.all() + bucket, 2);
                }
            }
        }
        program.barrier();
        for thread in 0..shape.threads {
            let of = part(shape.all(), shape.threads, thread);
            for page in shape.all() + of.start..shape.all() + of.end {
                (0..4).for_each(|_| program.chase(thread, page, 16));
            }
        }
        program.barrier();
    }
    program.done()
}
