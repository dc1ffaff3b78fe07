//! 64-bit ARM (ARMv8.2-A, EL1): the only home of assembly and, with the heap carver, of `unsafe` in the kernel.
//!
//! | file | what |
//! |---|---|
//! | [`start`] | from the boot loader to the first thread |
//! | [`entry`] | exception vectors: save, call, restore |
//! | [`ipc_fast`], [`fastpath`] | the short way through IPC: assembly for one CPU, Rust for several |
//! | [`dispatch`] | decode the exception, run the kernel under the cluster lock, leave to a thread or sleep |
//! | [`percpu`] | what hangs off TPIDR_EL1 |
//! | [`lock`] | the cluster lock |
//! | [`machine`] | the kernel's [`skerry_kernel::hal::Hal`]: TLB, barriers, doorbells, the end |
//! | [`measure`] | how long interrupts are off and the lock is held |
//! | [`shootdown`] | TLB invalidation in other CPUs, by interrupt |
//! | [`gic`], [`timer`], [`fp`], [`registers`] | interrupt controller, tick, lazy floating point, system registers |
//! | [`cache`] | maintenance of ring memory that is not coherent |
//! | [`words`], [`mem`] | copying between UTCBs; `memset` and `memcpy` |
//! | [`heap`] | arenas out of the cluster's memory |
//! | [`console`] | the last words of a panicking kernel |

mod cache;
mod console;
mod dispatch;
mod entry;
mod fastpath;
mod fp;
mod gic;
mod heap;
mod ipc_fast;
mod lock;
mod machine;
mod measure;
mod mem;
mod percpu;
mod registers;
mod shootdown;
mod start;
mod timer;
mod words;
