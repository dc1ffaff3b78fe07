//! What `bench kernel` measures: the cases, the most instructions each may take, and what others need for the same.
//!
//! The program and the launcher share this table, so that a case is named, measured, judged and explained in one place. The
//! program measures (`main.rs`), the launcher judges and prints.
//!
//! The others are seL4 16 (uniprocessor, fast path on), measured in the same emulator with the same method, and
//! hand-written assembly sketches with the checks of our kernel in them: what a perfect compiler could reach.
#![no_std]
#![forbid(unsafe_code)]

pub use skerry_bench::{Case, SAMPLES, WARM_UP};

const fn case(name: &'static str, bars: [u64; 3], what: &'static str) -> Case {
    Case::new(name, bars, what)
}

/// All cases, in the order in which they are run.
pub const CASES: [Case; 24] = [
    case("syscall.null", [30, 0, 14], "the system call that does nothing")
        .between("bench_null_call", "bench_null_back"),
    case(
        "ipc.roundtrip",
        [250, 414, 189],
        "call to the own pager in another space on the same CPU, and its reply-and-wait; 8 MRs each way",
    )
    .between("bench_client_call", "bench_client_back"),
    case("ipc.roundtrip.mr60", [450, 1897, 0], "the same with 60 MRs each way")
        .between("bench_client_call", "bench_client_back"),
    case(
        "ipc.roundtrip.partner",
        [0, 0, 0],
        "the same with 8 MRs, to a granted partner instead of the own pager",
    )
    .between("bench_client_call", "bench_client_back"),
    case("ipc.roundtrip.same-space", [0, 0, 0], "call and reply-and-wait inside of one space, 8 MRs"),
    case(
        "ipc.roundtrip.cross-cluster",
        [900, 2868, 0],
        "call and reply-and-wait between CPUs of two clusters, 8 MRs; both CPUs summed",
    )
    .between("bench_client_call", "bench_client_back"),
    case(
        "notify.roundtrip",
        [0, 0, 0],
        "notify a more urgent thread of another space, which takes it and waits again",
    )
    .between("bench_notify_call", "bench_notify_back"),
    case(
        "fault.roundtrip",
        [450, 984, 0],
        "a write faults, a pager in another space answers with a ready 4 KiB frame, the write is done",
    )
    .between("bench_faulter_write", "bench_faulter_back"),
    case(
        "fault.roundtrip.from-block",
        [0, 0, 0],
        "the same, the frame being a piece of the pager's 2 MiB mapping",
    ),
    case(
        "fault.roundtrip.64k",
        [0, 0, 0],
        "the same, and the pager answers with 64 KiB of its 2 MiB mapping, which become one mapping",
    )
    .between("bench_faulter_write", "bench_faulter_back"),
    case("map.64k", [0, 0, 0], "call another space with an item of 64 KiB, which answers with nothing")
        .between("bench_giver_call", "bench_giver_back"),
    case(
        "unmap.page",
        [190, 488, 98],
        "unmap one 4 KiB page that one other space maps, has used, and ran on this CPU",
    )
    .between("bench_unmap_call", "bench_unmap_back"),
    case("unmap.page.17", [0, 0, 0], "unmap one 4 KiB page that 17 other spaces map")
        .between("bench_unmap_call", "bench_unmap_back"),
    case(
        "unmap.page.growth",
        [60, 378, 35],
        "what each further mapping adds: (unmap.page.17 - unmap.page) / 16",
    ),
    case(
        "unmap.64k",
        [0, 0, 0],
        "unmap 64 KiB that one other space maps as one mapping, has written, and ran on this CPU",
    )
    .between("bench_unmap_call", "bench_unmap_back"),
    case("unmap.64k.pages", [0, 0, 0], "the same, mapped there as sixteen pages"),
    case("unmap.nothing", [0, 0, 0], "unmap one 4 KiB page that nobody else maps"),
    case(
        "thread.create-start",
        [900, 3893, 0],
        "create and start a thread in an existing space, to its first instruction",
    )
    .between("bench_create_call", "bench_newborn"),
    case(
        "thread.create-start.new-utcb-page",
        [0, 0, 0],
        "the same where the thread is the first in its page of UTCBs",
    )
    .between("bench_create_call", "bench_newborn"),
    case(
        "thread.migrate.cluster",
        [1800, 0, 0],
        "move a thread with floating-point state to another cluster, to its first instruction there; both CPUs summed",
    )
    .between("bench_migrate_call", "bench_migrant_first"),
    case(
        "thread.migrate.cluster.new-utcb-page",
        [0, 0, 0],
        "the same where the thread is the first in its page of UTCBs there",
    ),
    case("page.copy", [0, 0, 642], "copy 4 KiB in user mode (ldp/stp)"),
    case("page.zero", [0, 0, 146], "clear 4 KiB in user mode (dc zva)"),
    // Behind all that need no boot of their own.
    case(
        "ipc.roundtrip.cross-cluster.maintained",
        [0, 0, 0],
        "the same as ipc.roundtrip.cross-cluster, with rings in memory that is not coherent (rings=maintained)",
    )
    .booted("rings=maintained"),
];

/// What `bench smp` measures, in a cluster of four CPUs: the same paths under the cluster's lock, and between its CPUs. The others' numbers are those
/// of seL4 with several cores.
pub const SHARED_CASES: [Case; 9] = [
    case(
        "ipc.roundtrip.smp",
        [0, 547, 0],
        "call to the own pager in another space on the same CPU, and its reply-and-wait; 8 MRs each way",
    )
    .between("bench_client_call", "bench_client_back"),
    case("ipc.roundtrip.mr60.smp", [0, 2250, 0], "the same with 60 MRs each way")
        .between("bench_client_call", "bench_client_back"),
    case(
        "ipc.roundtrip.cross-cpu",
        [0, 2868, 0],
        "call and reply-and-wait between two CPUs of the cluster, 8 MRs; both CPUs summed",
    )
    .between("bench_client_call", "bench_client_back"),
    case(
        "fault.roundtrip.smp",
        [0, 0, 0],
        "a write faults, a pager in another space answers with a ready 4 KiB frame, the write is done",
    )
    .between("bench_faulter_write", "bench_faulter_back"),
    case(
        "unmap.page.smp",
        [0, 0, 0],
        "unmap one 4 KiB page that one other space maps, has used, and ran on this CPU only",
    )
    .between("bench_unmap_call", "bench_unmap_back"),
    case(
        "unmap.page.smp.cpus-2",
        [0, 999, 0],
        "the same where a thread of that space runs on another CPU; both CPUs summed",
    )
    .between("bench_unmap_call", "bench_unmap_back"),
    case(
        "unmap.page.smp.cpus-4",
        [0, 1614, 0],
        "the same where threads of that space run on three other CPUs; all CPUs summed",
    )
    .between("bench_unmap_call", "bench_unmap_back"),
    case(
        "thread.create-start.smp",
        [0, 0, 0],
        "create and start a thread in an existing space on the same CPU, to its first instruction",
    )
    .between("bench_create_call", "bench_newborn"),
    case("syscall.null.smp", [0, 0, 0], "the system call that does nothing")
        .between("bench_null_call", "bench_null_back"),
];

/// The case with this name, of either benchmark.
pub fn find(name: &str) -> Option<&'static Case> {
    skerry_bench::find(&CASES, name).or_else(|| skerry_bench::find(&SHARED_CASES, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for case in CASES.iter().chain(&SHARED_CASES) {
            let same = CASES.iter().chain(&SHARED_CASES).filter(|other| other.name == case.name);
            assert_eq!(same.count(), 1, "{}", case.name);
            assert_eq!(find(case.name), Some(case));
        }
    }

    #[test]
    fn every_bar_is_below_the_competition() {
        for case in CASES {
            if let (Some(bar), Some(sel4)) = (case.bar, case.others[0]) {
                assert!(bar < sel4, "{}", case.name);
            }
        }
    }
}
