//! The IPC interfaces of the system, one file per interface.
//!
//! One [`interface!`](macro@self) declaration generates the client stub, the server trait, the op enum, the dispatch function and
//! a counter per operation, so that the two ends cannot disagree. Decoding never trusts the sender: an unknown or malformed
//! request is answered with [`Error::BadRequest`](skerry_abi::Error::BadRequest) and nothing else happens.
//!
//! Every interface has a *level* ([`level`]). A server that works for one level may only call interfaces of a lower one, which
//! is what keeps the graph of waiting threads free of cycles; the stub of a higher interface does not compile:
//!
//! ```compile_fail
//! use skerry_abi::{Error, ThreadId};
//! use skerry_ipc::{Caller, Message, level, pager};
//! struct Worker;
//! impl Caller for Worker {
//!     type Level = level::Worker;
//!     fn call(&self, _: ThreadId, _: &mut Message) -> Result<(), Error> { Ok(()) }
//! }
//! // A level-0 worker must not wait for a level-1 pager.
//! let _ = pager::Client::new(Worker, ThreadId::NIL).stats(0);
//! ```
//!
//! The other direction is fine:
//!
//! ```
//! # use skerry_abi::{Error, ThreadId};
//! # use skerry_ipc::{Caller, Message, level, peer};
//! struct Pager;
//! impl Caller for Pager {
//!     type Level = level::Pager;
//!     fn call(&self, _: ThreadId, _: &mut Message) -> Result<(), Error> { Err(Error::NodeDown) }
//! }
//! assert_eq!(peer::Client::new(Pager, ThreadId::NIL).stats(16, 0), Err(Error::NodeDown));
//! ```
//!
//! The crate executes nothing itself: `skerry-rt` implements [`Caller`] with the kernel's IPC call, tests with a function call.
#![no_std]
#![forbid(unsafe_code)]

mod history;
#[macro_use]
mod interface;
mod message;
mod wire;

pub mod console;
pub mod level;
pub mod pager;
pub mod peer;
pub mod relay;
pub mod root;
pub mod syscall;

pub use interface::{Answer, Caller, Counters, Outcome, Sender, Unanswered, decode_reply, encode_reply};
pub use message::Message;
pub use wire::{CHUNK_BYTES, Chunk, Reader, Wire, Writer};
