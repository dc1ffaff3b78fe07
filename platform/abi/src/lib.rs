//! The contract between the kernel and everything above it.
//!
//! One crate says what a thread id, a message tag, an fpage, a fault message or an error code *is*; the
//! kernel, the boot loader, the run-time library and the servers all use these definitions and none
//! of them repeats a constant. Nothing here executes anything: the system-call stubs are in `skerry-rt`,
//! the kernel's side in `skerry-kernel`.
//!
//! ```
//! use skerry_abi::{Fpage, Rights, Tag};
//! let page = Fpage::new(0x4020_0000, 12, Rights::RW).unwrap();
//! assert_eq!((page.base(), page.size()), (0x4020_0000, 4096));
//! let tag = Tag::new(7, 2, 0);
//! assert_eq!((tag.label(), tag.untyped(), tag.typed()), (7, 2, 0));
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod fpage;
pub mod id;
pub mod info;
pub mod item;
pub mod layout;
pub mod marker;
pub mod message;
pub mod modelled;
pub mod syscall;

pub use error::Error;
pub use fpage::{Fpage, Rights};
pub use id::{CpuId, Domain, SpaceId, ThreadId};
pub use info::Counter;
pub use item::Item;
pub use message::{MapItem, Tag, Timeout};
