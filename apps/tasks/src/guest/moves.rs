//! A thread that moves over the nodes, alone: the table is taken over, the master's role goes with it, and nothing is lost.

use core::str::SplitAsciiWhitespace;
use core::sync::atomic::Ordering::Relaxed;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_ipc::pager::{MEASURED, RegionKind};
use skerry_rt::{start, task, utcb};

use super::{Trouble, expect, failed, team};

/// Pages that are written before the first move.
const PAGES: u64 = 32;
const BASE: u64 = 0x20_0000_0000;

/// `lazy` or `eager` says how the pagers take tables over.
pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let lookups = if words.next() == Some("eager") { 0 } else { PAGES };
    let page = |region: u64, page: u64| team::word(BASE + (region << 30) + page * PAGE_SIZE);
    let region = |index: u64| {
        task::region(BASE + (index << 30), 2 * PAGES * PAGE_SIZE, RegionKind::Global, MEASURED)
            .map_err(failed("a region"))
    };
    region(0)?;
    (0..PAGES).for_each(|i| page(0, i).store(i + 1, Relaxed));
    let number = task::number().map_err(failed("the own number"))?;
    let (name, mut index) = (utcb::my_id(), 0);
    let home = start::app().places().next().map_or(0, |(node, _)| node);
    for (node, cpu) in start::app().places().filter(|&(node, _)| node != home) {
        // Its node loses the task's last thread; who asks there for a region now asks another master.
        task::go(number, cpu).map_err(failed("a move"))?;
        expect("the CPU after a move", utcb::cpu().into(), cpu.into())?;
        expect("the name after a move", utcb::my_id().0, name.0)?;
        expect(
            "the number after a move",
            task::number().map_err(failed("the own number"))?.into(),
            number.into(),
        )?;
        let wrong = (0..PAGES).filter(|&i| page(0, i).load(Relaxed) != i + 1).count();
        expect("wrong words after a move", wrong as u64, 0)?;
        let stats = task::pager().stats(node).map_err(failed("counts"))?;
        expect("questions to the master table", stats.lookups, lookups)?;
        expect("fresh frames", stats.allocations, 0)?;
        index += 1;
        region(index)?;
        page(index, 0).store(index, Relaxed);
    }
    // What every node has added is there for the others.
    for region in 1..=index {
        expect("what another node wrote", page(region, 0).load(Relaxed), region)?;
    }
    Ok(())
}
