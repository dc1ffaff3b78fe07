//! Graphs: a few pages that everybody reads, and the rest that mostly its owner uses.

use super::{Program, Shape, part};
use crate::trace::Trace;

/// Ranks of hubs are read from everywhere all the time, and written by their owners at the end of an iteration of many reads.
pub(super) fn pagerank(shape: &Shape) -> Trace {
    let hubs = (shape.all() / 8).max(1);
    let edges = shape.all();
    let mut program = Program::new(shape, hubs + edges);
    program.fill(shape, false);
    for round in 0..shape.rounds {
        for thread in 0..shape.threads {
            for page in part(edges, shape.threads, thread) {
                program.sweep(thread, hubs + page..hubs + page + 1, false);
                for _ in 0..6 {
                    let hub = program.random(hubs);
                    program.chase(thread, hub, 8);
                }
            }
        }
        program.barrier();
        if round % 8 == 7 {
            for thread in 0..shape.threads {
                program.sweep(thread, part(hubs, shape.threads, thread), true);
            }
            program.barrier();
        }
    }
    program.done()
}

/// Hubs that are only read, and frontiers that the threads of the next level write.
pub(super) fn bfs(shape: &Shape) -> Trace {
    let hubs = (shape.all() / 16).max(1);
    let mut program = Program::new(shape, hubs + shape.all());
    program.sweep(0, 0..hubs, true);
    for thread in 0..shape.threads {
        let of = part(shape.all(), shape.threads, thread);
        program.sweep(thread, hubs + of.start..hubs + of.end, true);
    }
    program.barrier();
    for round in 0..shape.rounds {
        for thread in 0..shape.threads {
            // The frontier is where the last one's owner has written.
            let of = part(shape.all(), shape.threads, (thread + round / 8) % shape.threads);
            for page in of {
                for _ in 0..8 {
                    let hub = program.random(hubs);
                    program.chase(thread, hub, 4);
                }
                program.look(thread, hubs + page, 16);
                program.update(thread, hubs + page, 4);
            }
        }
        program.barrier();
    }
    program.done()
}

/// First half: everybody reads everything. Second half: everybody writes everything.
pub(super) fn readers_then_writers(shape: &Shape) -> Trace {
    let pages = shape.all() / 2 + 1;
    let mut program = Program::new(shape, pages);
    program.fill(shape, true);
    for round in 0..shape.rounds {
        let writes = round >= shape.rounds / 2;
        for thread in 0..shape.threads {
            for _ in 0..pages {
                let page = program.random(pages);
                if writes { program.update(thread, page, 4) } else { program.chase(thread, page, 16) }
            }
        }
        program.barrier();
    }
    program.done()
}
