//! The user run-time library: what every program above the kernel is linked with.
//!
//! Entry and panic hook ([`entry!`]), the system-call stubs ([`sys`]) and IPC on top of them ([`ipc`]), printing in whole
//! lines ([`println!`]), the kernel's counters ([`info`]), measurement records ([`record`]), phases for the instrument (`marker`), spinning that lets others run ([`spin`]), what the program was
//! started with ([`start`]), the layout of program images ([`image`]) and a heap for those who want one ([`heap`]).
//!
//! `unsafe` lives in the modules `sys`, `utcb`, `info`, `marker`, `memory`, `trace`, `uart`, `entry`, `start`, `spin` and `heap` only. On a host the crate holds just the
//! parts that need no kernel, so that the logic of servers and applications can be tested there.
#![no_std]

pub use skerry_abi as abi;
pub use skerry_ipc as interfaces;
pub use skerry_ipc::{Chunk, Message};

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod history;
pub mod image;
#[cfg(target_os = "none")]
pub mod info;
#[cfg(target_os = "none")]
pub mod ipc;
#[cfg(target_os = "none")]
pub mod marker;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod record;
pub mod spin;
pub mod start;
#[cfg(target_os = "none")]
pub mod sys;
#[cfg(target_os = "none")]
pub mod task;
#[cfg(target_os = "none")]
pub mod trace;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub mod utcb;
