//! What the system-call server allows, and what it made.
//!
//! The server wraps the privileged kernel calls for the app pager of its cluster. It trusts its clients no further than
//! [`permissions`] says: a pager can make and end spaces of tasks and threads in them, and nothing else.
#![no_std]
#![forbid(unsafe_code)]

pub mod ledger;
pub mod permissions;

pub use ledger::Ledger;
pub use permissions::may_call;
