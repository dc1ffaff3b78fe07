//! The exhaustive model check of the protocols.

mod client;
mod death;
mod explore;
mod facts;
mod invariants;
mod planted;
mod scenario;
mod scenarios;
mod task;
mod world;
