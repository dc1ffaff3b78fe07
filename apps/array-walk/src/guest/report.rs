//! The records of a run.

use array_walk::{BASE, Options};
use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::modelled::Modelled;
use skerry_ipc::Chunk;
use skerry_ipc::pager::Stats;
use skerry_rt::record::{Kind, emit as record};
use skerry_rt::{println, start, task};

use super::{Place, walk};

const BENCH: &str = "array-walk";

fn text(chunk: &Chunk) -> &str {
    core::str::from_utf8(chunk.as_bytes()).unwrap_or("")
}

/// What the walk cost; called before the check, which touches pages again.
pub(super) fn emit(options: &Options, places: &[Place]) -> Result<(), Error> {
    let threads = places.len() as u64;
    let parameters = [("threads", threads), ("bytes", options.size), ("stride", options.stride())];
    let exact = |case: &str, metric: &str, value: u64, unit: &str| {
        record((BENCH, case, metric), value, unit, Kind::Exact, &parameters);
    };
    exact("array-walk.instructions", "instructions", walk::instructions(), "instructions");

    let pager = task::pager();
    let nodes = start::app().node_count as u16;
    let mut sum = Stats::default();
    for node in 0..nodes {
        sum.add(pager.stats(node)?);
    }
    exact("array-walk.faults", "faults", sum.faults, "faults");
    exact("array-walk.spurious", "spurious", sum.spurious, "faults");
    exact("array-walk.lookups", "lookups", sum.lookups, "lookups");
    exact("array-walk.takeovers", "takeovers", sum.takeovers, "mappings");
    exact("array-walk.allocations", "allocations", sum.allocations, "frames");
    for node in 0..nodes {
        let frames = pager.frames_by_node(BASE, options.total(threads) / PAGE_SIZE, node)?;
        exact("array-walk.frames", text(&Chunk::format(format_args!("frames.node{node}"))), frames, "frames");
    }
    for (thread, place) in (0u64..).zip(places) {
        let pages = options.size / PAGE_SIZE;
        let local = pager.frames_by_node(options.start(thread), pages, place.node)?;
        let metric = Chunk::format(format_args!("local-share.thread{thread}"));
        let share = local as f64 / pages as f64;
        record(
            (BENCH, "array-walk.local-share", text(&metric)),
            format_args!("{share:.4}"),
            "ratio",
            Kind::Exact,
            &parameters,
        );
    }
    modelled(places.len(), &parameters);
    Ok(())
}

/// What the instrument told the threads about their walks.
fn modelled(threads: usize, parameters: &[(&str, u64)]) {
    if walk::modelled(0, Modelled::Cycles) == 0 {
        println!(
            "array-walk: modelled time is not available: no instrument watches (`run array-walk --model CORE`)"
        );
        return;
    }
    for thread in 0..threads {
        for what in [
            Modelled::Cycles,
            Modelled::DramLocal,
            Modelled::DramRemote,
            Modelled::LlcMisses,
            Modelled::TlbMisses,
            Modelled::WalkCycles,
        ] {
            let is_time = matches!(what, Modelled::Cycles | Modelled::WalkCycles);
            let metric = Chunk::format(format_args!("{}.thread{thread}", what.name()));
            let unit = if is_time { "cycles" } else { "events" };
            let of = (BENCH, "array-walk.modelled", text(&metric));
            record(of, walk::modelled(thread, what), unit, Kind::Modelled, parameters);
        }
    }
}

/// Whether all words were what they had to be.
pub(super) fn checksum(right: bool) {
    record((BENCH, "array-walk.checksum", "checksum"), u64::from(right), "right", Kind::Exact, &[]);
}
