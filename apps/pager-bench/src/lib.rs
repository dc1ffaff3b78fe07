//! What `bench pager` measures: the cases, the most instructions each may take, and what Linux needs for the same.
//!
//! The others are Linux 6.1 in the same emulator, counted with the same method: its own memory management, and userfaultfd
//! with a thread of the program that handles the faults.
#![no_std]
#![forbid(unsafe_code)]

use skerry_bench::Case;
pub use skerry_bench::{SAMPLES, WARM_UP};

/// All cases, in the order in which they are run.
pub const CASES: [Case; 24] = [
    Case::new(
        "fault.first-touch",
        [850, 3264, 11_790],
        "a write to a page of a global region that nobody has touched, on the node of the task's master; the frame is cleared",
    )
    .between("bench_touch", "bench_touched"),
    Case::new(
        "fault.first-touch.ahead16",
        [350, 3264, 11_790],
        "the same where a fault establishes the sixteen pages of 64 KiB, in any frames, per page",
    )
    .between("bench_touch", "bench_touched")
    .per(16),
    Case::new(
        "fault.first-touch.ahead16.block",
        [280, 3264, 11_790],
        "the same with one mapping of 64 KiB, in adjacent frames, per page",
    )
    .between("bench_touch", "bench_touched")
    .per(16),
    Case::new(
        "fault.first-touch.remote-master",
        [900, 3264, 11_790],
        "the same on another node than the master's",
    )
    .between("bench_touch", "bench_touched"),
    Case::new(
        "fault.install",
        [600, 1962, 0],
        "a write to a page of a global region that another node has a frame for already",
    )
    .between("bench_touch", "bench_touched"),
    Case::new(
        "fault.local",
        [750, 3264, 11_790],
        "a write to a page of a region that is each node's own; the frame is cleared",
    )
    .between("bench_touch", "bench_touched"),
    Case::new(
        "thread.migrate.active",
        [3500, 14_640, 0],
        "a thread has another one, which sleeps, moved to a node where their task has a thread: from the call to its return, on both nodes",
    )
    .between("bench_move_begins", "bench_move_ends"),
    Case::new(
        "thread.migrate.new",
        [5500, 14_640, 0],
        "the same to a node where their task has nothing: a space is made, and the master table is taken over later, when threads fault there",
    )
    .between("bench_move_begins", "bench_move_ends"),
    Case::new(
        "unmap.global.n1",
        [600, 10_480, 0],
        "a program has a page of a global region taken away that only its own node maps, from its call to the return",
    )
    .between("bench_unmap", "bench_unmapped"),
    Case::new("unmap.global.n2", [1700, 10_480, 0], "the same with a page that two nodes map")
        .between("bench_unmap", "bench_unmapped"),
    Case::new("unmap.global.n4", [0, 0, 0], "the same with four nodes")
        .between("bench_unmap", "bench_unmapped"),
    Case::new("unmap.global.n8", [0, 0, 0], "the same with eight nodes"),
    Case::new(
        "unmap.global.growth",
        [1000, 0, 0],
        "what each further sharer takes: of four (even samples) and of eight nodes (odd ones), less the median of two",
    ),
    Case::new(
        "page.migrate",
        [3500, 16_176, 0],
        "a page that two nodes map is moved from one to the other, copy included: from the call to its return; installing it again is not counted",
    )
    .between("bench_batch_begins", "bench_batch_ends"),
    Case::new("page.migrate.batch64", [1400, 6819, 0], "the same with 64 pages in one call, per page")
        .between("bench_batch_begins", "bench_batch_ends")
        .per(64),
    Case::new("unmap.global.batch63", [300, 4080, 0], "63 pages in one call, two nodes, per page")
        .between("bench_batch_begins", "bench_batch_ends")
        .per(63),
    Case::new("unmap.global.n2.sequential", [0, 10_480, 0], "unmap.global.n2 with the thesis' first protocol")
        .booted("unmap=sequential"),
    Case::new("unmap.global.n8.sequential", [0, 0, 0], "the same with eight nodes: one after the other")
        .booted("unmap=sequential"),
    Case::new(
        "fault.first-touch.remote-master.ipc",
        [0, 3264, 11_790],
        "fault.first-touch.remote-master with the master table by messages",
    )
    .booted("table=ipc"),
    Case::new("fault.install.ipc", [0, 1962, 0], "fault.install on another node than the master's, by messages")
        .booted("table=ipc"),
    Case::new("fault.install.remote-master", [600, 1962, 0], "the same with shared memory"),
    Case::new(
        "unmap.global.n2.ipc",
        [0, 10_480, 0],
        "unmap.global.n2 by a thread on another node than the master's, by messages",
    )
    .booted("table=ipc"),
    Case::new("unmap.global.n2.root", [0, 10_480, 0], "unmap.global.n2 through the root pager").booted("unmap=root"),
    Case::new("unmap.global.n8.root", [0, 0, 0], "the same with eight nodes: the root pager tells all")
        .booted("unmap=root"),
];

/// The case with this name.
pub fn find(name: &str) -> Option<&'static Case> {
    skerry_bench::find(&CASES, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_bars_below_the_competition() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.name != case.name), "{}", case.name);
            assert_eq!(find(case.name), Some(case));
            assert!(case.others.into_iter().flatten().all(|other| case.bar < Some(other)), "{}", case.name);
        }
    }
}
