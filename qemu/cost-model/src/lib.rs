//! What memory accesses cost on a NUMA machine.
//!
//! The emulator executes every instruction in the same time and has neither caches nor distances. This crate is the
//! machine that it lacks: told of every access with its physical address, it says where the line was, what moved, and how long the
//! CPU waited. It is pure (no I/O, no clock, no threads of its own), so the code that measures is the code that is tested
//! against a naive simulator (`tests/`).
//!
//! Two halves, so that many host threads can drive it with one lock that the common case never takes:
//!
//! - a [`Core`] belongs to one CPU: its clock, TLB, stream table, counters, and a [`filter`] of lines that it may
//!   use without asking anybody;
//! - the [`Machine`] is everybody's: the [`cache`]s, the [`directory`] that keeps them coherent, and the memory
//!   controllers and links with their [`bandwidth`]. It takes a line from a CPU by changing the arrays here and bumping that CPU's
//!   generation, which empties its filter; it never writes into another CPU's `Core`.
//!
//! [`params`] says what everything costs and where the defaults come from; `docs/performance-method.md` says what is not modelled.
#![forbid(unsafe_code)]

pub mod bandwidth;
pub mod cache;
pub mod config;
pub mod core;
pub mod counters;
pub mod directory;
pub mod eviction;
pub mod filter;
pub mod inspect;
pub mod interrupts;
pub mod latency;
pub mod machine;
pub mod maintenance;
pub mod params;
pub mod poc;
pub mod shared;
pub mod streams;
pub mod time;
pub mod tlb;
pub mod topology;
pub mod walk;

pub use crate::core::{Core, CoreModel};
pub use config::{Config, Path};
pub use counters::Counters;
pub use machine::{Access, Machine};
pub use params::Params;
pub use shared::Shared;
pub use time::{CYCLE, Time};
pub use topology::Topology;

/// Bytes of a cache line.
pub const LINE: u64 = 64;
/// log2 of [`LINE`].
pub const LINE_BITS: u32 = 6;
/// Lines of a 4 KiB page.
pub const LINES_PER_PAGE: usize = 64;
