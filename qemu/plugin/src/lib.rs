//! The measuring instrument: a TCG plugin that sees every access of the guest and charges it to the cost model.
//!
//! From the outside in:
//!
//! - [`ffi`] is QEMU's side: its functions, found by name at load time, and the callbacks. The only `unsafe`, and no logic;
//! - [`instrument`] is what happens at each callback, over a trait that a test can stand in for QEMU with;
//! - [`vcpu`] is the state of one CPU: translation, what maintenance instructions work on, which loads depend on earlier ones;
//! - [`decode`] and [`block`] look at instructions when QEMU translates them, so that running them costs little;
//! - [`coherence`] is the other thing the instrument can be: a checker of memory that software keeps coherent;
//! - [`masked`] is a third: how long each CPU keeps interrupts off;
//! - [`steps`] is a fourth: which instructions a path consists of;
//! - [`watch`] follows who runs, for recordings: [`recorder`] keeps misses of applications' threads, [`places`] lines by page;
//! - [`modelled`] is what a running program is told when it asks;
//! - [`phases`] divides a run by marker instructions; a [`Config`](skerry_cost_model::Config) is what it is told, a [`report`] what it tells.
//!
//! The guest is not changed for it and tells it nothing but phases: registers that it writes to (TTBR, TLBI, DC, SGI) are decoded, and
//! the operands read when QEMU has them in memory. See `docs/adr` for why.

pub mod block;
pub mod coherence;
pub mod decode;
pub mod ffi;
pub mod host;
pub mod instrument;
pub mod masked;
pub mod modelled;
pub mod phases;
pub mod places;
pub mod recorder;
pub mod report;
pub mod steps;
pub mod vcpu;
pub mod watch;
