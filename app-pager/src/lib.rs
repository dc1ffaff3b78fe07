//! The pure logic of the app pager.
//!
//! One app pager per cluster. It owns the frames of its cluster's pools ([`pool`]), knows the tasks and their regions ([`board`]),
//! and runs the machines of [`protocols`] on the words of their pages ([`page`]): what the space has already, else what the task's
//! master table has, else a fresh frame where [`placement`] says. The words change atomically, so pagers of different clusters share the
//! master table without a lock. Towards the protocols a pager is the node of a [`seat`].
//!
//! All memory is reached through [`Memory`]: on the machine, physical memory at its own address; in tests, a vector.
#![no_std]
#![forbid(unsafe_code)]

pub mod batch;
pub mod board;
pub mod history;
pub mod home;
pub mod letter;
pub mod maintain;
pub mod options;
pub mod page;
pub mod placement;
pub mod poison;
pub mod pool;
pub mod release;
pub mod report;
pub mod roll;
pub mod seat;
pub mod space;
pub mod step;

pub use skerry_protocols as protocols;

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
