//! The kernel's ring code over loom's atomics, so that tests explore every execution the C11 memory model allows.
//!
//! The emulator runs on x86, which orders memory more strictly than ARM, so a missing barrier cannot be seen there. No tool that
//! knows the ARM model itself (herd7, dartagnan) can be had from a package registry; the C11 model that loom follows
//! is *weaker* than ARM's where they differ in what is used here (the compiler maps each C11 operation to instructions that give at least
//! its guarantees), apart from loom's own limits: docs/caveats.md lists them.
//!
//! The file is the kernel's own; only the atomics it names through `crate::sync` differ.

/// What `ring.rs` takes its atomics from.
mod sync {
    #[cfg(not(feature = "loom"))]
    pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
    #[cfg(feature = "loom")]
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[cfg_attr(test, allow(dead_code, reason = "its unit tests are not run here"))]
#[path = "../../kernel/src/ring.rs"]
pub mod ring;
