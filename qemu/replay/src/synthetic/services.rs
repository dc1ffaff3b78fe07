//! Programs that answer requests, and threads that hand pages to each other.

use super::{Program, Shape, part};
use crate::trace::Trace;

/// Requests for keys, nine of ten of them in a hot set of a sixteenth that drifts. No barriers: nobody waits for anybody.
fn kv(shape: &Shape, writes: u32) -> Trace {
    let pages = shape.all();
    let hot = (pages / 16).max(1);
    let mut program = Program::new(shape, pages);
    program.fill(shape, true);
    let requests = shape.rounds * shape.pages * 8;
    for request in 0..requests {
        let drift = u64::from(request) * u64::from(pages) * 2 / u64::from(requests);
        for thread in 0..shape.threads {
            let key = match program.random(10) {
                0 => program.random(pages),
                _ => (drift as u32 + program.random(hot)) % pages,
            };
            // The way through the index of the page, then the value.
            if program.random(100) < writes {
                program.update(thread, key, 4);
            } else {
                program.chase(thread, key, 6);
            }
        }
    }
    program.done()
}

pub(super) fn kv_1(shape: &Shape) -> Trace {
    kv(shape, 1)
}

pub(super) fn kv_10(shape: &Shape) -> Trace {
    kv(shape, 10)
}

pub(super) fn kv_50(shape: &Shape) -> Trace {
    kv(shape, 50)
}

/// Every thread serves a shard, and twice in the run shards change hands.
pub(super) fn kv_sharded(shape: &Shape) -> Trace {
    let mut program = Program::new(shape, shape.all());
    program.fill(shape, false);
    for round in 0..shape.rounds {
        let turn = round * 3 / shape.rounds;
        for thread in 0..shape.threads {
            let shard = (thread + turn * shape.per_node) % shape.threads;
            let of = part(shape.all(), shape.threads, shard);
            for _ in 0..shape.pages * 8 {
                let page = of.start + program.random(of.end - of.start);
                if program.random(4) == 0 {
                    program.update(thread, page, 4);
                } else {
                    program.chase(thread, page, 6);
                }
            }
        }
    }
    program.done()
}

/// Threads in pairs, on different nodes if there are several: one fills a ring of pages, the other one empties it.
pub(super) fn ring(shape: &Shape) -> Trace {
    let mut program = Program::new(shape, shape.all());
    let half = (shape.threads / 2).max(1);
    for _ in 0..shape.rounds {
        for pair in 0..half {
            program.sweep(pair, part(shape.all(), half, pair), true);
        }
        program.barrier();
        for pair in 0..half {
            for page in part(shape.all(), half, pair) {
                // The consumer looks at what it gets more than once.
                (0..3).for_each(|_| program.look((pair + half) % shape.threads, page, 32));
            }
        }
        program.barrier();
    }
    program.done()
}

/// A row of tiles: the last page of each is the first page of the next one, too, and both write to it, to different lines.
pub(super) fn wavefront(shape: &Shape) -> Trace {
    let mut program = Program::new(shape, shape.all() + 1);
    program.fill(shape, true);
    for _ in 0..shape.rounds {
        for thread in 0..shape.threads {
            let of = part(shape.all(), shape.threads, thread);
            for page in of.start..of.end + 1 {
                let shared = page == of.start || page == of.end;
                if shared {
                    (0..4).for_each(|_| program.update(thread, page, 16));
                } else {
                    program.sweep(thread, page..page + 1, true);
                }
            }
        }
        program.barrier();
    }
    program.done()
}
