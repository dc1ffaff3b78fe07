//! A CPU with nothing to do sleeps: no ticks, no interrupts. One that runs takes ticks.

use skerry_abi::info::Counter;
use skerry_rt::{info, ipc, sys};

use super::world::{Outcome, World, ensure};

/// Interrupts and ticks of a CPU.
fn counts(local: u64) -> [u64; 3] {
    [Counter::Ticks, Counter::Interrupts, Counter::Sleeps].map(|counter| info::of_cpu(local, counter))
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let header = info::header();
    ensure!(header.cpu_count > 1, "the case needs two CPUs in cluster 0");
    let mine = (0..header.cpu_count).find(|&local| info::cpu(local) == world.cpu).unwrap_or(0);
    // Let the others come up and go to sleep.
    ipc::pause(header.counter_frequency / 10);
    let others = (0..header.cpu_count).filter(|&local| local != mine);
    for local in others.clone() {
        ensure!(counts(local)[2] >= 1, "CPU {local} never went to sleep");
    }
    let mut before = [[0; 3]; 64];
    others.clone().zip(&mut before).for_each(|(local, counts_of)| *counts_of = counts(local));
    let ticks = counts(mine)[0];
    // A tenth of a second of work here.
    let end = sys::counter_time() + header.counter_frequency / 10;
    while sys::counter_time() < end {}
    let ticks = counts(mine)[0] - ticks;
    ensure!(ticks >= 5, "{ticks} ticks where this CPU worked");
    for (local, before) in others.zip(before) {
        let now = counts(local);
        ensure!(now == before, "CPU {local} slept through {before:?}, and woke: {now:?}");
    }
    Ok(())
}
