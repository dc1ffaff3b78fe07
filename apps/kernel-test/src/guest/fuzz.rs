//! Random system calls on all clusters at once: `fuzz SEED CALLS`.
//!
//! Every cluster has a *boss* (its root thread: pager, supervisor, judge), hostile threads in spaces of two domains, a controller that
//! makes random privileged calls about objects of its own and keeps *children* (more hostile threads), and a witness task that
//! nobody may touch. The clusters share a board in memory, so hostile threads know each other's names, old and new. What is
//! looked for: a kernel that panics or hangs, a call that succeeds and should not, a register that holds what it should not,
//! a witness that is disturbed, and anything that is not given back when all of them are gone.
//!
//! In deterministic emulation the seed decides everything: a failure names it.

mod areas;
mod board;
mod boss;
mod capacity;
mod controller;
mod hostile;
mod pager;
mod stubs;
mod touch;
mod witness;
mod words;

use core::str::FromStr;

use skerry_abi::boot::BootInfo;
use skerry_abi::info::Counter;
use skerry_rt::{info, ipc, utcb};

use super::world::{self, Failed, Outcome, emit, ensure, failed};
use areas::Areas;
use board::Board;
use boss::Boss;
use capacity::Capacity;

/// The domains: of hostile threads, of controllers, of witnesses.
mod domains {
    pub(super) const HOSTILE: [u32; 2] = [100, 101];
    pub(super) const CONTROLLER: u32 = 102;
    pub(super) const WITNESS: u32 = 103;
}

/// Counter steps per millisecond of virtual time.
fn millisecond() -> u64 {
    info::header().counter_frequency / 1000
}

/// Numbers behind the name of the case.
fn argument(boot: &BootInfo, index: usize) -> Outcome<u64> {
    let word = boot.app_arguments().split_ascii_whitespace().nth(index).unwrap_or("");
    u64::from_str(word).or_else(|_| failed(format_args!("fuzz SEED CALLS: {word:?} is no number")))
}

/// What the root thread of every cluster does. Returns in cluster 0 only.
pub(crate) fn run(boot: &'static BootInfo, cluster: u16) -> Outcome {
    let areas = Areas::new(boot)?;
    let board = areas.board();
    let result = one_cluster(boot, &areas, cluster);
    if cluster == 0 {
        return result.or_else(|Failed| {
            let why = world::why();
            let why = core::str::from_utf8(why.as_bytes()).unwrap_or("");
            failed(format_args!("{}: {why}", boot.app_arguments()))
        });
    }
    if let Err(Failed) = result {
        board.trouble.tell(cluster, &world::why());
    }
    ipc::sleep_forever()
}

fn one_cluster(boot: &'static BootInfo, areas: &Areas, cluster: u16) -> Outcome {
    let (seed, calls) = (argument(boot, 1)?, argument(boot, 2)?);
    let board = areas.board();
    let clusters = boot.clusters().len() as u64;
    board.cluster(cluster).boss.set(utcb::my_id().0);
    barrier(board, clusters, &board.ready, None)?;

    touch::everything(areas, cluster)?;
    let before = Capacity::measure()?;
    let mut boss = Boss::new(boot, areas, cluster, seed)?;
    boss.fuzz(calls.div_ceil(clusters))?;
    if cluster == 0 {
        // The others stop when they see that everybody has done enough.
        while !(0..clusters).all(|c| board.cluster(c as u16).enough.get() != 0) {
            boss.serve_for(millisecond())?;
        }
        board.stop.set(1);
    }
    while board.stop.get() == 0 {
        boss.serve_for(millisecond())?;
    }
    boss.wind_up()?;
    // Threads that are gone may still have something to do with other clusters, until these have ended theirs.
    barrier(board, clusters, &board.gone, Some(&mut boss))?;
    // Threads whose last message another cluster has keep their slots until it lets go of it: a matter of a moment.
    for _ in 0..100 {
        if before.is_free_again() {
            break;
        }
        ipc::pause(millisecond());
    }
    let after = Capacity::measure()?;
    ensure!(after == before, "{before:?} before, {after:?} after");
    barrier(board, clusters, &board.same, None)?;
    if cluster == 0 {
        let sum = |of: fn(&board::Cluster) -> u64| (0..clusters).map(|c| of(board.cluster(c as u16))).sum();
        emit("fuzz", "calls", sum(|c| c.calls.get()), "calls");
        emit("fuzz", "witness-rounds", sum(|c| c.rounds.get()), "rounds");
        emit("fuzz", "threads-replaced", sum(|c| c.replaced.get()), "threads");
        emit("fuzz", "spaces-replaced", sum(|c| c.respaced.get()), "spaces");
        emit("fuzz", "controls-done", sum(|c| c.controls.get()), "calls");
        // Of this cluster alone; the trial insists that none is zero.
        for counter in [
            Counter::Ipcs,
            Counter::RemoteIpcs,
            Counter::Maps,
            Counter::Unmaps,
            Counter::Faults,
            Counter::Exceptions,
            Counter::Notifications,
            Counter::Migrations,
            Counter::Preemptions,
        ] {
            emit("fuzz", counter.name(), info::total(counter), "events");
        }
    }
    Ok(())
}

/// Waits for all clusters; a boss goes on serving meanwhile.
fn barrier(board: &Board, clusters: u64, word: &board::Word, mut boss: Option<&mut Boss>) -> Outcome {
    word.add(1);
    let mut patience = 60_000;
    while word.get() < clusters {
        board.trouble.check()?;
        patience -= 1;
        ensure!(patience != 0, "a cluster does not come to the barrier");
        match boss.as_deref_mut() {
            Some(boss) => boss.serve_for(millisecond())?,
            None => ipc::pause(millisecond()),
        }
    }
    Ok(())
}
