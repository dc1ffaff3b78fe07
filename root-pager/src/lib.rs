//! The pure logic of the root pager.
//!
//! The root pager of a cluster owns all memory at boot. It takes a little of its own pool for the servers ([`layout`]), starts
//! them, answers the page faults by which they take over what is theirs ([`resolve`]), and then is idle, except on
//! cluster 0, where it keeps the console ([`line`]) the directory of pagers ([`directory`]), and the steps by which the
//! others clear up after a pager that died ([`recovery`]).
#![no_std]
#![forbid(unsafe_code)]

pub mod directory;
pub mod layout;
pub mod line;
pub mod recovery;
pub mod resolve;
pub mod strike;
