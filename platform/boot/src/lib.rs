//! The boot loader's computations: from a device tree and an archive to kernels that are ready to run.
//!
//! The loader runs once, on one CPU, with the MMU off. It turns the machine into clusters (`skerry-topology`), gives each
//! its own copy of the kernel in its own memory with its own page tables, and starts the CPUs. Everything that can be
//! wrong with a machine, an archive or a command line is found here, before any kernel runs, and ends as one line.
//!
//! This library is all of it but the instructions: it reaches physical memory through [`Memory`], so that on the host the
//! tests run the shipped code and then walk the page tables it wrote. The program in `main.rs` adds entry code, PSCI,
//! cache maintenance and the trampoline.
//!
//! # What lies where
//! Kernel memory of a cluster, from its start (aligned to 2 MiB) upwards: inbound rings, [`BootInfo`], kernel image,
//! stacks, page tables, and then the heap, which is the kernel's to use. The root pager's image lies elsewhere on the same
//! node, outside of kernel memory and of the pools. What the loader itself occupies (less than 1 MiB at the start of RAM),
//! the device tree and the archive stay out of the pools for good.
//!
//! # How a kernel is entered
//! At the entry point of its image, at EL1 with SP_EL1, all of DAIF masked, on every CPU of the cluster at about the same
//! time: x0 = address of [`BootInfo`] in the `PHYSMAP` window, x1 = CPU number, sp = top of the CPU's kernel stack. MMU
//! and caches are on, with the values in [`registers`]. TTBR1 holds the cluster's tables, which show image, stacks (with
//! guards), the kernel's own memory, everybody's rings, and the devices; nothing else. TTBR0 still holds the identity
//! mapping of the trampoline's page, which the kernel does not need. VBAR_EL1 is not set up.
//!
//! [`BootInfo`]: skerry_abi::boot::BootInfo
#![no_std]
#![forbid(unsafe_code)]

mod archive;
mod error;
mod image;
mod kernel;
mod load;
mod memory;
mod options;
pub mod registers;
pub mod tables;

pub use archive::Archive;
pub use error::{Error, report};
pub use image::{Image, Part};
pub use kernel::{START_WORDS, Start};
pub use load::{Input, Loaded, load};
pub use memory::Memory;
pub use options::{DEFAULT_ROOT, DEFAULT_TICK_NS, Name, Options};
