//! The protocols of the app pagers, as pure state machines.
//!
//! Every node has its own kernel, its own spaces and its own pager; the pagers keep the spaces of a task consistent. What they do to
//! that end is here, and only that: no memory is touched and nobody is called. A machine is a value; `step` takes the
//! answer to the last effect and says what to do next, *one* atomic action on a shared word or one message or one system
//! call. The pager performs it on the machine; the model check (`tests`) performs it on an abstract one, in every order, together
//! with what the kernels do at their own time.
//!
//! | machine | run by | does |
//! |---|---|---|
//! | [`fault::Fault`] | pager thread | a page fault |
//! | [`lead::Lead`] | pager thread | unmap, restriction, migration and replication of pages, for all nodes |
//! | [`revoke::Revoke`] | worker, or leader for its own node | the part of it that one node does |
//!//! | [`recovery::Recovery`] | a pager thread | clears up after a pager that died |
//! | [`recovery::Reclaim`] | worker | finds the frames that a dead pager had in hand |
//! | [`task::Move`] | pager thread | a thread that comes, moves or ends, and the task with its last one |
//!
//! Where the master table is not reached by shared memory, [`remote`] puts into messages what a machine wants of it.
//!
//! The words are [`entry::Entry`] (master), a sharer mask ([`nodes`]) beside it, [`local::Local`] per node, and
//! [`record::Record`] per frame. docs/pager-protocols.md has
//! the diagrams and says which rule of the design each step keeps.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod effect;
pub mod entry;
pub mod fault;
pub mod lead;
pub mod local;
pub mod nodes;
pub mod record;
pub mod recovery;
pub mod remote;
pub mod revoke;
mod rules;
pub mod steps;
pub mod task;
#[cfg(test)]
mod tests;
