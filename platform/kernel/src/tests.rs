//! The kernel's logic on a plain host: several clusters, a fake machine, real mapping databases.

mod arenas;
mod fastpath;
mod ipc;
mod lifecycle;
mod memory;
mod notify;
mod remote;
mod world;
