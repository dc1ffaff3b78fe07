//! The host side of Skerry: builds the guest, boots it in QEMU, and turns what it reports into records.
//!
//! The logic is a library so that the integration tests (`tests/qemu`) make the same calls as the command line
//! does and look at typed results instead of at prose. From the outside in:
//!
//! - [`cli`] says what can be typed; [`commands`] carries it out, [`main_job`] is what happens without a command;
//! - [`machine`], [`system`] and [`app`] describe an [`experiment::Experiment`], and [`fit`] refuses impossible ones
//!   *before* anything boots;
//! - [`bench`] is the kernel's benchmark, which runs without servers and judges itself;
//! - [`trust`] is the benchmark of the measuring instrument itself, [`validation`] compares it with what others measured;
//! - [`session`] holds what all runs share: [`toolchain`] finds a compiler for the guest, [`guest`] drives it, [`image`]
//!   makes what QEMU loads, [`install`] gets what is missing, [`provenance`] says where the numbers come from;
//! - [`qemu`] composes the command line, [`supervisor`] watches the process, [`console`] reads what the guest says,
//!   [`ending`] names how it ended;
//! - [`plugin`] builds the measuring instrument and reads its report, [`coherence`] what it reports as a checker of software coherence, [`masked`]
//!   how long interrupts are off;
//! - [`evaluation`] boots what the figures of the evaluation need (`skerry-evaluation` says what that is);
//! - [`report`] writes the report and compares records;
//! - [`quanta`] compares runs with several quanta;
//! - [`replay`] tries placement policies on traces of misses, without the guest;
//! - [`skeleton`] makes files to begin with;
//! - [`record`] makes JSON records, [`table`] prints them for people.
//!
//! Every failure is an [`error::Error`]: one line for the user and an exit code, never a backtrace.
#![forbid(unsafe_code)]

pub mod app;
pub mod bench;
pub mod cli;
pub mod coherence;
pub mod commands;
pub mod console;
pub mod doctor;
pub mod ending;
pub mod error;
pub mod evaluation;
pub mod experiment;
pub mod fit;
pub mod guest;
pub mod image;
pub mod install;
pub mod interrupt;
pub mod ledger;
pub mod machine;
pub mod main_job;
pub mod masked;
mod parallel;
pub mod plugin;
pub mod process;
pub mod progress;
pub mod provenance;
pub mod qemu;
pub mod quanta;
pub mod record;
pub mod recording;
pub mod replay;
pub mod report;
pub mod session;
pub mod size;
pub mod skeleton;
pub mod supervisor;
pub mod symbols;
pub mod system;
pub mod table;
pub mod toolchain;
pub mod trust;
pub mod tuning;
pub mod validation;
