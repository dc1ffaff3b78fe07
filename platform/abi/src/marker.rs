//! Markers: instructions that do nothing and tell the measuring instrument (`qemu/plugin`) which phase of a program begins or ends.
//!
//! `movz xzr, #phase, lsl #16` begins a phase and `movz xzr, #phase, lsl #32` ends it. They are allowed at EL0 and have no effect on any
//! CPU, so a program that has them runs the same without the instrument. Phases are numbers; a program says in its
//! documentation what its own mean. What is measured of a phase is the time from the CPU that executes its first marker to the
//! one that executes its last, and what every CPU counted in between.
//!
//! `movz xzr, #request, lsl #48` asks the instrument for something ([`QUERY`]), or tells it what a thread does, for a trace of its misses: [`THREAD`],
//! [`WAITS`], [`BARRIER`], [`LOCK`] and [`UNLOCK`], the last two with a number in x0. Without a recording these do nothing.

/// Writes what is modelled of this CPU into the information page, where the next load sees it ([`crate::modelled`]).
pub const QUERY: u16 = 0;
/// A thread of an application begins. Its space is an application's from now on, with all threads in it.
pub const THREAD: u16 = 1;
/// From here on the thread waits for others: what it executes until [`BARRIER`] or [`LOCK`] is not its own work.
pub const WAITS: u16 = 2;
/// All threads have met.
pub const BARRIER: u16 = 3;
/// The thread has the lock whose number is in x0.
pub const LOCK: u16 = 4;
/// It is about to give it back.
pub const UNLOCK: u16 = 5;

/// Nothing that is measured: the first marker switches the instrument on, with cold caches, so a program that wants them warm begins this early.
pub const WARM_UP: u16 = 0;
/// The part of a program that its numbers are about.
pub const MEASURED: u16 = 1;
/// First number that a program may use for further phases.
pub const OWN: u16 = 16;
