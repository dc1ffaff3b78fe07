//! The kernel's logic on a plain host: several clusters, a fake machine, real mapping databases.

mod arenas;
mod arrival;
mod audit;
mod birth;
mod cancel;
mod catch_up;
mod checks;
mod control;
mod crossings;
mod fairness;
mod fast_remote;
mod fastpath;
mod held;
mod in_transit;
mod interrupt;
mod invariants;
mod ipc;
mod items;
mod lifecycle;
mod long;
mod maintained;
mod memory;
mod migrate;
mod model;
mod notify;
mod passing;
mod pump;
mod remote;
mod room;
mod scarcity;
mod scene;
mod shares;
mod shootdown;
mod slices;
mod store;
mod upheaval;
mod watches;
mod wishes;
mod world;

#[cfg(test)]
pub(crate) use maintained::omitted;
