//! Threads that all begin on one CPU and work: the load balancer spreads them over the nodes, or nobody does. (Where a thread is inside of its
//! node it is not told.)

use core::str::SplitAsciiWhitespace;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use skerry_abi::syscall::exit;
use skerry_ipc::pager::ThreadEnd;
use skerry_rt::record::{Kind, emit};
use skerry_rt::{ipc, start, task, utcb};

use super::{Trouble, expect, failed, team};

/// Threads at most.
const MAX: usize = 32;
/// Between two looks: a millisecond; and how many looks.
const PAUSE_TICKS: u64 = 62_500;
const PATIENCE: u64 = 60;
/// So many at least.
const LOOKS: u64 = 12;

/// Where each thread was last, plus one.
static CPUS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static STOP: AtomicBool = AtomicBool::new(false);

/// Thread: works until it is told to stop.
extern "C" fn work(index: u64) -> ! {
    // The compiler may take it that a thread stays where it is.
    let cpu: fn() -> skerry_abi::CpuId = core::hint::black_box(utcb::cpu);
    while !STOP.load(Relaxed) {
        CPUS[index as usize % MAX].store(u64::from(cpu()) + 1, Relaxed);
        core::hint::spin_loop();
    }
    task::exit(exit::PASS)
}

/// Nodes that have a thread, and threads that have begun.
fn seen(threads: usize) -> (u32, usize) {
    let all = || CPUS[..threads].iter().map(|cpu| cpu.load(Relaxed)).filter(|&cpu| cpu != 0);
    let node = |cpu: u64| start::app().cpus().get(cpu as usize - 1).map_or(0, |cpu| cpu.node);
    (all().fold(0u64, |set, cpu| set | 1 << node(cpu)).count_ones(), all().count())
}

/// `on` or `off` says whether the balancer runs.
pub(super) fn run(mut words: SplitAsciiWhitespace<'_>) -> Result<(), Trouble> {
    let balanced = words.next() == Some("on");
    let count = start::app().cpus().len().min(MAX);
    let mut numbers = [0; MAX];
    for (index, number) in (0u64..).zip(&mut numbers[..count]) {
        *number = team::spawn(index, utcb::cpu(), work, index)?;
    }
    let nodes = start::app().places().count() as u32;
    let mut looks = 0;
    while looks < LOOKS || balanced && looks < PATIENCE && seen(count).0 < nodes {
        ipc::pause(PAUSE_TICKS);
        looks += 1;
    }
    let (reached, begun) = seen(count);
    STOP.store(true, Relaxed);
    expect("threads that have begun", begun as u64, count as u64)?;
    expect("nodes with a thread", reached.into(), if balanced { nodes.into() } else { 1 })?;
    for &number in &numbers[..count] {
        let end = task::join(number).map_err(failed("a join"))?;
        expect("a thread's end", u64::from(end == ThreadEnd::Exited(exit::PASS)), 1)?;
    }
    emit(("tasks", "tasks.spread", "milliseconds"), looks, "ms", Kind::Exact, &[("threads", count as u64)]);
    Ok(())
}
