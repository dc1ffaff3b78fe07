//! The pure logic of the app pager.
//!
//! One app pager per cluster. It owns the frames of its cluster's pools ([`pool`]), knows the tasks and their regions ([`board`]),
//! and answers page faults by [`establish`]: what the space has already, else what the task's master table has, else a
//! fresh frame where [`placement`] says. Both tables consist of 64-bit words that change by compare-and-swap ([`entry`]), so
//! pagers of different clusters share the master table without a lock.
//!
//! All memory is reached through [`Memory`]: on the machine, physical memory at its own address; in tests, a vector.
#![no_std]
#![forbid(unsafe_code)]

pub mod board;
pub mod establish;
pub mod options;
pub mod placement;
pub mod pool;
pub mod report;
pub mod space;

pub use skerry_protocols::entry;

use core::sync::atomic::AtomicU64;

/// Physical memory, shared with the pagers of other clusters.
pub trait Memory {
    /// `count` words at a frame or inside one, which somebody allocated for this purpose.
    fn words(&self, address: u64, count: usize) -> &[AtomicU64];
    /// Clears `bytes` bytes.
    fn clear(&self, address: u64, bytes: u64);
    /// Copies bytes between different frames.
    fn copy(&self, to: u64, from: u64, bytes: u64);
}
