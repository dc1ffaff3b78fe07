//! `root`: the directory of the app pagers and the end of the run, served by the root pager of cluster 0.

use skerry_abi::ThreadId;
use skerry_abi::syscall::exit;

use crate::{Chunk, level};

interface! {
    "root", id 2, level level::Root;
    /// An app pager is ready: faults of threads on `cpu` go to `pager`, requests of other pagers to `worker`.
    1 = Register register(cpu: u16, pager: ThreadId, worker: ThreadId) -> ();
    /// Answered when every CPU of the machine is registered.
    2 = AwaitPagers await_pagers() -> ();
    /// Pager thread and pager worker of a registered CPU.
    3 = Lookup lookup(cpu: u16) -> (ThreadId, ThreadId);
    /// Prints the verdict and ends the run with an exit code; never answered.
    4 = End end(code: u64, reason: Chunk) -> ();
}

/// The word for an exit code in the verdict line.
pub const fn verdict(code: u64) -> &'static str {
    match code {
        exit::PASS => "pass",
        exit::KERNEL_PANIC => "kernel-panic",
        exit::SERVER_FAULT => "server-fault",
        exit::APP_FAULT => "app-fault",
        exit::OUT_OF_MEMORY => "out-of-memory",
        exit::BAD_BOOT => "bad-boot",
        _ => "fail",
    }
}
