//! After an unmap has returned, no access on any node goes through the old mapping.
//!
//! The first thread takes a page away, again and again, then writes the number of the round into the fresh one and announces it. Everybody
//! else hammers the page: whoever knows of a round and finds an older number in the page, that is not a cleared one, has used
//! the old frame.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::syscall::exit;
use skerry_ipc::pager::RegionKind;
use skerry_rt::{sys, task};

use super::crowd::{Failure, PAGES, cpus, ensure, join, page, region, spawn};

const ROUNDS: u64 = 150;

/// The last round that was announced; the last of all ends the others.
static ROUND: AtomicU64 = AtomicU64::new(0);
/// Threads that run.
static READY: AtomicU64 = AtomicU64::new(0);

extern "C" fn hammer(me: u64) -> ! {
    let words = page(PAGES, 0);
    READY.fetch_add(1, Ordering::SeqCst);
    loop {
        let round = ROUND.load(Ordering::SeqCst);
        if round == u64::MAX {
            task::exit(exit::PASS)
        }
        let found = words[0].load(Ordering::SeqCst);
        if found != 0 && found < round {
            task::exit(exit::FAIL)
        }
        words[1 + me as usize].store(round, Ordering::SeqCst);
        // In deterministic emulation nobody else would have a turn.
        sys::wait();
    }
}

pub(super) fn run(rounds: u64) -> Result<(), Failure> {
    let rounds = if rounds > 1 { rounds } else { ROUNDS };
    region(PAGES, 1, RegionKind::Global)?;
    let mut threads = [0; 64];
    let count = cpus().min(threads.len() as u64);
    for (index, number) in (0..count).zip(&mut threads) {
        *number = spawn(index, hammer, index)?;
    }
    let words = page(PAGES, 0);
    let (mut done, mut dirty) = (0, 0);
    for round in 1..=rounds {
        let told = task::unmap(PAGES, 1)?;
        ensure(told.bad == 0 && told.done + told.gone == 1, "the page was not taken away")?;
        done += told.done;
        dirty += told.dirty;
        words[0].store(round, Ordering::SeqCst);
        ROUND.store(round, Ordering::SeqCst);
        // Let the others at it.
        if READY.load(Ordering::SeqCst) != count || round % 4 == 0 {
            skerry_rt::ipc::pause(2000);
        }
    }
    ROUND.store(u64::MAX, Ordering::SeqCst);
    threads[..count as usize].iter().try_for_each(|&number| join(number))?;
    ensure(done > rounds / 2 && dirty > rounds / 2, "nobody used the page")?;
    // In the end it is gone, and a new one is clear.
    task::unmap(PAGES, 1)?;
    ensure((0..64).all(|word| words[word].load(Ordering::SeqCst) == 0), "the last page is not clear")
}
