//! Placement policies on traces of misses, without the emulator.
//!
//! The policies are the ones of the pagers (`app-pager/policy`), an instance on every node; the machine and what memory costs are the cost model's. What is
//! in between is here: a [`trace`] of misses (from the instrument, or [`synthetic`]), the [`engine`] that makes times for it, the [`pagers`] and their
//! [`pages`], and the offline optimum that a policy is compared with ([`optimum`]).
//!
//! | module | what it is |
//! |---|---|
//! | [`trace`], [`format`] | traces, in memory and in files |
//! | [`synthetic`] | traces of programs that separate policies |
//! | [`machine`], [`memory`] | what misses cost |
//! | [`engine`], [`outcome`] | the replay and what comes of it |
//! | [`optimum`] | what somebody who knows the future would do |
//! | [`compare`] | policies × workloads |
#![forbid(unsafe_code)]

pub mod compare;
pub mod engine;
pub mod format;
pub mod machine;
pub mod memory;
pub mod optimum;
pub mod outcome;
mod pagers;
pub mod pages;
pub mod synthetic;
pub mod trace;

/// The code of docs/write-a-policy.md is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/write-a-policy.md")]
pub struct Tutorial;

pub use engine::{Observer, Settings, replay};
pub use machine::Machine;
pub use outcome::{Outcome, gap_closed};
pub use trace::{Event, Item, Miss, Thread, Trace};
