//! Placement policies: where pages live, when they move, and when they are copied.
//!
//! A policy is one file that implements [`Policy`]. It is asked where a fresh page goes, is told of faults, samples and ticks, and answers with
//! [`Order`]s. It knows the [`World`] and, of a page, a small record of its own; it has no way to touch memory or to
//! call anybody. So the same code runs in the pagers and, on a host, on recorded misses.
//!
//! **Distributed.** Every pager has an instance of its own, which sees what happens on its node. The owner of a page, the pager of the node with
//! its frame, decides about it; what others know of the page they report to the owner, in batches that are paid for ([`Order::Report`]).
//!
//! **Contained.** Mechanism uses policies through [`Contained`] only, which checks every decision. A page can be in a bad place, but never lost, in two
//! places, or where there is no memory (`tests/properties.rs`).
//!
//! | module | what it is |
//! |---|---|
//! | [`policy`] | the trait |
//! | [`event`], [`world`] | what a policy is told |
//! | [`order`] | what it decides |
//! | [`guard`] | what contains it |
//! | [`shipped`] | the policies, one file each |
//! | [`sampler`] | access flags turned into cycles, for policies that want to know who uses what |
//! | [`options`], [`nodes`] | names with options; sets of nodes |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod event;
pub mod guard;
pub mod nodes;
pub mod options;
pub mod order;
pub mod policy;
pub mod sampler;
pub mod shipped;
pub mod world;

pub use event::{Access, Advice, Fault, Page, Range, Reason, Sample, SampleKind};
pub use guard::{Contained, Homes, Mistake, NoFrame};
pub use nodes::{Node, NodeSet};
pub use options::{Spec, SpecError};
pub use order::{Cause, Order, Orders};
pub use policy::Policy;
pub use shipped::{Visitor, with};
pub use world::{Costs, Feedback, NodeInfo, World};
