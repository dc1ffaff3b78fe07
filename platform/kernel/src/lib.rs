//! The microkernel's logic: threads, spaces, scheduling and IPC of one cluster, without a line of assembly.
//!
//! A Skerry machine runs one instance of this kernel per *cluster* of CPUs (by default one per NUMA node), each
//! from its own copy of the image and with its own memory; instances share nothing but message rings.
//! The kernel is event-driven: one stack per CPU, nothing blocks inside it, and all a thread leaves behind when it
//! waits is its [`thread::Tcb`]. Every entry takes the cluster lock, runs one of the functions below on
//! [`kernel::Kernel`], and leaves to the thread that [`kernel::Kernel::pick`] names.
//!
//! What touches hardware is behind [`hal::Hal`], so all of this runs in `cargo test` on a plain host; the
//! implementation for the machine is in `main.rs` and `arch/`, the only home of assembly and `unsafe`.
//!
//! Neighbours: `skerry-abi` (the contract), `skerry-mapping-db` (page tables and mapping trees).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod audit;
pub mod birth;
pub mod boot;
mod chores;
mod control;
pub mod counters;
pub mod deadline;
pub mod fastpath;
pub mod guests;
pub mod hal;
pub mod interrupt;
pub mod ipc;
pub mod items;
pub mod kernel;
pub mod lifecycle;
mod long;
mod migrate;
pub mod notify;
pub mod queue;
pub mod remote;
pub mod ring;
pub mod runqueue;
pub mod sched;
pub mod shootdown;
pub mod space;
pub mod syscall;
pub mod thread;
pub mod trace;
pub mod unmap;
mod whereabouts;

/// The atomics of what kernels share; the memory-order tests (`platform/litmus`) put others in their place.
mod sync {
    pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
}

#[cfg(test)]
mod tests;
